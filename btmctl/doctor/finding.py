"""One line of the doctor's answer."""

import re
from typing import Any, NamedTuple

from btmctl.errors import DAMAGED, DONE, REFUSED, TAMPERED

OK, ATTENTION, BROKEN = "ok", "attention", "broken"
_SEVEREST_FIRST = (TAMPERED, DAMAGED, REFUSED, DONE)
_COMMAND = re.compile(r"`([^`]+)`")


class Finding(NamedTuple):
    """What was looked at, how it is, and where it is not well: why that matters, and the command that helps."""

    about: str
    state: str
    what: str
    why: str = ""
    remedy: str = ""
    exit_code: int = DONE

    def as_document(self) -> dict[str, Any]:
        found = self._asdict()
        del found["exit_code"]
        return found


def ok(about: str, what: str) -> Finding:
    """All is well."""
    return Finding(about, OK, what)


def attention(about: str, what: str, why: str, remedy: str) -> Finding:
    """It works, and somebody should do something about it some time."""
    return Finding(about, ATTENTION, what, why, remedy)


def broken(about: str, what: str, why: str, remedy: str, *, exit_code: int = REFUSED) -> Finding:
    """It does not work, or not safely."""
    return Finding(about, BROKEN, what, why, remedy, exit_code)


def worst(findings: list[Finding]) -> str:
    """The state of the whole."""
    states = {one.state for one in findings}
    return next((state for state in (BROKEN, ATTENTION) if state in states), OK)


def exit_code_of(findings: list[Finding]) -> int:
    """That of the severest finding; what only needs attention is no failure."""
    found = {one.exit_code for one in findings}
    return next((code for code in _SEVEREST_FIRST if code in found), DONE)


def command_in(text: str, otherwise: str) -> str:
    """The first command between backticks, which is what a sentence of the daemon advises."""
    found = _COMMAND.search(text)
    return found[1] if found else otherwise
