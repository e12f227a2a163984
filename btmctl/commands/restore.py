"""btmctl restore: an earlier state brought back."""

import argparse

from btmctl import words
from btmctl.client import Document
from btmctl.errors import DONE, Refused, UsageError
from btmctl.output import Output
from btmctl.parser import Single
from btmctl.session import Session


def command() -> Single:
    single = Single(
        "restore",
        run,
        "Brings back the state of a moment: settings and registrations; jobs are never touched. Shows first what would"
        " change, and can be undone.",
        [
            "btmctl restore --at 'yesterday 18:00' --dry-run",
            "btmctl restore --seq 41 --only settings --yes",
            "btmctl restore --at '2 hours ago' --mode merge --prefer current",
            "btmctl restore --backup last --only settings,datasets",
        ],
    )
    which = single.parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--at", metavar="TIME", type=words.at, help="2 hours ago, 2026-11-22 14:00, RFC 3339")
    which.add_argument("--seq", metavar="N", type=words.event_number, help="the state after this event")
    which.add_argument("--backup", metavar="ID", help="the state in this backup, which is read through first")
    add = single.parser.add_argument
    add("--only", metavar="PARTS", help="settings,presets,models,datasets,access,consent (default: all but consent)")
    add("--mode", choices=("replace", "merge"), default="replace", help="merge only fills in what is missing")
    add("--prefer", choices=("current", "restored"), help="with merge: who wins where both have a value")
    add("--dry-run", action="store_true", help="only show what would change")
    add("--expect", metavar="SEQ", type=words.event_number, help="refuse if something was changed after this event")
    add("--force", action="store_true", help="also when something was changed since the preview")
    return single


def run(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    if arguments.backup == "":
        raise UsageError("--backup names no backup.", "It was given an empty text.", "btmctl backup list")
    body: Document = {
        "at": arguments.at,
        "seq": arguments.seq,
        "backup_id": arguments.backup,
        "only": [one.strip() for one in arguments.only.split(",")] if arguments.only is not None else None,
        "mode": arguments.mode,
        "prefer": arguments.prefer,
        "force": arguments.force,
    }
    body = {name: value for name, value in body.items() if value is not None}
    preview = ask(session, {**body, "dry_run": True})
    if arguments.dry_run:
        if output.as_json:
            output.document(preview)
        else:
            show(preview, output)
            if preview["conflicts"]:
                output.say("--prefer current keeps what is in conflict, --prefer restored takes the earlier ones.")
            elif preview["changes"]:
                output.say(f"btmctl restore {_options(preview)} does it.")
        return DONE
    if not output.as_json:
        show(preview, output)
    expected = preview["expected_head"] if arguments.expect is None else arguments.expect
    if (
        preview["changes"]
        and arguments.expect is None
        and not session.confirm("Restore this?", otherwise="--yes restores it; --dry-run only shows it.")
    ):
        raise Refused("Nothing was restored.", "", "", code="declined")
    # The moment or the backup that was shown, not what the same words would mean by now.
    body = {name: value for name, value in body.items() if name != "at"} | {"expected_head": expected}
    target = preview["target"]
    body |= {"backup_id": target["backup_id"]} if target["backup_id"] else {"seq": target["seq"]}
    answer = ask(session, body)
    if output.as_json:
        output.document(answer)
        return DONE
    output.say(answer["message"], "green")
    if answer["undo_seq"] is not None:
        output.say(f"btmctl restore --seq {answer['undo_seq']} {_parts(answer)} takes it back.")
    return DONE


def ask(session: Session, body: Document) -> Document:
    """A backup is read through first, which takes a while."""
    if "backup_id" not in body:
        return dict(session.client.post("/restores", body))
    answer = session.client.run("/restores", body, session.output.progress)
    session.output.end_progress()
    return answer


def show(preview: Document, output: Output) -> None:
    """What a restore changes and what it leaves alone."""
    target = preview["target"]
    which = f"in the backup {target['backup_id']}" if target["backup_id"] else f"after event {target['seq']}"
    output.say(f"The state {which}, {words.moment(target['wall_at']) or 'before everything'}:")
    if not preview["changes"] and not preview["conflicts"]:
        output.say("Nothing would change.")
    for one in preview["changes"]:
        output.line(f"{one['component']}: {in_words(one)}")
    for one in preview["conflicts"]:
        output.line(f"conflict, {one['component']}: {in_words(one)}")
    for text in preview["left_alone"]:
        output.line(f"left alone, {text}")


def _options(preview: Document) -> str:
    """What asks for exactly that which a preview showed."""
    target = preview["target"]
    which = f"--backup {target['backup_id']}" if target["backup_id"] else f"--seq {target['seq']}"
    merge = f" --mode {preview['mode']}" if preview["mode"] != "replace" else ""
    prefer = f" --prefer {preview['prefer']}" if preview["prefer"] else ""
    return f"{which} --expect {preview['expected_head']} {_parts(preview)}{merge}{prefer}"


def _parts(answer: Document) -> str:
    # Without them it would be all parts but the consent: other things than were restored, and perhaps not those.
    return f"--only {','.join(answer['components'])}"


def in_words(one: Document) -> str:
    """One thing that a restore changes."""
    nothing = "default" if one["component"] == "settings" else "none"
    before, after = (words.value(one[end]) if one[end] is not None else nothing for end in ("before", "after"))
    return f"{one['subject']}: {before} -> {after}"
