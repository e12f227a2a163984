"""A text in which everything already replaced is one mark, so that replacing again finds what replacing once found.

Detectors look at the masked form only. What they find becomes a mark as well, and they look again until nothing is
left to find; the finished text masks to just that form. So a second run begins where the first one ended.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from btmd.privacy.finding import Finding

MARK: Final = "\ufdd0"
"""A code point that is no character and stays none (Unicode, section 23.7)."""
_PLACEHOLDER: Final = re.compile(r"\[[A-Z][A-Z0-9_]{0,30}_\d{1,18}\]|\ufdd0")
_NUMBERED: Final = re.compile(r"\[([A-Z][A-Z0-9_]{0,30})_(\d{1,18})\]")
Find = Callable[[str], Iterable[Finding]]


class New(Struct, frozen=True, array_like=True):
    """A place where something was found: its kind, its one form, and how it was written."""

    kind: str
    value: str
    written: str


class Replaced(Struct, frozen=True, array_like=True):
    """A text in pieces: between two pieces stands a filling, what was there before as it is, or something new."""

    pieces: list[str]
    fillings: list[str | New]

    @property
    def new(self) -> list[New]:
        return [one for one in self.fillings if isinstance(one, New)]

    def text(self, placeholder: Callable[[New], str]) -> str:
        """The finished text; ``placeholder`` gives each new place its name."""
        parts = [self.pieces[0]]
        for filling, piece in zip(self.fillings, self.pieces[1:], strict=True):
            parts += (placeholder(filling) if isinstance(filling, New) else filling, piece)
        return "".join(parts)


def replace(text: str, find: Find) -> Replaced | None:
    """The text with all that ``find`` finds taken out; None where that is nothing."""
    old: list[str | New] = []
    masked = text
    if "[" in text or MARK in text:
        old = list(_PLACEHOLDER.findall(text))
        if old:
            masked = _PLACEHOLDER.sub(MARK, text)
    fillings = old
    changed = False
    while findings := _outside_marks(masked, find(masked)):
        masked, fillings = _taken_out(masked, fillings, findings)
        changed = True
    return Replaced(masked.split(MARK), fillings) if changed else None


def _outside_marks(masked: str, findings: Iterable[Finding]) -> list[Finding]:
    found = list(findings)
    if not found:
        return found
    if MARK in masked:
        found = [one for one in found if MARK not in masked[one.start : one.end]]
    return found


def _taken_out(masked: str, fillings: list[str | New], findings: list[Finding]) -> tuple[str, list[str | New]]:
    parts: list[str] = []
    together: list[str | New] = []
    place = passed = 0
    for one in findings:
        before = masked[place : one.start]
        marks = before.count(MARK)
        together += fillings[passed : passed + marks]
        passed += marks
        together.append(New(one.kind, one.value, masked[one.start : one.end]))
        parts += (before, MARK)
        place = one.end
    parts.append(masked[place:])
    return "".join(parts), together + fillings[passed:]


def numbers_in_use(text: str) -> Iterable[tuple[str, int]]:
    """Kind and number of every placeholder in a text."""
    if "[" in text:
        for kind, number in _NUMBERED.findall(text):
            yield kind.lower(), int(number)
