"""All detectors together: one cheap look decides which of them run at all."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from btmd.privacy.cards import cards
from btmd.privacy.finding import Finding, without_overlaps
from btmd.privacy.given import GivenWords
from btmd.privacy.ibans import ibans
from btmd.privacy.internet import ip_addresses
from btmd.privacy.keys import keys
from btmd.privacy.mail import addresses, spelled_out
from btmd.privacy.own_patterns import OwnPattern
from btmd.privacy.phones import Phones

_DIGIT: Final = re.compile(r"\d")
_LONG_WORD: Final = re.compile(r"[A-Za-z0-9_=-]{20}")
_LEAST_DIGITS_PHONE, _LEAST_DIGITS_CARD, _LEAST_DIGITS_IBAN = 7, 12, 2
_COVER: Final = "\ufdd1"
"""Over what another detector has taken; no character, as the mark."""
Names = Callable[[str], Iterable[Finding]]


class Detectors:
    """Finds personal data of every kind in a text, each place once.

    ``given``: words that somebody listed. ``patterns``: own ones. ``names``: a recogniser of names, if there is one.
    ``kept``: kinds that are to stay, and are not told.
    What was given goes first, then what can be told most surely.
    """

    def __init__(
        self,
        *,
        regions: Sequence[str] = (),
        given: GivenWords | None = None,
        patterns: Sequence[OwnPattern] = (),
        names: Names | None = None,
        kept: Iterable[str] = (),
    ) -> None:
        self._phones = Phones(regions)
        self._given, self._patterns, self._names = given, tuple(patterns), names
        self._kept = frozenset(kept)

    def find(self, text: str) -> list[Finding]:
        """What was found, without overlaps of one detector with another. Raises InvalidValue for a pattern's time."""
        found: list[Finding] = []
        looked, digits = text, len(_DIGIT.findall(text))
        for detector, least_digits in self._called_for(text, digits):
            if digits < least_digits:
                continue
            here = list(detector(looked))
            if found:
                here = [one for one in here if _COVER not in looked[one.start : one.end]]
            if here:
                found += here
                looked = _covered(looked, here)
                digits = len(_DIGIT.findall(looked))
        if self._kept:
            found = [one for one in found if one.kind not in self._kept]
        return without_overlaps(found)

    def _called_for(self, text: str, digits: int) -> Iterator[tuple[Callable[[str], Iterable[Finding]], int]]:
        """Detectors in their order, each with how many digits it needs, which others may have taken meanwhile."""
        if self._given is not None:
            yield self._given.find, 0
        for pattern in self._patterns:
            yield pattern.find, 0
        keys_first = False
        if "@" in text or spelled_out(text):
            # A password in an address of the web has a sign too.
            keys_first = "://" in text
            if keys_first:
                yield keys, 0
            yield addresses, 0
        if not keys_first and (digits or "-----BEGIN" in text or _LONG_WORD.search(text) is not None):
            yield keys, 0
        if digits:
            yield ibans, _LEAST_DIGITS_IBAN
            yield cards, _LEAST_DIGITS_CARD
            if text.count(".") > 2 or text.count(":") > 1:
                yield ip_addresses, 0
            yield self._phones, _LEAST_DIGITS_PHONE
        if self._names is not None:
            yield self._names, 0


def _covered(text: str, found: list[Finding]) -> str:
    parts: list[str] = []
    place = 0
    for one in without_overlaps(found):
        parts += (text[place : one.start], _COVER * (one.end - one.start))
        place = one.end
    parts.append(text[place:])
    return "".join(parts)
