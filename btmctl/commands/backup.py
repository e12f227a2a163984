"""btmctl backup: make, list, look into, check, prove, delete backups."""

import argparse
import os

from btmctl import words
from btmctl.client import Document
from btmctl.commands import backup_keys
from btmctl.errors import DONE, FAILED, Refused, ServerRefused, UsageError, exit_code_of
from btmctl.output import Output
from btmctl.parser import Noun
from btmctl.session import Session

KINDS = ("config", "full", "selective")
_COPIED = (
    "The daemon runs as another user: it made the backup in its own folder, and what stands in yours is a copy that it"
    " does not know of. A dataset that is erased later can be read from it until the next backup into the same folder."
)


def command() -> Noun:
    noun = Noun("backup", "Backups hold the log - settings, registrations, the jobs' history - sealed, part by part.")
    create = noun.verb(
        "create",
        create_one,
        "Make a backup; only what is new since the one before is written.",
        [
            "btmctl backup create",
            "btmctl backup create --to /media/stick --with-artefacts",
            'btmctl backup create --kind config --description "before the experiment"',
            "btmctl backup create --only settings,models",
        ],
    )
    create.add_argument(
        "--kind", choices=KINDS, help="config: all but the jobs (default: full; with --only: selective)"
    )
    create.add_argument("--only", metavar="PARTS", help="settings,presets,models,datasets,access,jobs")
    create.add_argument("--with-artefacts", action="store_true", help="with contents of datasets, and adapters")
    create.add_argument("--to", metavar="DIR", help="into this folder instead of the state folder")
    create.add_argument("--description", metavar="TEXT", help="what it is for")
    noun.verb("list", show_all, "List the backups, newest first.", ["btmctl backup list", "btmctl backup list --json"])
    _one(noun.verb("show", show, "Show what is in a backup, and what is not.", ["btmctl backup show last"]), "B")
    _one(
        noun.verb(
            "verify",
            verify,
            "Read a backup through, or all: checksums, seals, links, the chain, the state. The exit code says what is"
            " wrong: 7 damaged, 8 wrong key, 9 tampered with, 10 a part is missing.",
            ["btmctl backup verify", "btmctl backup verify last"],
        ),
        "B",
        optional="all of them",
    )
    _one(
        noun.verb("delete", delete, "Delete a backup; every other one stays whole.", ["btmctl backup delete 9f86"]), "B"
    )
    noun.verb(
        "prune",
        prune,
        "Let go the backups that the settings backup.keep_* and backup.max_gb do not keep.",
        ["btmctl backup prune", "btmctl config set backup.keep_daily=14"],
    )
    _one(
        noun.verb(
            "drill",
            drill,
            "Prove that a backup can be restored: into a temporary place, replayed, compared.",
            ["btmctl backup drill", "btmctl backup drill 9f86"],
        ),
        "B",
        optional="the newest full one",
    )
    backup_keys.add_verbs(noun)
    return noun


def _one(parser: argparse.ArgumentParser, name: str, *, optional: str = "") -> None:
    parser.add_argument(
        "backup",
        metavar=name,
        nargs="?" if optional else None,
        help="id, beginning of an id, description, or last" + (f" (default: {optional})" if optional else ""),
    )


