"""Writes the pages that are made from the code: cli.md, events.md, settings.md. `make docs` runs it."""

import argparse
import ast
import importlib
import inspect
import pkgutil
import sys
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, NoneType, UnionType

import msgspec

import btmd.domain
from btmctl.__main__ import COMMANDS
from btmctl.parser import Noun, Parser, Single, add_common
from btmd.domain import job, preset_definition, settings, warning
from btmd.domain.event import EVENT_TYPES, Event
from btmd.domain.job_events import JobSubmitted, TrainingProgressed
from btmd.domain.settings_schema import SCHEMA, Setting

HERE = Path(__file__).parent
MADE = "Made from the code by `make docs`; a change belongs there."
EVERYWHERE = ("json", "yes", "socket", "debug", "help")
# Modules whose events are in the stream of another noun.
PARTS = {
    "forecast": job,
    "job_events": job,
    "job_housekeeping": job,
    "preset_file": preset_definition,
    "queue": job,
    "settings_file": settings,
}
TICKS = {TrainingProgressed: "ticks-<job_id>", warning.MachineSampled: warning.samples_stream("<job_id>")}
EXIT_CODES = {
    0: "done",
    1: "it failed; with `--watch`: the training failed or was cancelled",
    2: "wrong usage, or a value that cannot be",
    3: "the daemon cannot be reached",
    4: "not permitted",
    5: "there is no such thing",
    6: "not possible as things are, or refused: no consent, too little memory or disk, an answer of no",
    7: "damaged data was found",
    8: "the wrong key",
    9: "data was found that somebody changed",
    10: "a part is missing",
    130: "interrupted; a training that was watched goes on",
}
FOR_SCRIPTS = (
    "Results go to standard output, and everything else to standard error: an error in three lines, what, why, and the "
    "command that helps; with `--json` also as a document on standard output, with the `code` that `btmctl help CODE` "
    "explains. Without a terminal a command that would ask refuses instead, unless `--yes` or an option of its own "
    "answers. A pipe or `NO_COLOR` switches colours and bars off."
)
WHICH_DAEMON = (
    "The first of these that answers is asked, and `btmctl status` names it: your own daemon, the machine's, the "
    "quickstart's. With `--socket` or `BTMD_SOCKET` only that one is."
)
WORDS: dict[object, str] = {
    str: "text", int: "whole number", float: "number", bool: "yes/no", NoneType: "null", typing.Any: "any value",
}  # fmt: skip


def pages() -> dict[str, str]:
    """The text of each page by its name."""
    return {"cli.md": cli(), "events.md": events(), "settings.md": settings_page()}


# --- the command line -------------------------------------------------------------------------------


def cli() -> str:
    lines = ["# The command line", "", MADE, ""]
    lines += ["`btmctl COMMAND --help` shows the same. Everywhere:", ""]
    lines += [_option(action) for action in add_common(Parser(prog="btmctl"))._actions if action.dest != "help"]
    lines += ["", _wrapped(FOR_SCRIPTS), "", _wrapped(WHICH_DAEMON), "", "| exit code | |", "|---|---|"]
    lines += [f"| {number} | {text} |" for number, text in EXIT_CODES.items()]
    lines += ["", "| command | |", "|---|---|"]
    lines += [f"| [{name}](#btmctl-{name}) | {text} |" for name, text in COMMANDS.items()]
    for name in COMMANDS:
        command: Noun | Single = importlib.import_module(f"btmctl.commands.{name}").command()
        lines += ["", f"## btmctl {name}", "", _wrapped(command.parser.description or "")]
        if isinstance(command, Noun):
            for verb, parser in command.verbs.items():
                lines += ["", f"### btmctl {name} {verb}", "", _wrapped(parser.description or ""), "", *_parser(parser)]
        else:
            lines += ["", *_parser(command.parser)]
    return "\n".join(lines) + "\n"


