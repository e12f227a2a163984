"""What is good and bad in a dataset, and the version without it: btmctl datasets check, clean."""

import argparse

from btmctl import sources, words
from btmctl.client import Document
from btmctl.errors import DONE
from btmctl.output import Output
from btmctl.parser import Noun
from btmctl.session import Session
from btmd.vocabulary import LANGUAGES

_SHOWN_LANGUAGES = 8
DROPPABLE = (
    "broken",
    "empty",
    "duplicates",
    "near_duplicates",
    "mojibake",
    "lost_characters",
    "control_characters",
    "line_ends",
    "placeholder_answers",
    "repeated_questions",
    "cut_off_answers",
    "short_answers",
    "too_long",
    "nothing_learned",
    "untemplated",
    "leaked",
    "other_language",
)
"""What rows can be dropped for, as the daemon calls it."""
_STYLES = {"serious": "red", "warning": "yellow", "note": ""}
_PARTS = {
    "completeness": "rows that can be read",
    "variety": "rows that say something new",
    "text": "characters and line ends",
    "answers": "answers worth learning",
    "fit": "rows that fit the model",
    "held_out": "what it is tested on",
    "balance": "balance",
    "privacy": "personal data",
}


def add_verbs(noun: Noun) -> None:
    check = noun.verb(
        "check",
        check_one,
        "Look for what would go wrong: broken rows, duplicates, damaged text, odd answers, leaks, over-long rows.",
        [
            "btmctl datasets check questions",
            "btmctl datasets check questions --model smol",
            "btmctl datasets check questions --model smol --max-length 512",
        ],
    )
    check.add_argument("dataset", metavar="D", help="id, beginning of an id, or name")
    _about_model(check)
    clean = noun.verb(
        "clean",
        clean_one,
        "Make a version without the rows of some kinds, and show what was dropped.",
        [
            "btmctl datasets clean questions --drop broken,empty,duplicates",
            "btmctl datasets clean questions --drop near_duplicates,too_long --model smol --max-length 512",
        ],
    )
    clean.add_argument("dataset", metavar="D", help="id, beginning of an id, or name")
    clean.add_argument("--drop", required=True, metavar="KINDS", help=f"of {', '.join(DROPPABLE)}; by commas")
    _about_model(clean)


def _about_model(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--model", metavar="M", help="count tokens as this model does")
    verb.add_argument("--max-length", type=int, metavar="N", help="tokens with which rows are compared (default: 1024)")


def check_one(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    found = session.work(f"/datasets/{arguments.dataset}/check", _body(arguments, session))
    if output.as_json:
        output.document(found)
        return DONE
    dataset, tokens = found["dataset"], found.get("tokens")
    _score(found, output)
    for one in found["findings"]:
        _finding(one, dataset["facts"], output)
    if not found["findings"]:
        output.line("Nothing was found that would have to be changed.", "green")
    output.line()
    counted = [("rows", words.exactly(dataset["rows"])), ("languages", _languages(found["languages"]))]
    output.fields([*counted, *(_tokens(tokens) if tokens else ())])
    if not tokens:
        output.say(f"How long the rows are: btmctl datasets check {dataset['dataset_id']} --model M")
    return DONE


def clean_one(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    body = _body(arguments, session)
    body["drop"] = [kind.strip() for kind in arguments.drop.split(",") if kind.strip()]
    answer = session.work(f"/datasets/{arguments.dataset}/clean", body)
    if output.as_json:
        output.document(answer)
        return DONE
    dataset, changes = answer["dataset"], answer["changes"]
    facts = dataset["facts"]
    for kind, rows in changes["dropped"].items():
        where = words.places(facts, rows["lines"], rows["count"])
        output.line(f"{kind.replace('_', ' ')}: {words.exactly(rows['count'])} ({where})")
    if answer["cleaned"]:
        output.line(
            f"{dataset['dataset_id']} is at version {dataset['version_id']} now: {words.exactly(changes['rows'])} of "
            f"{words.exactly(changes['rows_before'])} rows.",
            "green",
        )
    else:
        output.line(
            f"{dataset['dataset_id']} stays at version {dataset['version_id']}: none of its rows is of these kinds. "
            "Broken and empty rows were left out when the file was added."
        )
    return DONE


def _body(arguments: argparse.Namespace, session: Session) -> Document:
    body: Document = {}
    if arguments.model:
        body["model_id"] = sources.model(arguments.model, session)["model_id"]
    if arguments.max_length is not None:
        body["max_length"] = arguments.max_length
    return body


def _score(found: Document, output: Output) -> None:
    score = found["score"]
    style = "green" if score >= 80 else "yellow" if score >= 50 else "red"
    output.line(f"{found['dataset']['dataset_id']}: {score:g} of 100 points", style)
    output.fields(
        [
            (_PARTS.get(part["part"], part["part"]), f"{part['score']:g} (costs {part['costs']:g} points)")
            for part in found["parts"]
            if part["costs"]
        ]
    )


def _finding(found: Document, facts: Document, output: Output) -> None:
    gain = f" Without it: {found['gain']:g} points more." if found["gain"] else ""
    output.line()
    output.paragraph(found["text"] + gain, style=_STYLES.get(found["severity"], ""))
    output.paragraph(found["meaning"], "  ")
    if found["lines"]:
        output.paragraph(words.places(facts, found["lines"], found["count"]), "  ")
    if found["command"]:
        output.line(f"  {found['command']}")


def _languages(languages: Document) -> str:
    known = sorted(((rows, code) for code, rows in languages.items() if code), reverse=True)
    return ", ".join(f"{LANGUAGES.get(code, code)} ({words.exactly(rows)})" for rows, code in known[:_SHOWN_LANGUAGES])


def _tokens(tokens: Document) -> list[tuple[str, object]]:
    return [
        ("tokens", words.count(tokens["tokens_total"])),
        ("learned tokens", words.count(tokens["learned_tokens"])),
        ("length of half the rows", f"up to {tokens['p50']} tokens"),
        ("length of 95 %", f"up to {tokens['p95']} tokens"),
        ("longest row", f"{tokens['longest']} tokens"),
        ("chat template", "the model's own" if tokens["template"] == "model" else "a plain one"),
    ]
