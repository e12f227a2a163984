"""btmctl datasets: data to train on."""

import argparse
from typing import Any

from btmctl import sources, words
from btmctl.client import Document
from btmctl.errors import DONE
from btmctl.output import Output
from btmctl.parser import Noun
from btmctl.session import Session


def command() -> Noun:
    noun = Noun("datasets", "A dataset is a file of questions and answers, of conversations, or of text.")
    noun.verb("list", show_all, "List the datasets that were added.", ["btmctl datasets list"])
    add = noun.verb(
        "add",
        add_one,
        "Copy a file into the daemon's keeping, check it, and record who allowed its use.",
        [
            "btmctl datasets add questions.jsonl --consent --purpose 'our help desk'",
            "btmctl datasets add table.csv --map prompt=Question --map completion=Answer",
        ],
    )
    add.add_argument("path", metavar="PATH", help="JSONL, JSON, CSV or text")
    add.add_argument("--name", metavar="NAME", help="what to call it (default: the file's name)")
    add.add_argument(
        "--map", action="append", default=[], metavar="ROLE=COLUMN", help="which column is what (repeatable)"
    )
    add.add_argument("--consent", action="store_true", help="you may allow the use of this data, and do")
    add.add_argument("--purpose", default="", metavar="TEXT", help="what it may be used for")
    noun.verb("show", show, "Show what is known of one dataset.", ["btmctl datasets show questions"]).add_argument(
        "dataset", metavar="D", help="id, beginning of an id, or name"
    )
    check = noun.verb(
        "check",
        check_one,
        "Look for what would go wrong: broken rows, duplicates, rows that are too long.",
        ["btmctl datasets check questions", "btmctl datasets check questions --model smol"],
    )
    check.add_argument("dataset", metavar="D", help="id, beginning of an id, or name")
    check.add_argument("--model", metavar="M", help="count tokens as this model does")
    return noun


def show_all(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.client.get("/datasets")
    if output.as_json:
        output.document(found)
        return DONE
    if not found:
        output.say("No dataset was added yet. btmctl datasets add FILE adds one.")
        return DONE
    output.table(
        ("dataset", "rows", "size", "added", "consent", "file"),
        [
            (
                one["dataset_id"],
                newest(one).get("rows"),
                words.size(newest(one).get("size_bytes")),
                words.moment(one.get("added_at")),
                consent(one),
                one.get("source_name"),
            )
            for one in found
        ],
    )
    return DONE


def add_one(arguments: argparse.Namespace, session: Session) -> int:
    mapping = {role: str(column) for role, column in words.pairs(arguments.map, "--map").items()}
    added = sources.add_dataset(
        arguments.path,
        session,
        consent=arguments.consent,
        purpose=arguments.purpose,
        name=arguments.name,
        mapping=mapping,
    )
    if session.output.as_json:
        session.output.document(added)
        return DONE
    session.output.say(f"Added {added['dataset_id']}.", "green")
    _fields(added, session.output)
    return DONE


def show(arguments: argparse.Namespace, session: Session) -> int:
    found = session.client.get(f"/datasets/{arguments.dataset}")
    if session.output.as_json:
        session.output.document(found)
    else:
        _fields(found, session.output)
    return DONE


def check_one(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    body: Document = {}
    if arguments.model:
        body["model_id"] = sources.model(arguments.model, session)["model_id"]
    found = session.client.run(f"/datasets/{arguments.dataset}/check", body, output.progress)
    output.end_progress()
    if output.as_json:
        output.document(found)
        return DONE
    facts = found.get("facts") or newest(found).get("facts") or {}
    _facts(facts, output)
    if tokens := found.get("tokens"):
        _tokens(tokens, output)
    for warning in found.get("warnings") or []:
        output.line(str(warning), "yellow")
    return DONE


def newest(dataset: Document) -> Document:
    """The version that a training would use."""
    versions = dataset.get("versions") or []
    return versions[0] if versions and isinstance(versions[0], dict) else dataset


def consent(dataset: Document) -> str:
    given = dataset.get("consent")
    scopes = given.get("scopes") if isinstance(given, dict) else dataset.get("scopes")
    if scopes is None and isinstance(given, bool):
        return "yes" if given else "no"
    return ", ".join(scopes) if scopes else "no"


def _fields(dataset: Document, output: Output) -> None:
    version = newest(dataset)
    given: Any = dataset.get("consent")
    purpose = given.get("purpose") if isinstance(given, dict) else dataset.get("purpose")
    output.fields(
        [
            ("dataset", dataset["dataset_id"]),
            ("file", dataset.get("source_name")),
            ("version", version.get("version_id")),
            ("size", words.size(version.get("size_bytes"))),
            ("consent", consent(dataset)),
            ("purpose", purpose),
        ]
    )
    _facts(version.get("facts") or {}, output)


def _facts(facts: Document, output: Output) -> None:
    output.fields(
        [
            ("format", ", ".join(str(facts[key]) for key in ("format", "encoding") if facts.get(key))),
            ("layout", facts.get("layout")),
            ("rows", facts.get("rows_kept")),
            ("broken rows", _broken(facts)),
            ("empty rows", facts.get("empty_rows") or facts.get("empty") or ""),
            ("exact duplicates", facts.get("duplicates") or facts.get("exact_duplicates") or ""),
            ("split", "as the file says" if facts.get("has_split") else ""),
        ]
    )


def _broken(facts: Document) -> str:
    broken = facts.get("broken") or facts.get("broken_rows") or []
    if isinstance(broken, int):
        return str(broken) if broken else ""
    shown = ", ".join(f"line {row['line']}: {row['reason']}" for row in broken[:5] if isinstance(row, dict))
    return f"{len(broken)} ({shown}{', ...' if len(broken) > 5 else ''})" if broken else ""


def _tokens(tokens: Document, output: Output) -> None:
    output.fields(
        (name.replace("_", " "), words.value(value)) for name, value in tokens.items() if not isinstance(value, dict)
    )