def _parser(parser: Parser) -> Iterator[str]:
    yield "```"
    yield " ".join([parser.prog, *_usage(parser)])
    yield "```"
    shown = [action for action in parser._actions if action.dest not in EVERYWHERE and (action.help or action.choices)]
    if shown:
        yield ""
        yield from map(_option, shown)
    if parser.examples:
        yield from ("", "Examples:", "", "```", *parser.examples, "```")


def _usage(parser: Parser) -> Iterator[str]:
    grouped = {id(action): group for group in parser._mutually_exclusive_groups for action in group._group_actions}
    told: set[int] = set()
    for action in parser._actions:
        group = grouped.get(id(action))
        if action.dest in EVERYWHERE or action.help == argparse.SUPPRESS:
            continue
        if group is None:
            written = _written(action)
            yield f"{written}..." if _repeats(action) else written if _needed(action) else f"[{written}]"
        elif id(group) not in told:
            told.add(id(group))
            together = " | ".join(_written(one) for one in group._group_actions)
            yield f"({together})" if group.required else f"[{together}]"


def _needed(action: argparse.Action) -> bool:
    return action.required or not (action.option_strings or action.nargs in ("?", "*"))


def _repeats(action: argparse.Action) -> bool:
    # An option that may be repeated need not be given at all.
    return not action.option_strings and action.nargs in ("+", "*")


def _written(action: argparse.Action) -> str:
    if isinstance(action, argparse.BooleanOptionalAction):
        return " | ".join(action.option_strings)
    if action.nargs == 0:
        return action.option_strings[-1]
    value = _value(action)
    return f"{action.option_strings[-1]} {value}" if action.option_strings else value


def _value(action: argparse.Action) -> str:
    if action.metavar is None and action.choices is not None:
        return "{" + "|".join(map(str, action.choices)) + "}"
    return str(action.metavar or action.dest)


def _option(action: argparse.Action) -> str:
    text = (action.help or "") % {**vars(action), "prog": "btmctl"}
    return _wrapped(f"- `{_written(action)}`" + (f": {text}" if text else ""), "  ")


# --- events -----------------------------------------------------------------------------------------


def events() -> str:
    for module in pkgutil.iter_modules(btmd.domain.__path__):
        importlib.import_module(f"btmd.domain.{module.name}")
    by_stream: dict[str, list[type[Event]]] = {}
    # In whatever order the modules were imported; a job's own events come first.
    # Of ours alone: who asks may know of others.
    ours = [one for one in EVENT_TYPES.values() if one.__module__.startswith("btmd.")]
    for happened in sorted(ours, key=lambda one: (one.__module__ != JobSubmitted.__module__, one.__module__)):
        by_stream.setdefault(stream_of(happened), []).append(happened)
    intro = (
        "Every change is an event in an append-only log (`btmctl events`, `GET /events`). Beside its `data`, described "
        "here, an event has `seq`, `stream`, `version`, `event_id`, `type`, `recorded_at`, `wall_at`, `actor`, "
        "`correlation_id` and `causation_id`. Names ending in `_us` are microseconds since the epoch, `_s` seconds. "
        "Fields are added and never renamed; an older event is read as one of the newest version of its type."
    )
    lines = ["# Events", "", MADE, "", _wrapped(intro), "", "| stream | events |", "|---|---|"]
    for stream, types in sorted(by_stream.items()):
        lines.append(f"| `{stream}` | {', '.join(f'[{one.TYPE}](#{one.TYPE.lower()})' for one in types)} |")
    parts: dict[str, type] = {}
    for stream, types in sorted(by_stream.items()):
        lines += ["", f"## Stream `{stream}`"]
        for happened in types:
            version = f" (version {happened.SCHEMA_VERSION})" if happened.SCHEMA_VERSION > 1 else ""
            lines += ["", f"### {happened.TYPE}{version}", *_fields(happened, parts)]
    lines += ["", "## Parts"]
    told: set[str] = set()
    while left := sorted(set(parts) - told):
        told.add(left[0])
        lines += ["", f"### {left[0]}", *_fields(parts[left[0]], parts)]
    return "\n".join(lines) + "\n"


