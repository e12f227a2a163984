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


def headed(page: Path, *, every: bool = False) -> Iterator[tuple[str, str]]:
    """The blocks of a page that are typed into a shell, each with the heading above it; or ``every`` one."""
    heading = ""
    for part in re.split(r"^(## [^\n]*\n|```\w*\n.*?^```\n)", page.read_text(), flags=re.MULTILINE | re.DOTALL):
        if part.startswith("## "):
            heading = part[3:].strip()
        elif part.startswith("```\n") or (every and part.startswith("```")):
            yield heading, part.partition("\n")[2].removesuffix("```\n")


def inline(page: Path) -> list[str]:
    """What begins with btmctl between backticks, in the text."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(found.split()) for found in re.findall(r"`(btmctl [^`]+)`", text)]


def commands(line: str) -> list[list[str]]:
    """The arguments of each btmctl in a line of shell."""
    found = []
    while "$(" in line:
        line, within = _apart(line)
        found += commands(within)
    return _simple(line) + found


def _apart(line: str) -> tuple[str, str]:
    """The line with its first ``$(...)`` as a plain word, and what stands in that."""
    at = line.index("$(")
    depth, quote, end = 1, "", at + 2
    while depth and end < len(line):
        letter = line[end]
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += {"(": 1, ")": -1}.get(letter, 0)
        end += 1
    return f"{line[:at]}it{line[end:]}", line[at + 2 : end - 1]


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
