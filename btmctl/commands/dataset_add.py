"""btmctl datasets add: a file or a folder, and which column of it is what."""

import argparse
from collections.abc import Iterator

from btmctl import sources
from btmctl.client import Document
from btmctl.commands.dataset_mapping import add_mapping_options, end_in_command, mapping_of, options_of
from btmctl.errors import DONE, ServerRefused
from btmctl.output import Output
from btmctl.parser import Noun
from btmctl.session import Session

SHOWN_SUGGESTIONS = 3
SHOWN_CHARS = 200


def add_verb(noun: Noun) -> None:
    add = noun.verb(
        "add",
        add_one,
        "Copy a file or a folder into the daemon's keeping, check it, and record who allowed its use.",
        [
            "btmctl datasets add questions.jsonl --consent --purpose 'our help desk'",
            "btmctl datasets add handouts/ --name biology",
            "btmctl datasets add table.csv --map prompt=Question --map completion=Answer",
            "btmctl datasets add tickets.csv --map conversation=Ticket --map role=Author --map content=Message "
            "--map order=Time --role agent=assistant --role @others=user",
            "btmctl datasets add votes.csv --map prompt=Question --map chosen=Better --map rejected=Worse",
        ],
    )
    add.add_argument(
        "path", metavar="PATH", help="a table (CSV, JSON, JSON Lines, Parquet), a document, or a folder of these"
    )
    add.add_argument("--name", metavar="NAME", help="what to call it (default: the file's name)")
    add_mapping_options(add)
    add.add_argument("--consent", action="store_true", help="you may allow the use of this data, and do")
    add.add_argument("--purpose", default="", metavar="TEXT", help="what it may be used for")
    add.add_argument("--scope", default="train", metavar="WHAT", help="of train,export,backup (default: train)")


def add_one(arguments: argparse.Namespace, session: Session) -> int:
    from btmctl.commands.datasets import show_fields

    mapping = mapping_of(arguments)
    consent, purpose = arguments.consent, arguments.purpose
    if not consent:
        consent, purpose = sources.consent_for(arguments.path, session, purpose)
    added = None
    while added is None:
        try:
            added = _add(arguments, session, mapping, consent, purpose)
        except ServerRefused as error:
            chosen = _asked(error, arguments.path, session, mapping)
            if chosen is None:
                end_in_command(error, _typed(arguments), mapping)
                raise
            mapping = {**mapping, **chosen}
    if session.output.as_json:
        session.output.document(added)
        return DONE
    session.output.say(f"Added {added['dataset_id']}.", "green")
    show_fields(added, session.output)
    for line in _next_steps(added["dataset_id"]):
        session.output.say(line)
    return DONE


def _next_steps(dataset_id: str) -> Iterator[str]:
    """Each of them a whole command."""
    yield f"What is good and bad in it: btmctl datasets check {dataset_id}"
    yield f"How it was understood: btmctl datasets preview {dataset_id}"
    yield f"Learn it: btmctl train MODEL {dataset_id} (btmctl models list names yours)"


def _add(
    arguments: argparse.Namespace, session: Session, mapping: dict[str, str], consent: bool, purpose: str
) -> Document:
    return sources.add_dataset(
        arguments.path,
        session,
        consent=consent,
        purpose=purpose,
        name=arguments.name,
        mapping=mapping,
        scopes=[one.strip() for one in arguments.scope.split(",") if one.strip() and arguments.scope != "train"],
    )


def _typed(arguments: argparse.Namespace) -> str:
    """What was typed, without what says how the file is to be read."""
    import shlex

    words = ["btmctl", "datasets", "add", arguments.path]
    words += ["--consent"] if arguments.consent else []
    for name, usual in (("name", None), ("purpose", ""), ("scope", "train")):
        if getattr(arguments, name) != usual:
            words += [f"--{name}", getattr(arguments, name)]
    return shlex.join(words)


def _asked(error: ServerRefused, path: str, session: Session, mapping: dict[str, str]) -> dict[str, str] | None:
    """The mapping that the person at the terminal chose of those the daemon suggested; None for none."""
    suggestions = error.problem.get("suggestions") or []
    if not suggestions or not session.can_ask or session.yes or session.output.as_json:
        return None
    output = session.output
    output.say(error.why)
    for number, suggested in enumerate(suggestions[:SHOWN_SUGGESTIONS], 1):
        output.say(f"{number}  {options_of(suggested)}", "bold")
        try:
            _show(sources.mapped_rows(path, session, {**mapping, **suggested}), output)
        except ServerRefused as refused:
            # It may lead to the next question.
            output.say(f"     {refused.why}")
    last = min(len(suggestions), SHOWN_SUGGESTIONS)
    which = "1" if last == 1 else f"1-{last}"
    answer = session.ask(f"Which of these is meant? [{which}, Enter for none] ")
    if not answer.isdigit() or not 1 <= int(answer) <= last:
        return None
    chosen: dict[str, str] = suggestions[int(answer) - 1]
    return chosen


def _show(shown: Document, output: Output) -> None:
    """A few rows; their text goes to the terminal and nowhere else."""
    for row in shown["rows"]:
        turns = [(turn["role"], turn["content"]) for turn in row.get("messages", ())]
        turns += [("rejected", turn["content"]) for turn in row.get("rejected", ())[-1:]]
        turns += [("text", row["text"])] if "text" in row else []
        for role, content in turns:
            text = " ".join(content.split())
            output.say(f"     {role}: {text[:SHOWN_CHARS]}{'...' if len(text) > SHOWN_CHARS else ''}")
        output.say("")
