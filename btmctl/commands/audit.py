"""btmctl audit: is the log the one that was written, and who did what."""

import argparse

from btmctl import words
from btmctl.errors import DAMAGED, DONE, TAMPERED
from btmctl.parser import Noun
from btmctl.session import Session


def command() -> Noun:
    noun = Noun("audit", "Every event is chained to the one before it, so a change of the log is noticed.")
    noun.verb(
        "verify",
        verify,
        "Check the whole log; names the first bad event. Exit code 9: tampered, 7: damaged.",
        ["btmctl audit verify", "btmctl audit verify --json"],
    )
    log = noun.verb(
        "log",
        show_log,
        "Show who did or was refused what, newest first.",
        ["btmctl audit log", "btmctl audit log --refused", "btmctl audit log --user ada --limit 20"],
    )
    log.add_argument("--user", metavar="U", help="only this user, by name or number (daemon: what it did by itself)")
    log.add_argument("--refused", action="store_true", help="only what was refused")
    log.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default: 50)")
    log.add_argument("--before", type=int, metavar="SEQ", help="only events with a smaller number")
    return noun


def verify(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    if not output.as_json:
        output.progress_text("Checking every event")
    found = session.client.get("/audit/verification")
    exit_code = {"ok": DONE, "tampered": TAMPERED}.get(found["verdict"], DAMAGED)
    if output.as_json:
        output.document(found)
        return exit_code
    if exit_code == DONE:
        output.end_progress()
        output.line(f"All {found['checked']} events are as they were written.")
        output.fields([("newest event", found["head_seq"]), ("its hash", found["head_hash"])])
        return DONE
    where = f"event {found['first_bad']}: " if found["first_bad"] is not None else ""
    what = "Somebody changed the log." if exit_code == TAMPERED else "The log is damaged."
    output.problem(what, f"{where}{found['reason']}", "Stop the daemon and restore the database from a backup.")
    output.line(f"{found['verdict']}: {where}{found['reason']}")
    return exit_code


def show_log(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.client.get(
        "/audit",
        limit=arguments.limit,
        before=arguments.before,
        user=arguments.user,
        refused="true" if arguments.refused else None,
    )
    if output.as_json:
        output.document(found)
        return DONE
    if not found:
        output.say("Nothing of that kind was recorded.")
        return DONE
    rows = [(one["number"], words.moment(one["recorded_at"]), one["actor"]["name"], one["what"]) for one in found]
    output.table(("event", "when", "who", "what"), rows)
    return DONE