def stream_of(happened: type[Event]) -> str:
    """The stream of an event type, ids in it as ``<job_id>``. Raises LookupError for a module that is no noun."""
    if happened in TICKS:
        return TICKS[happened]
    module = importlib.import_module(happened.__module__)
    noun: ModuleType = PARTS.get(module.__name__.rpartition(".")[2], module)
    if hasattr(noun, "STREAM"):
        return str(noun.STREAM)
    if not hasattr(noun, "stream_name"):
        raise LookupError(f"{module.__name__} has events and no stream: PARTS of docs/generate.py has to name its noun")
    [parameter] = inspect.signature(noun.stream_name).parameters
    return str(noun.stream_name(f"<{parameter}>"))


def _fields(described: type, parts: dict[str, type]) -> Iterator[str]:
    said = inspect.cleandoc(described.__doc__ or "")
    if said:
        yield ""
        yield "\n\n".join(_wrapped(_marked(part)) for part in said.split("\n\n"))
    hints = typing.get_type_hints(described)
    texts = _field_texts(described)
    fields = msgspec.structs.fields(described)
    if fields:
        yield ""
    for field in fields:
        text = f": {_marked(texts[field.name])}" if field.name in texts else ""
        yield _wrapped(f"- `{field.name}` ({_type(hints[field.name], parts)}){text}", "  ")


def _field_texts(described: type) -> dict[str, str]:
    """What stands as a text below a field."""
    [body] = ast.parse(textwrap.dedent(inspect.getsource(described))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found


def _type(hint: object, parts: dict[str, type]) -> str:
    if hint in WORDS:
        return WORDS[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return " or ".join(_type(one, parts) for one in arguments)
    if origin is typing.Literal:
        return " or ".join(f"`{one}`" for one in arguments)
    if origin is tuple and arguments[-1] is not ...:
        return f"list of {', '.join(_type(one, parts) for one in arguments)}"
    if origin in (tuple, list):
        return f"list: {_type(arguments[0], parts)}"
    if origin is dict:
        return f"object: {_type(arguments[1], parts)}"
    assert isinstance(hint, type), hint
    assert issubclass(hint, msgspec.Struct), hint
    parts[hint.__name__] = hint
    return f"[{hint.__name__}](#{hint.__name__.lower()})"


def _marked(text: str) -> str:
    return text.replace("``", "`")


# --- settings ---------------------------------------------------------------------------------------


def settings_page() -> str:
    intro = (
        "`btmctl config set KEY=VALUE` changes one, as does `settings.toml` (`[training]`, below it `seed = 7`); "
        "`btmctl config get KEY` shows it, `unset` takes the default again, `history` tells every change. "
        "`btmctl config schema --json` is this page for programs."
    )
    lines = ["# Settings", "", MADE, "", _wrapped(intro)]
    group = ""
    for one in sorted(SCHEMA, key=lambda one: one.key.partition(".")[0]):
        if one.key.partition(".")[0] != group:
            group = one.key.partition(".")[0]
            lines += ["", f"## {group}", "", "| setting | default | allowed | |", "|---|---|---|---|"]
        restart = " Applies at the next start of the daemon." if one.needs_restart else ""
        lines.append(f"| `{one.key}` | {_default(one)} | {_cell(one.range_text())} | {_cell(one.meaning)}{restart} |")
    return "\n".join(lines) + "\n"


def _default(one: Setting) -> str:
    if isinstance(one.default, bool):
        return "yes" if one.default else "no"
    return f"`{one.default}`" if one.default != "" else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _wrapped(text: str, indent: str = "") -> str:
    lines = textwrap.wrap(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def main() -> int:
    for name, text in pages().items():
        (HERE / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
