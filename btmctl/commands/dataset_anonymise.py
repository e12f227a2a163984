"""btmctl datasets anonymise: personal data shown in its context, and a version with placeholders in its place."""

import argparse
import os

from btmctl import words
from btmctl.client import Document
from btmctl.errors import DONE, UsageError
from btmctl.output import Output, columns
from btmctl.parser import Noun
from btmctl.session import Session
from btmd.control_characters import clean
from btmd.vocabulary import PERSONAL_DATA

EXAMPLES_SHOWN = 5
LARGEST_LIST_BYTES = 3 * 1024 * 1024
"""What one request takes, with some room."""
_SHOWN_LINES = 5
_SHOWN_PLACES = 3
_KIND_OF_LISTS = "name"


def add_verbs(noun: Noun) -> None:
    verb = noun.verb(
        "anonymise",
        run,
        "Make a version with placeholders in place of personal data; the same value gets the same one throughout.",
        [
            "btmctl datasets anonymise tickets --preview",
            "btmctl datasets anonymise tickets --list names.txt",
            "btmctl datasets anonymise tickets --column customer=NAME --source tickets.csv",
            "btmctl datasets anonymise tickets --pattern 'CUSTOMER=K-\\d{6}' --keep ip",
        ],
    )
    add = verb.add_argument
    add("dataset", metavar="D", help="id, beginning of an id, or name")
    add("--preview", action="store_true", help="only show what would be replaced, and what cannot be found")
    add("--examples", type=int, default=EXAMPLES_SHOWN, metavar="N", help="how many of each kind the preview shows")
    add(
        "--list",
        action="append",
        default=[],
        metavar="[KIND=]FILE",
        help="words or names, one a line, replaced throughout (repeatable; kind: NAME)",
    )
    add("--exact-case", action="store_true", help="listed words only as they are written, not in any case")
    add(
        "--column",
        action="append",
        default=[],
        metavar="C=KIND",
        help="the values of this column of the file, replaced throughout (repeatable)",
    )
    add("--source", metavar="FILE", help="the file that has the columns (default: the dataset's, where it lay)")
    add(
        "--pattern",
        action="append",
        default=[],
        metavar="KIND=REGEX",
        help="what a regular expression finds (repeatable)",
    )
    add("--keep", metavar="KINDS", help="kinds that stay, such as ip,key")
    add("--region", metavar="LIST", help="whose phone numbers without a country code are found in any text: DE,FR")


