"""Why a command could not be carried out: what, why and the way on, with the exit code that says which kind."""

from typing import Any

DONE = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
NOT_PERMITTED = 4
NOT_FOUND = 5
REFUSED = 6
DAMAGED = 7
TAMPERED = 9
INTERRUPTED = 130

_EXIT_BY_STATUS = {400: USAGE, 403: NOT_PERMITTED, 404: NOT_FOUND, 409: REFUSED, 413: USAGE, 422: USAGE, 503: REFUSED}


class CommandError(Exception):
    """``what`` happened, ``why`` it matters or came about, and a ``hint``: the command that helps."""

    def __init__(self, what: str, why: str = "", hint: str = "", *, code: str, exit_code: int) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint
        self.code = code
        self.exit_code = exit_code

    def as_document(self) -> dict[str, Any]:
        """The same as a problem document, with the fields of REST."""
        return {"title": self.what, "detail": self.why or self.what, "code": self.code, "hint": self.hint}


class UsageError(CommandError):
    """The command line cannot be understood, or a value in it is impossible."""

    def __init__(self, what: str, why: str = "", hint: str = "", *, code: str = "usage") -> None:
        super().__init__(what, why, hint, code=code, exit_code=USAGE)


class Unreachable(CommandError):
    """No daemon answers."""

    def __init__(self, what: str, why: str = "", hint: str = "") -> None:
        super().__init__(what, why, hint, code="unreachable", exit_code=UNREACHABLE)


class ConnectionLost(Unreachable):
    """The daemon went away in the middle of an answer."""


class Refused(CommandError):
    """Not possible as things are."""

    def __init__(self, what: str, why: str = "", hint: str = "", *, code: str = "refused") -> None:
        super().__init__(what, why, hint, code=code, exit_code=REFUSED)


class NoSuchFile(CommandError):
    """A path on the command line leads nowhere."""

    def __init__(self, what: str, why: str = "", hint: str = "") -> None:
        super().__init__(what, why, hint, code="file_not_found", exit_code=NOT_FOUND)


class ServerRefused(CommandError):
    """The daemon refused; carries its problem document."""

    def __init__(self, problem: dict[str, Any], status: int) -> None:
        code = str(problem.get("code") or "error")
        super().__init__(
            str(problem.get("title") or f"The daemon answered {status}"),
            str(problem.get("detail") or ""),
            str(problem.get("hint") or ""),
            code=code,
            exit_code=exit_code_of(code, status),
        )
        self.status = status
        self.problem = problem

    def as_document(self) -> dict[str, Any]:
        return {**super().as_document(), **self.problem}


def exit_code_of(code: str, status: int) -> int:
    """The exit code of a server error: by its code where this version knows it, else by its HTTP status."""
    from btmd.errors import all_errors

    known = all_errors().get(code)
    return known.exit_code if known is not None else _EXIT_BY_STATUS.get(status, FAILED)
