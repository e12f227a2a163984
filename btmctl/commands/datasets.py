"""btmctl datasets: data to train on."""

import argparse

from btmctl import sources, words
from btmctl.client import Document
from btmctl.commands import dataset_add, dataset_anonymise, dataset_check, dataset_preview, dataset_versions, ownership
from btmctl.errors import DONE
from btmctl.output import Output
from btmctl.parser import Noun
from btmctl.session import Session
from btmd.vocabulary import LAYOUTS, MADE

SHOWN_ROWS = 5
SHOWN_FILES = 20
_WITHOUT_ENCODING = ("folder", "parquet", "docx", "odt", "pdf")
_PUT_TOGETHER = "grouped_messages"


def command() -> Noun:
    noun = Noun("datasets", "A dataset is a file or a folder of questions and answers, of conversations, or of text.")
    listing = noun.verb(
        "list",
        show_all,
        "List the datasets that were added.",
        ["btmctl datasets list", "btmctl datasets list --all", "btmctl datasets list --erased"],
    )
    which = listing.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="also those that were removed, which can still be erased")
    which.add_argument("--erased", action="store_true", help="those that were erased, and what was made from them")
    dataset_add.add_verb(noun)
    noun.verb("show", show, "Show what is known of one dataset.", ["btmctl datasets show questions"]).add_argument(
        "dataset", metavar="D", help="id, beginning of an id, or name"
    )
    dataset_check.add_verbs(noun)
    dataset_versions.add_verbs(noun)
    dataset_preview.add_verbs(noun)
    dataset_anonymise.add_verbs(noun)
    ownership.add_verbs(noun, "dataset")
    return noun


def show_all(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    if arguments.erased:
        return _show_erased(session)
    found = session.client.listed("/datasets", removed="true" if arguments.all else None)
    # Those that are gone stand below those that are there.
    found.sort(key=lambda one: one["removed_at"] is not None)
    if output.as_json:
        output.document(found)
        return DONE
    if not found:
        output.say("No dataset was added yet. btmctl datasets add FILE adds one.")
        return DONE
    output.table(("dataset", "rows", "size", "added", "allowed", "file"), [_in_list(one) for one in found])
    if any(one["removed_at"] for one in found):
        output.say(
            "What was removed comes back when its file is added again; btmctl datasets erase D destroys what backups "
            "still have of it."
        )
    return DONE


def _show_erased(session: Session) -> int:
    output, found = session.output, session.client.listed("/erasures")
    if output.as_json:
        output.document(found)
        return DONE
    if not found:
        output.say("No dataset was erased.")
        return DONE
    rows = [
        (
            one["dataset_id"],
            words.moment(one["at"]),
            words.user(one["by_uid"]),
            "yes" if one["done"] and not one["unreached"] else "not yet",
            ", ".join(one["jobs"]),
        )
        for one in found
    ]
    output.table(("dataset", "erased", "by", "everywhere", "trained on it"), rows)
    for folder in sorted({folder for one in found for folder in one["unreached"]}):
        output.say(f"Out of reach: {folder}. Copies there can be read until it appears and is treated.", "yellow")
    return DONE


def _in_list(dataset: Document) -> tuple[str, ...]:
    removed = f"removed {words.moment(dataset['removed_at'])[:10]}" if dataset["removed_at"] else ""
    return (
        dataset["dataset_id"],
        words.exactly(dataset["rows"]),
        words.size(dataset["size_bytes"]),
        words.moment(dataset["added_at"]),
        removed or _allowed(dataset),
        dataset["source_name"],
    )


def _allowed(dataset: Document) -> str:
    return ", ".join(dataset["scopes"]) or "nothing"


def show(arguments: argparse.Namespace, session: Session) -> int:
    found = session.client.get(f"/datasets/{arguments.dataset}")
    if session.output.as_json:
        session.output.document(found)
    else:
        show_fields(found, session.output)
        sources.tell_if_changed(found, session)
    return DONE


def show_fields(dataset: Document, output: Output) -> None:
    """What is known of one dataset."""
    output.fields(
        [
            ("dataset", dataset["dataset_id"]),
            ("folder" if dataset["facts"]["format"] == "folder" else "file", dataset["source_name"]),
            ("version", dataset["version_id"]),
            ("made", MADE.get(dataset["made"], dataset["made"]) if dataset["made"] != "add" else ""),
            ("size", f"{words.size(dataset['size_bytes'])}, {words.size(dataset['stored_bytes'])} kept"),
            ("from", dataset["source_path"]),
            ("allowed", _allowed(dataset)),
            ("purpose", dataset["purpose"]),
            *_facts(dataset["facts"]),
        ]
    )
    show_not_taken(dataset["facts"], output)


def show_not_taken(facts: Document, output: Output) -> None:
    """The rows that could not be read, and the files of a folder that were left out, with the reasons."""
    _broken(facts, output)
    _left_out(facts, output)


def _facts(facts: Document) -> list[tuple[str, object]]:
    columns = f" ({', '.join(facts['columns_used'])})" if facts["columns_used"] else ""
    return [
        ("format", _format(facts)),
        ("read as", LAYOUTS.get(facts["layout"], facts["layout"]) + columns),
        ("rows", _rows(facts)),
        ("held out by the file", facts["rows_held_out"] if facts["has_split"] else ""),
        ("exact duplicates", facts["duplicates"] or ""),
        ("empty rows", _empty(facts)),
        ("broken rows", facts["rows_broken"] or ""),
        ("files left out", facts.get("skipped_total") or ""),
    ]


def _format(facts: Document) -> str:
    if facts["format"] == "folder" and facts.get("files"):
        formats = [one["format"] for one in facts["files"]]
        return "folder of " + ", ".join(f"{formats.count(one):,} {one}" for one in dict.fromkeys(formats))
    if facts["format"] in _WITHOUT_ENCODING:
        return str(facts["format"])
    guessed = " (guessed; --encoding names another)" if facts.get("guessed_rows") else ""
    mark = " with its mark" if facts.get("byte_order_mark") else ""
    return f"{facts['format']}, {facts['encoding']}{mark}{guessed}"


def _rows(facts: Document) -> str:
    """How many; where messages were put together also of how many, or a person would look for those that are gone."""
    rows = words.exactly(facts["rows_kept"])
    return f"{rows}, of {facts['turns_total']:,} messages" if facts["layout"] == _PUT_TOGETHER else rows


def _broken(facts: Document, output: Output) -> None:
    for row in facts["broken"][:SHOWN_ROWS]:
        output.line(f"  {words.place(facts, row['line'])}: {row['reason']}", "yellow")
    if facts["rows_broken"] > SHOWN_ROWS:
        output.line(f"  and {facts['rows_broken'] - SHOWN_ROWS} more; --json lists the first hundred", "yellow")


def _left_out(facts: Document, output: Output) -> None:
    """The files of a folder that are not in the dataset; hidden ones go without saying."""
    told = [one for one in facts.get("skipped", ()) if one["reason"] != "hidden"]
    for one in told[:SHOWN_FILES]:
        output.line(f"  {one['name']}: {one['reason']}", "yellow")
    if len(told) > SHOWN_FILES:
        output.line(f"  and {len(told) - SHOWN_FILES} more; --json lists them", "yellow")


def _empty(facts: Document) -> str:
    count = facts["rows_empty"]
    return f"{count:,} ({words.places(facts, facts['empty_lines'], count, most=SHOWN_ROWS)})" if count else ""
