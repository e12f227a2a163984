"""What a person says of a dataset's file - columns, speakers, first line, letters - and how it is typed."""

import argparse
import shlex

from btmctl.client import Document
from btmctl.errors import ServerRefused, UsageError
from btmctl.parser import Parser

HEADER, ENCODING, ONLY = "file:header", "file:encoding", "file:only"
"""How the daemon calls what is said of the file itself."""


def add_mapping_options(parser: Parser) -> None:
    """The options that say which column is what, and how the file is to be read."""
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="ROLE=COLUMN",
        help="which column is what (repeatable): prompt, completion, text, conversation, role, content, order, "
        "chosen, rejected, system, context, split; drop=COLUMN leaves one out; 'column 2' is the second of a table",
    )
    parser.add_argument(
        "--role",
        action="append",
        default=[],
        metavar="NAME=ROLE",
        help="who NAME is (repeatable): user, assistant, system, tool or drop; @first is whoever speaks first, "
        "@others everybody else",
    )
    parser.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether a table's first line holds the columns' names; without, they are 'column 1', 'column 2', ...",
    )
    parser.add_argument("--encoding", metavar="NAME", help="the letters of a text: windows-1250, koi8-r, ...")
    parser.add_argument("--only", choices=("tables", "documents"), help="which of them are meant in a folder with both")


def mapping_of(arguments: argparse.Namespace) -> dict[str, str]:
    """What these options say, as the daemon takes it. Raises UsageError."""
    mapping = about_file(arguments)
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


def about_file(arguments: argparse.Namespace) -> dict[str, str]:
    """What is said of the file itself."""
    said = {HEADER: {True: "names", False: "none"}.get(arguments.header), ENCODING: arguments.encoding}
    return {key: value for key, value in {**said, ONLY: arguments.only}.items() if value is not None}


def mapping_for_update(arguments: argparse.Namespace, before: dict[str, str]) -> dict[str, str] | None:
    """The next version's mapping: None for the same; what is said of the file alone leaves the columns as they were."""
    said = mapping_of(arguments)
    if arguments.map or arguments.role or not said:
        return said or None
    return {**before, **said}


def options_of(mapping: Document) -> str:
    """The mapping as it is typed."""
    return " ".join(_option(key, str(value)) for key, value in mapping.items())


def _option(key: str, value: str) -> str:
    kind, _, name = key.partition(":")
    if key == HEADER:
        return "--header" if value == "names" else "--no-header"
    if kind == "file":
        return f"--{name} {shlex.quote(value)}"
    if kind == "role" and name:
        return f"--role {shlex.quote(f'{name}={value}')}"
    return f"--map {shlex.quote(f'{kind}={value}')}"


def end_in_command(error: ServerRefused, command: str, mapping: dict[str, str]) -> None:
    """Let a refusal with suggestions end in a command that can be typed: ``command`` and the likeliest of them."""
    suggestions = error.problem.get("suggestions")
    if suggestions:
        error.hint = f"{command} {options_of({**mapping, **suggestions[0]})}"
        error.problem["hint"] = error.hint
