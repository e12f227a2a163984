"""Texts without what is personal: known names go, every path goes, and every word goes that btmd itself never says.

A list of what to hide is never whole. So it is the other way round: a word stays only if it stands in btmd's own
source, where all that the daemon can say is put together; of anything else a mark is left.
"""

import builtins
import json
import os
import pwd
import re
import socket
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

HIDDEN = "…"
NOT_PERSONAL = frozenset({"root", "btmd", "localhost", "nobody"})
WITHOUT = ("demo", "privacy", "data_files")
"""Folders of the source whose words are of people and of the world, not of btmd."""
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"[0-9]+(?:T[0-9]+)?Z?")
"""Also the middle and the end of a time as computers write it."""
_FOREIGN_ERROR = re.compile(r"(?<![\w.])((?!btmd\.)(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Warning)): .*")
"""An error of Python or of a library, whose message may quote what it was given."""
_PART = re.compile(r"[^\W\d_]+")
_PATH = re.compile(r"(?<![\w\ue000-\uf8ff/])~?/[^\s'\"`,;:()<>\[\]{}]*[^\s'\"`,;:.()<>\[\]{}]")
_FIRST_MARK, _NAME_MARK = 0xE000, "\uf8ff"
"""Letters that no text has: what stands in the place of a folder or a name is still a part of the path around it."""


@cache
def own_words(*packages: Path) -> frozenset[str]:
    """Every word in the source below these folders, in small letters, and the names of Python's own errors."""
    found = {name.lower() for name in dir(builtins)} | {"traceback", "most", "recent", "call", "last", "file", "line"}
    for package in packages:
        for path in package.rglob("*.py"):
            if not set(WITHOUT) & set(path.relative_to(package).parts):
                text = path.read_text("utf-8", "replace").lower()
                found.update(_WORD.findall(text))
                found.update(_PART.findall(text))
    return frozenset(found)


class Redactor:
    """``roots`` are folders by the label they get; ``names`` go wherever they stand; ``ids`` may stay, being random."""

    def __init__(
        self, words: frozenset[str], roots: Mapping[str, str], names: Iterable[str], ids: Iterable[str] = ()
    ) -> None:
        self._words = words
        self._ids = frozenset(ids)
        longest_first = sorted(roots.items(), key=lambda item: -len(item[0]))
        self._roots = [(path, chr(_FIRST_MARK + at), label) for at, (path, label) in enumerate(longest_first)]
        self._names = _any_of(names)
        self._people = _any_of(_people())
        self._hosts = _any_of(_hosts())

    def text(self, text: str) -> str:
        """Nothing but the words of btmd, numbers, and labels."""
        return self._labelled(_WORD.sub(lambda found: self._said(found[0]), self._without_names(text)))

    def log_line(self, line: str) -> str:
        """As a text, and of errors of others only their kinds; a line in JSON stays one."""
        try:
            fields = json.loads(line) if line.startswith("{") else None
        except ValueError:
            fields = None
        if isinstance(fields, dict):
            return json.dumps(self.document(fields, self._logged), ensure_ascii=False)
        return self._logged(line)

    def _logged(self, text: str) -> str:
        return self.text(_FOREIGN_ERROR.sub(rf"\1: {HIDDEN}", text))

    def known_names(self, text: str) -> str:
        """Without names and paths that are known; other words stay, as those of a processor's maker."""
        return self._labelled(self._without_names(text))

    def document(self, value: Any, redact: Callable[[str], str] | None = None) -> Any:
        """The same of every text in a document, of its keys too."""
        redact = redact or self.text
        if isinstance(value, str):
            return redact(value)
        if isinstance(value, Mapping):
            return {redact(str(key)): self.document(one, redact) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.document(one, redact) for one in value]
        return value

    def _without_names(self, text: str) -> str:
        for path, mark, _ in self._roots:
            text = re.sub(re.escape(path) + r"(?![\w.-])", mark, text)
        text = self._names.sub(_NAME_MARK, text)
        text = _PATH.sub("<path>", text)
        text = self._people.sub("<user>", text)
        return self._hosts.sub("<host>", text)

    def _said(self, word: str) -> str:
        """A word of btmd, a number, or a mark in its place."""
        small = word.lower()
        if small in self._words or word in self._ids or _NUMBER.fullmatch(word):
            return word
        parts = small.strip("_").split("_")
        return word if all(part in self._words for part in parts) else HIDDEN

    def _labelled(self, text: str) -> str:
        for _, mark, label in self._roots:
            text = text.replace(mark, label)
        return text.replace(_NAME_MARK, "<name>")


def usual_roots(state_dir: Path, config_dir: Path, sockets: Iterable[str]) -> dict[str, str]:
    """The folders that a log speaks of, with what stands for them."""
    roots = {
        os.path.expanduser("~"): "~",
        sys.prefix: "<python>",
        sysconfig.get_path("stdlib"): "<python library>",
        sysconfig.get_path("purelib"): "<packages>",
        str(Path(__file__).parents[2]): "<packages>",
    }
    roots |= {os.path.dirname(path): "<socket folder>" for path in sockets}
    roots |= {str(config_dir): "<settings folder>", str(state_dir): "<state folder>"}
    both = {**roots, **{os.path.realpath(path): label for path, label in roots.items()}}
    return {path: label for path, label in both.items() if len(path) > 1}


def texts_in(value: Any, keys: frozenset[str]) -> Iterator[str]:
    """The texts under these keys, at any depth."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            if key in keys:
                yield from _all_texts(one)
            else:
                yield from texts_in(one, keys)
    elif isinstance(value, list):
        for one in value:
            yield from texts_in(one, keys)


def _all_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _all_texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _all_texts(one)


def _any_of(names: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted({name for name in names if name.strip()}, key=len, reverse=True)
    if not longest_first:
        return re.compile(r"(?!)")
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, longest_first)) + r")(?!\w)", re.IGNORECASE)


def _people() -> set[str]:
    """Everybody who has an account here for a person."""
    found = {os.path.basename(os.path.expanduser("~")), os.environ.get("USER", ""), os.environ.get("LOGNAME", "")}
    for one in pwd.getpwall():
        if one.pw_uid == os.getuid() or 1000 <= one.pw_uid < 65_000:
            found |= {one.pw_name, *one.pw_gecos.split(",")[:1]}
    return found - NOT_PERSONAL - {""}


def _hosts() -> set[str]:
    whole = socket.gethostname()
    return {whole, whole.partition(".")[0]} - NOT_PERSONAL - {""}
