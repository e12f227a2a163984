"""btmctl audit: is the log the one that was written, and who did what."""

import argparse
import os
import re
import time

from btmctl import words
from btmctl.client import WORK_S, Document
from btmctl.commands import audit_export, audit_report
from btmctl.errors import DAMAGED, DONE, TAMPERED, Unreachable, UsageError
from btmctl.output import Output
from btmctl.parser import Noun
from btmctl.places import own_state
from btmctl.session import Session

_RESULTS = {
    "same": "is in the log",
    "missing": "is missing: the log ends before it",
    "differs": "is another one in the log",
    "not_comparable": "cannot be compared: the database was rebuilt from an older backup since",
}


def command() -> Noun:
    noun = Noun("audit", "Every event is chained to the one before it, so a change of the log is noticed.")
    verify_verb = noun.verb(
        "verify",
        verify,
        "Check the whole log, and whether it still holds what backups and the journal know of it. Names the first bad"
        " event. Without a daemon the database is read by this command itself. Exit code 9: tampered, 7: damaged.",
        ["btmctl audit verify", "btmctl audit verify --offline", "btmctl audit verify --head 1:1200:9f86d081..."],
    )
    verify_verb.add_argument("--offline", action="store_true", help="read the database without asking a daemon")
    verify_verb.add_argument(
        "--state-dir", metavar="DIR", help="whose database, with --offline (default: your daemon's state folder)"
    )
    verify_verb.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="EPOCH:EVENT:HASH",
        help="where the log ended once, as this command showed it; may be given several times",
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
    audit_report.add_verbs(noun)
    audit_export.add_verbs(noun)
    return noun


def verify(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    for head in arguments.head:
        if re.fullmatch(r"\d{1,9}:\d{1,18}:[0-9a-f]{64}", head) is None:
            raise UsageError(
                "This is no head of a log.", head, "It is EPOCH:EVENT:HASH, as `btmctl audit verify` shows."
            )
    if not output.as_json:
        output.progress_text("Checking every event")
    found = _verified(arguments, session)
    exit_code = {"ok": DONE, "tampered": TAMPERED}.get(found["verdict"], DAMAGED)
    if output.as_json:
        output.document(found)
        return exit_code
    output.end_progress()
    if exit_code == DONE:
        output.line(f"All {found['checked']} events are as they were written.")
        head = f"{found['epoch']}:{found['head_seq']}:{found['head_hash']}"
        key = found.get("public_key") or "none yet, or it cannot be opened: backups make it"
        output.fields(
            [
                ("newest event", found["head_seq"]),
                ("its hash", found["head_hash"]),
                ("to keep", head),
                ("key of exports", key),
            ]
        )
        _tell_compared(found, output)
        return DONE
    where = f"event {found['first_bad']}: " if found["first_bad"] is not None else ""
    what = "Somebody changed the log." if exit_code == TAMPERED else "The log is damaged."
    remedy = "With the daemon stopped, btmctl recover --from FOLDER rebuilds it from a backup."
    output.problem(what, f"{where}{found['reason']}", remedy)
    output.line(f"{found['verdict']}: {where}{found['reason']}")
    _tell_compared(found, output)
    return exit_code


def _verified(arguments: argparse.Namespace, session: Session) -> Document:
    """The daemon's answer, or that of a process of ours where none answers."""
    database = os.path.join(_state_dir(arguments, session), "btmd.db")
    if not arguments.offline and not arguments.state_dir:
        try:
            client = session.client
        except Unreachable:
            if not os.path.exists(database):
                raise
            session.output.say(f"No daemon answers: {database} is read as it stands.", "yellow")
        else:
            heads = _heads_for(client.get("/health")["store_id"], arguments)
            # The whole log is read for it.
            return dict(client.get("/audit/verification", timeout_s=WORK_S, heads=heads))
    return _read_offline(arguments, session, database)


def _heads_for(store_id: str, arguments: argparse.Namespace) -> str | None:
    from btmctl.journal import heads_in_journal

    journal = [f"{epoch}:{seq}:{digest}" for store, epoch, seq, digest in heads_in_journal() if store == store_id]
    return ",".join([*arguments.head, *journal]) or None


def _read_offline(arguments: argparse.Namespace, session: Session, database: str) -> Document:
    from btmctl.backup_process import run_backup_process
    from btmctl.journal import heads_in_journal

    state_dir = os.path.dirname(database)
    known: list[Document] = [
        {"source": "journal", "store_id": store, "epoch": epoch, "seq": seq, "hash": digest}
        for store, epoch, seq, digest in heads_in_journal()
    ]
    for head in arguments.head:
        epoch, seq, digest = head.split(":")
        known.append({"source": "head that was kept", "epoch": int(epoch), "seq": int(seq), "hash": digest})
    request: Document = {
        "what": "audit",
        "folder": os.path.join(state_dir, "backups"),
        "keys": os.path.join(state_dir, "keys"),
        "store_id": "",
        "now_us": time.time_ns() // 1000,
        "database": database,
        "known": known,
    }
    found = run_backup_process(request, session.output.progress)
    names = ("source", "event", "result")
    return {**found, "compared": [dict(zip(names, one, strict=True)) for one in found["compared"]]}


def _state_dir(arguments: argparse.Namespace, session: Session) -> str:
    given = arguments.state_dir
    return os.path.abspath(os.path.expanduser(given)) if given else own_state(session.environment)


def _tell_compared(found: Document, output: Output) -> None:
    """One line for each head that is not where it was, and one for all that are."""
    same = sum(one["result"] == "same" for one in found["compared"])
    if same:
        known = "1 known end of it is" if same == 1 else f"{words.count(same)} known ends of it are"
        output.line(f"{known} in the log: those of backups, journal and daemon.")
    for one in found["compared"]:
        if one["result"] != "same":
            output.say(f"{one['source']}: event {one['event']} {_RESULTS[one['result']]}.", "yellow")


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
