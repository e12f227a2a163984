"""The scripts with which bash and zsh complete btmctl, made from the parsers of its commands."""

import argparse
import importlib
from collections.abc import Iterator
from typing import Any

from btmctl.completion_shell import BASH_AFTER, BASH_BEFORE, ZSH_AFTER, ZSH_BEFORE
from btmctl.parser import Noun, Parser, Single, add_common

SHELLS = ("bash", "zsh")
# What completes an argument, by what the help calls it; where that means different things, after its noun or command.
# A kind of completion_names, or one of the shell's own: files, folders, users.
BY_METAVAR = {
    "B": "backups",
    "D": "datasets",
    "DATASET": "datasets_or_files",
    "DIR": "folders",
    "F": "files",
    "FILE": "files",
    "ID": "backups",
    "J": "jobs",
    "M": "models",
    "MODEL": "models_or_files",
    "P": "presets",
    "PATH": "files",
    "U": "users",
    "USER": "users",
    "USER|@GROUP": "users",
    "config K": "settings",
    "config KEY": "settings",
    "config KEY=VALUE": "settings_to_set",
    "presets KEY": "presets",
    "presets create key": "",
    "presets delete key": "own_presets",
    "presets edit key": "own_presets",
    "presets history key": "own_presets",
    "presets undo key": "own_presets",
    "queue K": "jobs",
    # The daemon is stopped while these run.
    "recover B": "",
    "recover ID": "",
}
WORDS = {
    "ROLE": ("viewer", "trainer", "admin"),
    "S": (
        "queued", "validating", "preparing", "training", "paused", "recovering", "needs_attention", "evaluating",
        "completed", "failed", "cancelled",
    ),
}  # fmt: skip
# What help is asked about: the commands, and the codes of errors.
TOPICS = "COMMAND|CODE"
# Numbers, times, and words of a person's own: nothing can be offered.
FREE = {
    "C=KIND", "CODE", "EPOCH:EVENT:HASH", "FLAG", "K", "K=V", "KIND=REGEX", "KINDS", "LIST", "N", "NAME",
    "NAME=ROLE", "ORG/NAME", "PARTS", "ROLE=COLUMN", "SEQ", "STREAM", "T", "TEXT", "TIME", "TYPE",
    "WHAT", "[KIND=]FILE",
}  # fmt: skip


def script(shell: str) -> str:
    """The script for one of SHELLS."""
    # Imported late: of all commands only this one needs it.
    import shtab

    parser = whole_parser()
    if shell == "bash":
        return str(shtab.complete(parser, "bash", preamble=BASH_BEFORE)) + BASH_AFTER
    made = str(shtab.complete(parser, "zsh", preamble=ZSH_BEFORE))
    # The end of what shtab makes registers its own function; ours goes around that.
    body = made[: made.rindex("typeset -A opt_args")]
    # It would complete only the first of several words of one kind.
    return body.replace('"(*):', '"*:') + ZSH_AFTER


def whole_parser() -> Parser:
    """One parser with every command in it, and with what completes each argument."""
    from btmctl.__main__ import COMMANDS

    root = Parser(prog="btmctl")
    add_common(root)
    choices = root.add_subparsers(parser_class=Parser)
    for name, text in COMMANDS.items():
        command: Noun | Single = importlib.import_module(f"btmctl.commands.{name}").command()
        choices.add_parser(name, help=text, add_help=False)
        choices.choices[name] = command.parser
        if isinstance(command, Noun):
            # What stands everywhere stands between the noun and its verb as well.
            add_common(command.parser)
        for title, action in arguments_of(name, command):
            _complete(title, action)
    for action in root._actions:
        _complete("", action)
    return root


def arguments_of(name: str, command: Noun | Single) -> Iterator[tuple[str, argparse.Action]]:
    """Every argument that takes a value, with the words of its command."""
    parsers = {name: command.parser}
    if isinstance(command, Noun):
        parsers |= {f"{name} {verb}": parser for verb, parser in command.verbs.items()}
    for title, parser in parsers.items():
        for action in parser._actions:
            if action.nargs != 0 and not isinstance(action, argparse._SubParsersAction):
                yield title, action


def kind_of(title: str, action: argparse.Action) -> str | None:
    """What completes this argument: a kind, nothing (""), or None where that was never decided."""
    metavar = str(action.metavar or action.dest)
    noun = title.partition(" ")[0]
    for key in (f"{title} {action.dest}", f"{noun} {metavar}", metavar):
        if key in BY_METAVAR:
            return BY_METAVAR[key]
    return "" if metavar in FREE or _words(metavar) or action.choices else None


def _words(metavar: str) -> tuple[str, ...]:
    if metavar == TOPICS:
        from btmctl.__main__ import COMMANDS
        from btmctl.help_texts import codes

        return (*COMMANDS, *codes())
    return WORDS.get(metavar, ())


def _complete(title: str, action: Any) -> None:
    metavar = str(action.metavar or action.dest)
    kind = kind_of(title, action)
    if kind:
        action.complete = dict.fromkeys(SHELLS, f"_btmctl_{kind}")
    elif not action.choices and (words := _words(metavar)):
        action.choices = words
