"""Payment card numbers: the brand's first digits and length, the check digit, and how the digits are grouped."""

import re
from collections.abc import Iterator
from typing import Final

from btmd.privacy.finding import CARD, Finding
from btmd.privacy.surroundings import Said, card_context

_PART = r"[ \u00a0\u2009\u202f.-]"
_RUN: Final = re.compile(
    rf"\d(?<![\w+]\d)(?<!\d[.,:/-]\d)(?:\d{{11,18}}|\d{{3}}{_PART}\d{{4}}{_PART}\d{{4}}"
    rf"(?:{_PART}\d{{4}})?(?:{_PART}\d{{1,3}})?|\d{{3}}{_PART}\d{{6}}{_PART}\d{{4,5}})(?!\w)"
)
"""Its first digit is looked for before what must not stand there, as everywhere here: that is many times as fast."""
_TAIL: Final = re.compile(r"\D\d{1,3}\Z")
_NOT_DIGIT: Final = re.compile(r"\D")
_BRANDS: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:6011|64[4-9]\d|65\d\d|622\d)\d{12,15}"  # Discover
    r"|3(?:0[0-5]\d{11}|095\d{10}|[689]\d{12}|[689]\d{14})"  # Diners Club
    r"|(?:2131|1800)\d{11}|35\d{14,17}"  # JCB
    r"|62\d{14,17}"  # UnionPay
    r"|220[0-4]\d{12,15}"  # Mir
    r"|(?:50(?:18|20|38)|5[678]\d\d|6304|6759|676[1-3]|0604|6390)\d{8,15}"  # Maestro
)
_DOUBLED: Final = str.maketrans("0123456789", "0246813579")
"""The sum of the digits of what is twice as much."""
_USUAL_LENGTHS: Final = range(14, 17)
"""Of other lengths, chance alone makes a card number of every hundredth number."""


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of those before it (ISO/IEC 7812-1, annex B)."""
    return (sum(map(int, digits[-1::-2])) + sum(map(int, digits[-2::-2].translate(_DOUBLED)))) % 10 == 0


def cards(text: str) -> Iterator[Finding]:
    """Card numbers, bare or grouped as on a card. A bare one after a word for another number is taken for that."""
    for found in _RUN.finditer(text):
        written = found[0]
        end = found.end()
        digits = _card(written)
        if digits is None:
            # What follows in a group of its own may be the code from the back of the card.
            shorter = _TAIL.sub("", written)
            if shorter == written or (digits := _card(shorter)) is None:
                continue
            end = found.start() + len(shorter)
        bare = written.isdigit()
        if bare and not _is_meant(text, found.start(), digits):
            continue
        yield Finding(found.start(), end, CARD, digits)


def _is_meant(text: str, start: int, digits: str) -> bool:
    said = card_context(text, start)
    if said is Said.OTHER:
        return False
    return said is Said.THIS or len(digits) in _USUAL_LENGTHS


def _card(written: str) -> str | None:
    digits = _NOT_DIGIT.sub("", written)
    if _BRANDS.fullmatch(digits) is None or not luhn(digits) or len(set(digits)) == 1:
        return None
    return digits
