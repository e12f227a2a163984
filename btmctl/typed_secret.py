"""Secrets as a person types them: never on the command line, where every other user could read them."""

import sys

from btmctl.errors import Refused, UsageError
from btmctl.session import Session


def typed_secret(session: Session, what: str, *, twice: bool = False) -> str:
    """A line without echo at a terminal, else the first line of standard input. Raises Refused where there is none."""
    session.output.end_progress()
    if not session.can_ask:
        given = "" if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
        if not given:
            raise Refused(
                "This needs an answer, and there is no terminal to ask at.",
                f"{what} is needed.",
                "Give it as the first line of standard input.",
                code="needs_answer",
            )
        return given
    from getpass import getpass

    try:
        given = getpass(f"{what}: ", sys.stderr)
        again = getpass(f"{what} again: ", sys.stderr) if twice else given
    except EOFError:
        raise Refused("Nothing was typed.", f"{what} is needed.", "Try it again.", code="needs_answer") from None
    if again != given:
        raise UsageError("The two were not the same.", "Nothing was changed.", "Try it again.")
    return given


def shown_line(session: Session, what: str) -> str:
    """A line that a person may see while typing it; without a terminal, the first line of standard input."""
    if session.can_ask:
        return session.ask(f"{what}: ")
    return typed_secret(session, what)