def run(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    body = _request(arguments, session)
    path = f"/datasets/{arguments.dataset}/anonymise"
    if arguments.preview:
        found = session.work(f"{path}/preview", {**body, "examples": arguments.examples})
        if output.as_json:
            output.document(found)
        else:
            _show_preview(found, session.client.get(f"/datasets/{arguments.dataset}")["facts"], output)
        return DONE
    made = session.work(path, body)
    if output.as_json:
        output.document(made)
        return DONE
    dataset = made["dataset"]
    if not made["anonymised"]:
        output.say(f"Nothing was found; {dataset['dataset_id']} stays at version {dataset['version_id']}.")
    else:
        output.say(f"{dataset['dataset_id']} is at version {dataset['version_id']} now.", "green")
        _show_changes(made["changes"], output)
        output.say(
            f"The version before still holds the texts; btmctl datasets versions {dataset['dataset_id']} lists both."
        )
    _show_limits(made["not_found"], output)
    return DONE


# --- the request ------------------------------------------------------------------------------------


def _request(arguments: argparse.Namespace, session: Session) -> Document:
    body: Document = {"exact_case": arguments.exact_case}
    if arguments.list:
        body["lists"] = [_list(one) for one in arguments.list]
    if arguments.pattern:
        pairs = [_pair(one, "--pattern", "--pattern 'CUSTOMER=K-\\d{6}'") for one in arguments.pattern]
        body["patterns"] = [{"kind": kind, "expression": expression} for kind, expression in pairs]
    for option, field in ((arguments.keep, "keep"), (arguments.region, "regions")):
        if option:
            body[field] = [one.strip() for one in option.split(",") if one.strip()]
    if arguments.column:
        body["columns"] = dict(_pair(one, "--column", "--column customer=NAME") for one in arguments.column)
        body["source"] = _source(arguments, session)
    return body


def _pair(given: str, option: str, example: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not equals or not name.strip() or not value:
        raise UsageError(f"{option} needs two sides and a =.", f"{given!r} has not.", example)
    return name.strip(), value


def _list(given: str) -> Document:
    """The words of a file, each of its lines one; ``KIND=FILE`` unless a file is called just so."""
    from btmctl.upload import open_file

    kind, equals, path = given.partition("=")
    if not equals or os.path.exists(os.path.expanduser(given)):
        kind, path = _KIND_OF_LISTS, given
    with open_file(os.path.expanduser(path)) as file:
        content = file.read(LARGEST_LIST_BYTES + 1)
    if len(content) > LARGEST_LIST_BYTES:
        raise UsageError(f"{path} is too long.", "A list has at most 3 MB.", "Give --list several times, run by run.")
    text = content.decode("utf-8-sig", "replace")
    listed = [line.strip() for line in text.splitlines() if line.strip()]
    if not listed:
        raise UsageError(f"{path} holds no words.", "A list has one word or name a line.", f"cat {path}")
    return {"kind": kind, "words": listed}


def _source(arguments: argparse.Namespace, session: Session) -> Document:
    from btmctl.upload import upload

    path = arguments.source or session.client.get(f"/datasets/{arguments.dataset}").get("source_path")
    if not path:
        raise UsageError(
            "Nobody knows where the file with the columns lies.",
            "The daemon keeps rows, not the file they were made from.",
            f"btmctl datasets anonymise {arguments.dataset} --column ... --source FILE",
        )
    path = os.path.expanduser(path)
    return {"content": upload(path, session), "file_name": os.path.basename(os.path.abspath(path))}


# --- what is shown ----------------------------------------------------------------------------------


def personal_data_fields(found: Document, facts: Document) -> list[tuple[str, object]]:
    """How much of which kind, with the first places; one field that says so where there is none."""
    if not found["kinds"]:
        return [("personal data", "none found")]
    return [
        (PERSONAL_DATA.get(one["kind"], one["kind"]), _rows(one["rows"], one["lines"], facts)) for one in found["kinds"]
    ]


def _rows(rows: int, lines: list[int], facts: Document) -> str:
    where = words.places(facts, lines, rows, most=_SHOWN_PLACES if facts.get("files") else _SHOWN_LINES)
    return f"in {words.exactly(rows)} row{'' if rows == 1 else 's'} ({where})"


def _show_preview(found: Document, facts: Document, output: Output) -> None:
    output.fields(personal_data_fields(found["personal_data"], facts))
    for one in found["findings"]:
        output.line()
        where = f"{words.place(facts, one['line'])}, {'rejected answer' if one['rejected'] else one['role']}"
        output.line(f"{where}: {one['kind']} -> {one['placeholder']}")
        shown = _flat(one["found"]) if output.coloured else f">>{_flat(one['found'])}<<"
        before, after = _around(_flat(one["before"]), _flat(one["after"]), output.width - len("  ") - columns(shown))
        output.pieces([("  " + before, ""), (shown, "red"), (after, "")])
    output.line()
    for sentence in found["not_found"]:
        output.paragraph(sentence)


def _around(before: str, after: str, room: int) -> tuple[str, str]:
    """The text on both sides as far as a line has room, without the words that are cut; one short side leaves more."""
    spare = max(0, room - 1)
    for_after = min(columns(after), max(spare // 2, spare - columns(before)))
    while columns(before) > spare - for_after:
        before = before.partition(" ")[2]
    while columns(after) > for_after:
        after = after.rpartition(" ")[0]
    return before, after


def _flat(text: str) -> str:
    return clean(text.replace("\n", " "))


def _show_changes(changes: Document, output: Output) -> None:
    rows = [
        (PERSONAL_DATA.get(kind, kind), *(words.exactly(one[key]) for key in ("findings", "rows", "different")))
        for kind, one in changes["kinds"].items()
    ]
    output.table(("replaced", "places", "rows", "different values"), rows)


def _show_limits(not_found: list[str], output: Output) -> None:
    for sentence in not_found:
        output.say(sentence)
