"""Every command of btmctl, taken from its parser, with arguments that a person might type.

A command without sample arguments is an error: none is forgotten.
"""

import argparse
import importlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from btmctl.__main__ import COMMANDS

READING: Final = ("list", "show", "get", "history", "log", "versions", "diff", "blame", "schema", "events")
"""The last word of a command that only reads the store. Others read files or the machine as well."""
FROM_FILES: Final = ("backup show",)
"""Commands that end in such a word and read something else: a backup is opened by a process that has its key."""
ALONE: Final = ("quickstart", "daemon run", "daemon start", "daemon stop", "daemon restart")
"""Commands that are for folders without a daemon."""
REFUSED: Final = ("jobs answer", "jobs stop")
"""Commands for which nothing is made here that they could be done to: no training asks or runs."""
_BY_METAVAR: Final = {
    "J": ("JOB",),
    "M": ("tiny",),
    "D": ("facts",),
    "B": ("last",),
    "MODEL": ("tiny",),
    "DATASET": ("facts",),
    "USER|@GROUP": ("daemon",),
    "USER": ("root",),
    "ROLE": ("viewer",),
    "ORG/NAME": ("org/tiny",),
    "COMMAND|CODE": ("jobs",),
}
_BY_COMMAND: Final[dict[str, tuple[str, ...]]] = {
    "train": ("tiny", "facts", "--preset", "quick_test"),
    "plan": ("tiny", "facts", "--preset", "quick_test"),
    "chat": ("JOB", "--prompt", "What is 2 plus 2?"),
    **{f"jobs {verb}": ("WAITING",) for verb in ("pause", "resume", "stop", "cancel")},
    **{f"queue {verb}": ("WAITING",) for verb in ("hold", "release")},
    "queue move": ("WAITING", "--first"),
    "jobs set": ("WAITING", "priority=0"),
    "jobs export": ("JOB", "--format", "card", "--out", "FOLDER/taken"),
    "jobs delete": ("JOB",),
    "jobs plot": ("JOB", "--out", "FOLDER/curve.svg"),
    "models add": ("FOLDER/other",),
    "models set": ("tiny", "lora_r=16"),
    "models remove": ("other",),
    "datasets add": ("FOLDER/other.jsonl", "--consent"),
    "datasets update": ("facts", "FOLDER/other.jsonl"),
    "datasets clean": ("facts", "--drop", "duplicates"),
    "datasets anonymise": ("facts", "--preview"),
    **{f"presets {verb}": ("quick_test",) for verb in ("show", "export")},
    **{f"presets {verb}": ("mine",) for verb in ("edit", "delete", "history", "share")},
    "presets give": ("mine", "root"),
    "presets create": ("another-NUMBER", "--from", "quick_test"),
    "presets undo": ("another-NUMBER",),
    "presets import": ("FOLDER/preset.toml",),
    **{f"config {verb}": ("training.tick_every_s",) for verb in ("get", "unset", "history", "blame")},
    "config set": ("training.tick_every_s=0.2",),
    "access limit": ("daemon", "running_jobs=1"),
    "restore": ("--seq", "5"),
    "reset": ("--preserve-user-data",),
    "recover": ("--from", "FOLDER/state/backups", "--key", "FOLDER/state/keys/key", "--state-dir", "FOLDER/recovered"),
    "backup create": ("--description", "a measurement"),
    "backup key renew": ("--anew",),
    "daemon install": ("--user", "--dry-run"),
    "daemon uninstall": ("--user", "--dry-run"),
    "disk clean": (),
}
_BEFORE: Final[dict[str, tuple[str, ...]]] = {
    "jobs resume": ("jobs", "pause", "WAITING"),
    "queue release": ("queue", "hold", "WAITING"),
    "config confirm": ("config", "set", "training.tick_every_s=0.3", "--confirm", "10m"),
    "daemon stop": ("daemon", "start"),
    "daemon restart": ("daemon", "start"),
}


@dataclass(frozen=True, slots=True)
class Command:
    """``words`` name it; ``arguments`` follow. JOB, WAITING, FOLDER and NUMBER in them stand for what a run makes."""

    words: tuple[str, ...]
    arguments: tuple[str, ...]
    reads: bool
    """Whether it only reads the store."""

    @property
    def name(self) -> str:
        return " ".join(self.words)

    @property
    def alone(self) -> bool:
        return self.name in ALONE

    @property
    def before(self) -> tuple[str, ...]:
        """The words of what has to be done first, so that there is something to do; empty for nothing."""
        return _BEFORE.get(self.name, ())

    def filled(self, **made: str) -> list[str]:
        """The words to type, with what stands for something replaced."""
        return filled((*self.words, *self.arguments), **made)


def filled(words: Iterable[str], **made: str) -> list[str]:
    """The words, with what stands for something replaced."""
    typed = []
    for word in words:
        for name, value in made.items():
            word = word.replace(name.upper(), value)
        typed.append(word)
    return typed


def every_command() -> list[Command]:
    """All of them in the order of the help; a choice that stands where a command's word could is one each."""
    found = []
    for name in COMMANDS:
        command = importlib.import_module(f"btmctl.commands.{name}").command()
        for words, parser in _leaves(command.parser, (name,)):
            found += list(_with_samples(words, parser))
    return found


def _leaves(
    parser: argparse.ArgumentParser, words: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    below = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not below:
        yield words, parser
    for one in below:
        for word, inner in one.choices.items():
            yield from _leaves(inner, (*words, word))


def _with_samples(words: tuple[str, ...], parser: argparse.ArgumentParser) -> Iterator[Command]:
    positional = [one for one in parser._actions if not one.option_strings]
    chosen = [[(str(choice),) for choice in one.choices] for one in positional if one.choices]
    plain = [one for one in positional if not one.choices]
    for choices in itertools.product(*chosen):
        named = tuple(itertools.chain(*choices))
        # `disk clean` and `backup key list` are commands to a person; `jobs answer J yes` answers about a job.
        whole = (*words, *named) if not plain else words
        given = _BY_COMMAND.get(" ".join(whole))
        if given is None:
            given = (*itertools.chain(*(_sample(words, one) for one in plain)), *(named if plain else ()))
            missing = [one.option_strings[-1] for one in parser._actions if one.option_strings and one.required]
            if missing:
                raise LookupError(f"btmctl {' '.join(words)} needs {missing} and has no sample arguments")
        yield Command(whole, given, reads=words[-1] in READING and " ".join(whole) not in FROM_FILES)


def _sample(words: tuple[str, ...], one: argparse.Action) -> tuple[str, ...]:
    if one.nargs in ("?", "*"):
        return ()
    if one.metavar not in _BY_METAVAR:
        raise LookupError(f"btmctl {' '.join(words)}: nothing to give for {one.metavar or one.dest}")
    return _BY_METAVAR[str(one.metavar)]
