"""btmctl reset: back to the defaults, told before what goes and what stays."""

import argparse

from btmctl import words
from btmctl.client import Document
from btmctl.commands.restore import in_words
from btmctl.errors import DONE, Refused
from btmctl.output import Output
from btmctl.parser import Single
from btmctl.session import Session


def command() -> Single:
    single = Single(
        "reset",
        run,
        "Takes everything back to its defaults, after a backup that is read through. Asks before; can be undone.",
        [
            "btmctl reset --dry-run",
            "btmctl reset --preserve-user-data",
            "btmctl reset --erase-user-data",
            "btmctl reset --undo",
        ],
    )
    what = single.parser.add_mutually_exclusive_group()
    what.add_argument(
        "--preserve-user-data",
        action="store_true",
        help="datasets, models, jobs and own presets stay (this is what happens without an option)",
    )
    what.add_argument(
        "--erase-user-data",
        action="store_true",
        help="datasets, registrations, own presets and the results of trainings go too, from the disk as well",
    )
    what.add_argument("--undo", action="store_true", help="bring back what the newest reset took away")
    single.parser.add_argument("--dry-run", action="store_true", help="only tell what would go and what would stay")
    return single


def run(arguments: argparse.Namespace, session: Session) -> int:
    return undo(arguments, session) if arguments.undo else reset(arguments, session)


def reset(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    body: Document = {"preserve_user_data": not arguments.erase_user_data}
    preview = session.client.post("/reset", {**body, "dry_run": True})
    if arguments.dry_run and output.as_json:
        output.document(preview)
        return DONE
    if not output.as_json:
        show(preview, output)
    waits_for = ", ".join(f"{job['job_id']} ({job['state']})" for job in preview["waits_for"])
    hint = f"btmctl jobs cancel {preview['waits_for'][0]['job_id']} ends it." if waits_for else ""
    if arguments.dry_run:
        if waits_for:
            output.say(f"It would be refused now, as these trainings are under way: {waits_for}. {hint}", "yellow")
        return DONE
    if waits_for:
        raise Refused("Trainings are under way, and a reset waits for none.", waits_for, hint, code="jobs_under_way")
    if not session.confirm("Reset?", otherwise="--yes resets; --dry-run only tells what would go."):
        raise Refused("Nothing was reset.", "", "", code="declined")
    done = session.client.run("/reset", body, output.progress)
    output.end_progress()
    if output.as_json:
        output.document(done)
        return DONE
    output.say(done["message"], "green")
    for text in done["left_alone"]:
        output.line(f"left alone, {text}")
    output.say("btmctl reset --undo takes it back.")
    return DONE


def undo(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    preview = session.client.run("/reset/undo", {"dry_run": True}, output.progress)
    output.end_progress()
    if arguments.dry_run and output.as_json:
        output.document(preview)
        return DONE
    if not output.as_json:
        show_undo(preview, output)
    if arguments.dry_run:
        return DONE
    if not session.confirm("Undo the reset?", otherwise="--yes undoes it; --dry-run only tells what would change."):
        raise Refused("Nothing was undone.", "", "", code="declined")
    done = session.client.run("/reset/undo", {"expected_head": preview["expected_head"]}, output.progress)
    output.end_progress()
    if output.as_json:
        output.document(done)
        return DONE
    output.say(done["message"], "green")
    for problem in done["problems"]:
        output.say(f"{problem['name']} did not come back: {problem['detail']}", "yellow")
    for text in done["left_alone"]:
        output.line(f"left alone, {text}")
    if done["changes"]:
        parts = ",".join(done["components"])
        output.say(f"btmctl restore --seq {done['undo_seq']} --only {parts} takes it back.")
    return DONE


def show_undo(preview: Document, output: Output) -> None:
    """What comes back, and what it takes the place of."""
    output.say(f"The state in the backup {preview['backup_id']}, from before the reset, comes back:", "bold")
    for one in preview["changes"]:
        output.line(f"{one['component']}: {in_words(one)}")
    if not preview["changes"]:
        output.line("nothing: all is as it was")
    if preview["files"]:
        output.line(f"files that the backup holds: {preview['files']}, {words.size(preview['files_bytes'])}")
    for text in preview["left_alone"]:
        output.line(f"left alone, {text}")
    output.say("What was added since the reset stays.")


def show(preview: Document, output: Output) -> None:
    """What goes, what stays, and what no backup holds."""
    output.say(f"A backup is made first and read through; it may take {words.size(preview['backup_bytes'])}.")
    output.say("This goes:", "bold")
    for one in preview["changes"]:
        was = f" (is {words.value(one['before'])})" if one["component"] == "settings" else ""
        output.line(f"{one['component']}: {one['subject']}{was}")
    for part in preview["erased"]:
        output.line(f"from the disk: {_part(part)}")
    if not preview["changes"] and not preview["erased"]:
        output.line("nothing: all is at its default")
    output.say("This stays:", "bold")
    if preview["preserve_user_data"]:
        output.line("datasets, models, jobs with their results, own presets")
    output.line("the event log with the history of everything, backups and their keys")
    for text in preview["left_alone"]:
        output.line(text)
    for part in preview["not_held"]:
        output.say(f"Not in the backup: {_part(part)}. {part['then']}", "yellow")


def _part(part: Document) -> str:
    return f"{part['count']} {part['what']}, {words.size(part['size_bytes'])}"