def create_one(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    if arguments.to == "":
        raise UsageError("--to names no folder.", "It was given an empty text.", "Leave it out, or name a folder.")
    body: Document = {
        "kind": arguments.kind,
        "only": [one.strip() for one in arguments.only.split(",")] if arguments.only else None,
        "with_artefacts": arguments.with_artefacts,
        "to": os.path.abspath(os.path.expanduser(arguments.to)) if arguments.to else None,
        "description": arguments.description,
    }
    body = {name: value for name, value in body.items() if value is not None}
    made = _made(body, session)
    if output.as_json:
        output.document(made)
        return DONE
    new = words.size(made["new_mb"] * 1e6)
    output.say(
        f"Backup {made['backup_id']}: {made['events']} events, {made['new_events']} of them new, {new}.", "green"
    )
    output.line(made["backup_id"])
    for notice in made["notices"]:
        output.say(notice, "yellow")
    return DONE


def _made(body: Document, session: Session) -> Document:
    """The backup; one that is to go where another user's daemon may not write is made by it and brought there."""
    folder = body.get("to")
    try:
        return session.work("/backup", body)
    except ServerRefused as error:
        if error.code != "path_not_opened" or not folder:
            raise
    from btmctl.backup_copy import copy_backup, require_folder

    require_folder(folder)
    made = session.work("/backup", {name: value for name, value in body.items() if name != "to"})
    return {**made, **copy_backup(made["backup_id"], folder, session), "notices": [*made["notices"], _COPIED]}


def show_all(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.client.get("/backups")
    if output.as_json:
        output.document(found)
        return DONE
    if not found:
        output.say("There is no backup yet. btmctl backup create makes one.")
        return DONE
    output.table(
        ("backup", "made", "kind", "events", "size", "deleting frees", "proved", "where", "description"),
        [
            (
                one["backup_id"],
                words.moment(one["created_at"]),
                one["kind"] + (f", {one['artefacts']} files" if one["artefacts"] else ""),
                one["events"],
                words.size(one["size_mb"] * 1e6),
                words.size(one["frees_mb"] * 1e6) if one["reachable"] else "",
                _proof(one),
                _where(one),
                one["description"],
            )
            for one in found
        ],
    )
    return DONE


def _proof(one: Document) -> str:
    if one["fault"]:
        return f"NO: {one['fault']}"
    if one["drilled_at"]:
        return "restored " + words.moment(one["drilled_at"])
    return "verified " + words.moment(one["verified_at"]) if one["verified_at"] else ""


def _where(one: Document) -> str:
    folder = one["backup_path"].rpartition("/manifests/")[0]
    return folder if one["reachable"] else f"{folder} (out of reach)"


def show(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.client.get(f"/backups/{arguments.backup}")
    if output.as_json:
        output.document(found)
        return DONE
    output.fields(
        [
            ("backup", found["backup_id"]),
            ("made", words.moment(found["created_at"])),
            ("description", found["description"]),
            ("kind", found["kind"]),
            ("because of", found["cause"]),
            ("parts of the log", ", ".join(found["components"])),
            ("events", found["events"]),
            ("up to event", f"{found['head_seq']} of epoch {found['epoch']}, hash {found['head_hash'][:16]}"),
            ("size", words.size(found["size_mb"] * 1e6)),
            ("deleting frees", words.size(found["frees_mb"] * 1e6) if found["reachable"] else "out of reach"),
            ("proved", _proof(found)),
            ("file", found["backup_path"]),
        ]
    )
    _show_contents(found, output)
    return DONE


def _show_contents(found: Document, output: Output) -> None:
    if found["contents"]:
        output.line()
        output.line("Files that go along", "bold")
        rows = [
            (one["kind"], one["owner"], words.size(one["size_bytes"]), one["name"] + (" (erased)" * one["erased"]))
            for one in found["contents"]
        ]
        output.table(("what", "of", "size", "name"), rows)
    if found["omissions"]:
        output.line()
        output.line("What is not in it", "bold")
        rows = [
            (one["what"], one["count"] or "", words.size(one["size_bytes"]) if one["size_bytes"] else "", one["then"])
            for one in found["omissions"]
        ]
        output.table(("what", "how many", "size", "after a restore"), rows, wrap=True)


def verify(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    which = "/backups/verify" if arguments.backup is None else f"/backups/{arguments.backup}/verify"
    answer = session.client.run(which, {}, output.progress)
    output.end_progress()
    checks = answer["backups"] if arguments.backup is None else [answer]
    away = answer["out_of_reach"] if arguments.backup is None else []
    if output.as_json:
        output.document(answer)
    else:
        for check in checks:
            _say_check(check, output)
        if not checks:
            output.say("There is no backup yet.")
    for folder in away:
        output.say(f"{folder} is out of reach; the backups in it were not checked.", "yellow")
    return next((exit_code_of(check["code"], 503) for check in checks if not check["ok"]), DONE)


def _say_check(check: Document, output: Output) -> None:
    if not check["ok"]:
        output.line(f"{check['backup_id']}  {check['code']}: {check['detail']}", "red")
        return
    files = f", {check['artefacts']} files" if check["artefacts"] else ""
    erased = f", {check['erased']} erased on purpose" if check["erased"] else ""
    state = "" if check["state"] == "matches" else "; made by another release, so its state cannot be compared"
    output.line(f"{check['backup_id']}  whole: {check['events']} events{files}{erased}{state}", "green")


def delete(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    listed = session.client.get("/backups")
    # Found once: "last" must not be another one by the time of the answer.
    meant = listed[0]["backup_id"] if arguments.backup == "last" and listed else arguments.backup
    one = session.client.delete(f"/backup/{meant}", dry_run=True)
    full = [other for other in listed if other["kind"] == "full" and other["reachable"]]
    only = len(full) == 1 and full[0]["backup_path"] == one["backup_path"]
    what = f"{one['backup_id']}, {one['description']!r}, made {words.moment(one['created_at'])}"
    question = f"{what}, is the only full backup. Delete it?" if only else f"Delete the backup {what}?"
    otherwise = "--yes deletes it all the same." if only else "--yes deletes it."
    if not session.confirm(question, otherwise=otherwise):
        raise Refused("Nothing was deleted.", "", "", code="declined")
    answer = session.client.delete(f"/backup/{one['backup_id']}")
    if output.as_json:
        output.document(answer)
    else:
        output.say(answer["message"], "green")
    return DONE


def prune(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    preview = session.client.run("/backups/prune", {"dry_run": True}, output.progress)
    output.end_progress()
    if preview["deleted"] and not session.yes:
        made = {one["backup_id"]: one for one in session.client.get("/backups")}
        output.say(preview["message"])
        for backup_id in preview["deleted"]:
            one = made[backup_id]
            output.say(f"{backup_id}  {words.moment(one['created_at'])}  {one['kind']}  {one['description']}")
        if not session.confirm("Delete them?", otherwise="--yes deletes them."):
            raise Refused("Nothing was deleted.", "", "", code="declined")
    answer = session.client.run("/backups/prune", {}, output.progress)
    output.end_progress()
    if output.as_json:
        output.document(answer)
        return DONE
    output.say(answer["message"], "green")
    for backup_id in answer["deleted"]:
        output.line(backup_id)
    if answer["over_mb"]:
        over = words.size(answer["over_mb"] * 1e6)
        output.say(f"The newest backups alone are {over} above backup.max_gb; they stay.", "yellow")
    return DONE


def drill(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    done = session.client.run(f"/backups/{arguments.backup or 'last'}/drill", {}, output.progress)
    output.end_progress()
    if output.as_json:
        output.document(done)
    else:
        state = "the same state" if done["state"] == "matches" else "a whole log; its state was made by another release"
        output.say(
            f"Proved: {done['backup_id']} was restored in {done['duration_s']:.2g} s and gave {done['events']} events"
            f" and {state}.",
            "green",
        )
    return DONE if done["proved"] else FAILED
