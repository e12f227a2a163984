"""btmctl datasets add: a file or a folder, and which column of it is what."""

import argparse

from btmctl import sources
from btmctl.client import Document
from btmctl.errors import DONE, ServerRefused, UsageError
from btmctl.output import Output
from btmctl.parser import Noun, Parser
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
        "path", metavar="PATH", help="JSONL, JSON, CSV, Parquet, text, .docx, .odt, .html, PDF, or a folder of these"
    )
    add.add_argument("--name", metavar="NAME", help="what to call it (default: the file's name)")
    add_mapping_options(add)
    add.add_argument("--consent", action="store_true", help="you may allow the use of this data, and do")
    add.add_argument("--purpose", default="", metavar="TEXT", help="what it may be used for")
    add.add_argument("--scope", default="train", metavar="WHAT", help="of train,export,backup (default: train)")


def add_mapping_options(parser: Parser) -> None:
    """The options that say which column is what."""
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="ROLE=COLUMN",
        help="which column is what (repeatable): prompt, completion, text, conversation, role, content, order, "
        "chosen, rejected, system, context, split; drop=COLUMN leaves one out",
    )
    parser.add_argument(
        "--role",
        action="append",
        default=[],
        metavar="NAME=ROLE",
        help="who NAME is (repeatable): user, assistant, system, tool or drop; @first is whoever speaks first, "
        "@others everybody else",
    )


def mapping_of(arguments: argparse.Namespace) -> dict[str, str]:
    """What --map and --role say, as the daemon takes it. Raises UsageError."""
    mapping: dict[str, str] = {}
    for given in arguments.map:
        role, equals, column = given.partition("=")
        role = role.strip()
        if not equals or not role or not column:
            raise UsageError("--map needs the form ROLE=COLUMN.", f"{given!r} is not.", "--map prompt=Question")
        key = f"drop:{column}" if role == "drop" else role
        if key in mapping and mapping[key] != column:
            raise UsageError(f"--map names two columns for {role}.", f"{mapping[key]} and {column}.", "Name one.")
        mapping[key] = column
    for given in arguments.role:
        name, equals, role = given.rpartition("=")
        if not equals or not name.strip() or not role.strip():
            raise UsageError("--role needs the form NAME=ROLE.", f"{given!r} is not.", "--role agent=assistant")
        mapping[f"role:{name.strip()}"] = role.strip()
    return mapping


def add_one(arguments: argparse.Namespace, session: Session) -> int:
    from btmctl.commands.datasets import show_fields

    mapping = mapping_of(arguments)
    consent, purpose = arguments.consent, arguments.purpose
    if not consent:
        consent, purpose = sources.consent_for(arguments.path, session, purpose)
    try:
        added = _add(arguments, session, mapping, consent, purpose)
    except ServerRefused as error:
        chosen = _asked(error, arguments.path, session)
        if chosen is None:
            raise
        added = _add(arguments, session, {**mapping, **chosen}, consent, purpose)
    if session.output.as_json:
        session.output.document(added)
        return DONE
    session.output.say(f"Added {added['dataset_id']}.", "green")
    show_fields(added, session.output)
    return DONE


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


def _asked(error: ServerRefused, path: str, session: Session) -> dict[str, str] | None:
    """The mapping that the person at the terminal chose of those the daemon suggested; None for none."""
    suggestions = error.problem.get("suggestions") or []
    if not suggestions or not session.can_ask or session.yes or session.output.as_json:
        return None
    output = session.output
    output.say(error.why)
    for number, mapping in enumerate(suggestions[:SHOWN_SUGGESTIONS], 1):
        output.say(f"{number}  {options_of(mapping)}", "bold")
        _show(sources.mapped_rows(path, session, mapping), output)
    last = min(len(suggestions), SHOWN_SUGGESTIONS)
    which = "1" if last == 1 else f"1-{last}"
    answer = session.ask(f"Which of these is meant? [{which}, Enter for none] ")
    if not answer.isdigit() or not 1 <= int(answer) <= last:
        return None
    chosen: dict[str, str] = suggestions[int(answer) - 1]
    return chosen


def options_of(mapping: Document) -> str:
    """The mapping as it is typed."""
    import shlex

    typed = []
    for key, value in mapping.items():
        kind, _, name = key.partition(":")
        option = f"--role {shlex.quote(f'{name}={value}')}" if name and kind == "role" else ""
        typed.append(option or f"--map {shlex.quote(f'{kind}={value}')}")
    return " ".join(typed)


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
