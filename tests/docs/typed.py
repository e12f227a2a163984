"""What stands in a document to be typed, taken apart and understood as btmctl would, without doing it."""

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from btmctl.__main__ import COMMANDS, _split, _with_options
from btmctl.parser import Noun, Single

ENDS = {"|", ";", "&&", "||", "&", ">", ">>", "<", "(", ")", ";;"}


def blocks(page: Path) -> Iterator[str]:
    """The lines in a page's blocks of code."""
    in_block = False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            in_block = not in_block
        elif in_block:
            yield line


def inline(page: Path) -> list[str]:
    """What begins with btmctl between backticks, in the text."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(found.split()) for found in re.findall(r"`(btmctl [^`]+)`", text)]


def commands(line: str) -> list[list[str]]:
    """The arguments of each btmctl in a line of shell."""
    within = re.findall(r"\$\((.*?)\)", line)
    outside = re.sub(r'"?\$\(.*?\)"?', "it", line)
    return [found for part in (outside, *within) for found in _simple(part)]


def _simple(line: str) -> list[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    found: list[list[str]] = []
    current: list[str] = []
    for word in [*lexer, ";"]:
        if word not in ENDS:
            current.append(word)
            continue
        while current and re.fullmatch(r"\w+=.*", current[0]):
            del current[0]
        if current and current[0].rpartition("/")[2] == "btmctl":
            found.append(current[1:])
        current = []
    return found


@cache
def _command(name: str) -> Noun | Single:
    made: Noun | Single = importlib.import_module(f"btmctl.commands.{name}").command()
    return made


def parse(arguments: list[str]) -> argparse.Namespace | None:
    """What btmctl understands; None for its own overview. Raises UsageError, or SystemExit for a help."""
    before, name, after = _split(arguments)
    if name is None or name not in COMMANDS:
        assert name is None, f"btmctl does not know {name!r}"
        assert set(before) <= {"--help", "--version"}, arguments
        return None
    command = _command(name)
    options = argparse.Namespace(json=False, yes=False, socket=None, debug=False)
    return command.parse(_with_options(after, before), options)


def is_known(arguments: list[str]) -> bool:
    """Whether its command, and the verb if it names one, exist."""
    _, name, after = _split(arguments)
    if name not in COMMANDS:
        return name in (None, "COMMAND", "help")
    command = _command(name)
    verbs = [word for word in after[:1] if isinstance(command, Noun) and re.fullmatch(r"[a-z|-]+", word)]
    return all(verb in command.verbs for word in verbs for verb in word.split("|") if not verb.startswith("-"))
