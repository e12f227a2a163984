"""Words that somebody listed, names say, found throughout a text: whole words, in any case or as they are written."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from msgspec import Struct

from btmd.privacy.finding import Finding

_WORD: Final = re.compile(r"[\w\u0300-\u036f]+")
_LEAST_LENGTH: Final = 2


class _Entry(Struct, frozen=True):
    """One listed thing: its words and what stands between them (one blank for any white space)."""

    words: tuple[str, ...]
    between: tuple[str, ...]
    kind: str


class GivenWords:
    """Listed words and groups of words by kind; the longest match at a place is taken."""

    def __init__(self, lists: Iterable[tuple[str, Iterable[str]]], *, exact_case: bool = False) -> None:
        self._exact = exact_case
        self._by_first: dict[str, list[_Entry]] = {}
        self.entries = 0
        """How many can be looked for; those of fewer than two characters cannot."""
        for kind, values in lists:
            for value in values:
                self._add(kind, value)
        for entries in self._by_first.values():
            entries.sort(key=lambda one: -len(one.words))

    def _add(self, kind: str, value: str) -> None:
        value = value.strip()
        words = [(self._folded(one[0]), one.start(), one.end()) for one in _WORD.finditer(value)]
        if len(value) < _LEAST_LENGTH or not words:
            return
        between = tuple(_joint(value[one[2] : other[1]]) for one, other in pairwise(words))
        entry = _Entry(tuple(one[0] for one in words), between, kind)
        same_start = self._by_first.setdefault(entry.words[0], [])
        if all(one.words != entry.words or one.between != between for one in same_start):
            same_start.append(entry)
            self.entries += 1

    def find(self, text: str) -> Iterator[Finding]:
        """Every place where a listed thing stands."""
        if not self._by_first:
            return
        words = [(self._folded(one[0]), one.start(), one.end()) for one in _WORD.finditer(text)]
        place = 0
        while place < len(words):
            entry = self._at(text, words, place)
            if entry is None:
                place += 1
                continue
            last = place + len(entry.words) - 1
            yield Finding(words[place][1], words[last][2], entry.kind, " ".join(entry.words).casefold())
            place = last + 1

    def _at(self, text: str, words: list[tuple[str, int, int]], place: int) -> _Entry | None:
        for entry in self._by_first.get(words[place][0], ()):
            here = words[place : place + len(entry.words)]
            if len(here) < len(entry.words) or any(one[0] != word for one, word in zip(here, entry.words, strict=True)):
                continue
            joints = (_joint(text[one[2] : other[1]]) for one, other in pairwise(here))
            if all(one == other for one, other in zip(joints, entry.between, strict=True)):
                return entry
        return None

    def _folded(self, word: str) -> str:
        if not word.isascii():
            word = unicodedata.normalize("NFC", word)
        return word if self._exact else word.casefold()


def _joint(text: str) -> str:
    return " ".join(text.split()) or (" " if text else "")
