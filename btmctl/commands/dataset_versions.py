"""Versions of datasets: btmctl datasets update, versions, remove."""

import argparse
import os
import shlex

from btmctl import sources, words
from btmctl.client import Document
from btmctl.commands.dataset_mapping import add_mapping_options, end_in_command, mapping_for_update, mapping_of
from btmctl.errors import DONE, Refused, ServerRefused, UsageError
from btmctl.output import Output
from btmctl.parser import Noun
from btmctl.session import Session
from btmctl.upload import given_file
from btmd.vocabulary import MADE

SHOWN_LINES = 5
_WORK = {"clean": "cleaned", "anonymise": "anonymised"}


def add_verbs(noun: Noun) -> None:
    update = noun.verb(
        "update",
        update_one,
        "Make the next version from the file as it is now, and show the difference.",
        ["btmctl datasets update questions", "btmctl datasets update questions newer.jsonl"],
    )
    update.add_argument("dataset", metavar="D", help="id, beginning of an id, or name")
    update.add_argument("path", metavar="PATH", nargs="?", help="the file (default: where it lay when it was read)")
    add_mapping_options(update)
    versions = noun.verb(
        "versions", show_versions, "List the versions of a dataset.", ["btmctl datasets versions questions"]
    )
    versions.add_argument("dataset", metavar="D", help="id, beginning of an id, or name")
    remove = noun.verb(
        "remove",
        remove_one,
        "Take a dataset off the list and its contents off the disk; says what stays.",
        ["btmctl datasets remove questions"],
    )
    remove.add_argument("dataset", metavar="D", help="id, beginning of an id, or name")
    _add_erase(noun)


def _add_erase(noun: Noun) -> None:
    erase = noun.verb(
        "erase",
        erase_one,
        "Destroy a dataset for good: contents, answers made from it, and its copies in backups.",
        ["btmctl datasets erase questions", "btmctl datasets erase questions --yes"],
    )
    erase.add_argument("dataset", metavar="D", help="id or name; also the id of one that was removed")


def erase_one(arguments: argparse.Namespace, session: Session) -> int:
    found = session.client.get(f"/datasets/{arguments.dataset}", removed="true")
    removed = f", which was removed {words.moment(found['removed_at'])}" if found["removed_at"] else ""
    question = (
        f"Erase the dataset {found['name']}, {found['rows']:,} rows{removed}? Its contents are destroyed, in backups "
        "too, and nothing brings them back."
    )
    if not session.confirm(question, otherwise="--yes erases it."):
        raise Refused("Nothing was erased.", "", "", code="declined")
    answer = session.client.post(f"/erasures/{found['dataset_id']}", {})
    tell(answer, session.output)
    return DONE


def update_one(arguments: argparse.Namespace, session: Session) -> int:
    from btmctl.commands.datasets import show_not_taken

    output = session.output
    before = session.client.get(f"/datasets/{arguments.dataset}")
    path = given_file(arguments.path) if arguments.path else before["source_path"]
    if not path:
        raise UsageError(
            "Nobody knows where this dataset's file lies.",
            "It was added without a path.",
            f"btmctl datasets update {arguments.dataset} PATH",
        )
    body = sources.described(path, session)
    mapping = mapping_for_update(arguments, before["mapping"])
    if mapping is not None:
        body["mapping"] = mapping
    try:
        answer = sources.sent_if_wanted(f"/datasets/{before['dataset_id']}/versions", path, body, session)
    except ServerRefused as error:
        typed = ["btmctl", "datasets", "update", arguments.dataset, *([arguments.path] if arguments.path else ())]
        end_in_command(error, shlex.join(typed), mapping_of(arguments))
        raise
    if output.as_json:
        output.document(answer)
    elif not answer["updated"]:
        output.say(f"{path} has not changed: {before['dataset_id']} stays at version {before['version_id']}.")
    else:
        found = answer["dataset"]
        output.say(f"{found['dataset_id']} is at version {found['version_id']} now, {found['rows']:,} rows.", "green")
        output.fields(
            [*_difference(answer["changes"], before, found), ("broken rows", found["facts"]["rows_broken"] or "")]
        )
        show_not_taken(found["facts"], output)
        _tell_of_lost_work(before, output)
    return DONE


def _tell_of_lost_work(before: Document, output: Output) -> None:
    """The file knows nothing of what was done to the rows since it was read: say what has to be done again."""
    done = []
    for one in before["versions"]:
        if one["made"] not in _WORK:
            break
        done.append(one["made"])
    name = before["dataset_id"]
    for verb in dict.fromkeys(reversed(done)):
        again = " --drop KINDS" if verb == "clean" else ""
        output.say(
            f"The version before was {_WORK[verb]}; this one is as the file is. "
            f"btmctl datasets {verb} {name}{again} does it again.",
            "yellow",
        )


def _difference(changes: Document, before: Document, now: Document) -> list[tuple[str, object]]:
    return [
        ("rows added", _with_places(changes["rows_added"], "now at", changes["added_lines"], now["facts"])),
        ("rows removed", _with_places(changes["rows_removed"], "before at", changes["removed_lines"], before["facts"])),
        ("rows unchanged", words.exactly(changes["rows_unchanged"])),
    ]


def _with_places(count: int, when: str, lines: list[int], facts: Document) -> str:
    if not count:
        return "none"
    return f"{words.exactly(count)} ({when} {words.places(facts, lines, count, most=SHOWN_LINES)})"


def show_versions(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.client.listed(f"/datasets/{arguments.dataset}/versions")
    if output.as_json:
        output.document(found)
        return DONE
    # Which version it came from goes without saying: the one below.
    rows = [(one["version_id"], words.moment(one["added_at"]), words.exactly(one["rows"]), _how(one)) for one in found]
    output.table(("version", "made", "rows", "how"), rows, wrap=True)
    return DONE


def _how(version: Document) -> str:
    """``updated: 12 added``: what was done, and what is different since."""
    made = MADE.get(version["made"], version["made"])
    if version["made"] == "add":
        return f"{made} from {os.path.basename(version['source_path'])}" if version["source_path"] else made
    difference = in_short(version["made"], version["changes"])
    return f"{made}: {difference}" if difference else made


def in_short(made: str, changes: Document) -> str:
    """A difference in a few words: how many rows of which kind, or how many came, went and were changed."""
    if made == "clean":
        dropped = [(kind.replace("_", " "), rows["count"]) for kind, rows in changes.get("dropped", {}).items()]
        return ", ".join(f"{kind} dropped: {count:,}" for kind, count in dropped if count)
    counts = [(name.removeprefix("rows_"), value) for name, value in changes.items() if name.startswith("rows_")]
    return ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in counts if value)


def remove_one(arguments: argparse.Namespace, session: Session) -> int:
    found = session.client.get(f"/datasets/{arguments.dataset}")
    question = f"Remove the dataset {found['name']}, {found['rows']:,} rows?"
    if not session.confirm(question, otherwise="--yes removes it."):
        raise Refused("The dataset was not removed.", "", "", code="declined")
    answer = session.client.delete(f"/datasets/{found['dataset_id']}")
    tell(answer, session.output)
    return DONE


def tell(answer: Document, output: Output) -> None:
    """What the daemon said it did."""
    if output.as_json:
        output.document(answer)
    else:
        output.say(answer["message"])
