"""International bank account numbers (ISO 13616): the country's length and the check digits."""

import re
from collections.abc import Iterator
from functools import cache
from string import ascii_uppercase
from typing import Final

from btmd.privacy.finding import IBAN, Finding

LENGTHS: Final = {
    code: int(length)
    for code, length in (
        entry.split(":")
        for entry in [
            "AD:24",
            "AE:23",
            "AL:28",
            "AT:20",
            "AZ:28",
            "BA:20",
            "BE:16",
            "BG:22",
            "BH:22",
            "BI:27",
            "BR:29",
            "BY:28",
            "CH:21",
            "CR:22",
            "CY:28",
            "CZ:24",
            "DE:22",
            "DJ:27",
            "DK:18",
            "DO:28",
            "EE:20",
            "EG:29",
            "ES:24",
            "FI:18",
            "FK:18",
            "FO:18",
            "FR:27",
            "GB:22",
            "GE:22",
            "GI:23",
            "GL:18",
            "GR:27",
            "GT:28",
            "HN:28",
            "HR:21",
            "HU:28",
            "IE:22",
            "IL:23",
            "IQ:23",
            "IS:26",
            "IT:27",
            "JO:30",
            "KW:30",
            "KZ:20",
            "LB:28",
            "LC:32",
            "LI:21",
            "LT:20",
            "LU:20",
            "LV:21",
            "LY:25",
            "MC:27",
            "MD:24",
            "ME:22",
            "MK:19",
            "MN:20",
            "MR:27",
            "MT:31",
            "MU:30",
            "NI:28",
            "NL:18",
            "NO:15",
            "OM:23",
            "PK:24",
            "PL:28",
            "PS:29",
            "PT:25",
            "QA:29",
            "RO:24",
            "RS:22",
            "RU:33",
            "SA:24",
            "SC:31",
            "SD:18",
            "SE:24",
            "SI:19",
            "SK:24",
            "SM:27",
            "SO:23",
            "ST:25",
            "SV:28",
            "TL:23",
            "TN:24",
            "TR:26",
            "UA:29",
            "VA:22",
            "VG:24",
            "XK:20",
            "YE:30",
        ]
    )
}
"""By country, from the registry of SWIFT (release 99)."""
_CHECK_DIGITS: Final = re.compile(
    r"\d\d(?:(?<=[A-Za-z]{2}\d\d)(?<![A-Za-z0-9][A-Za-z]{2}\d\d)"
    r"|(?<=[A-Za-z]{2}[ \u00a0-]\d\d)(?<![A-Za-z0-9][A-Za-z]{2}[ \u00a0-]\d\d))(?=[ \u00a0\u202f.\-]?[A-Za-z0-9])"
)
"""Behind the two letters of a country: a text has fewer digits than letters, so these are found faster."""
_AS_DIGITS: Final = str.maketrans({letter: str(number) for number, letter in enumerate(ascii_uppercase, 10)})
_BETWEEN: Final = " \u00a0\u202f.-"
_WITHOUT_SEPARATORS: Final = str.maketrans("", "", _BETWEEN)
_LEAST_DIGITS, _LEAST_DIGITS_SMALL, _LEAST_DIGITS_MIXED = 2, 4, 8
"""In both cases an account number is hardly written; words after a country's two letters are."""


def ibans(text: str) -> Iterator[Finding]:
    """Account numbers in any grouping, upper or lower case."""
    end = -1
    for found in _CHECK_DIGITS.finditer(text):
        start = found.start() - (2 if text[found.start() - 1].isalpha() else 3)
        length = LENGTHS.get(text[start : start + 2].upper())
        if length is None or start < end:
            continue
        taken = _taken(text, start, length)
        if taken is None or not valid(taken[0]):
            continue
        written = text[start : taken[1]]
        if sum(map(str.isdigit, taken[0])) >= _least_digits(written):
            end = taken[1]
            yield Finding(start, end, IBAN, taken[0])


def _least_digits(written: str) -> int:
    if written == written.upper():
        return _LEAST_DIGITS
    return _LEAST_DIGITS_SMALL if written == written.lower() else _LEAST_DIGITS_MIXED


def valid(number: str) -> bool:
    """Whether the check digits fit, for a number without spaces in upper case."""
    return int((number[4:] + number[:4]).translate(_AS_DIGITS)) % 97 == 1


def _taken(text: str, start: int, length: int) -> tuple[str, int] | None:
    """``length`` letters and digits from ``start`` on with at most one separator between two, and where they end."""
    taken = _of_length(length).match(text, start)
    if taken is None or text[taken.end() : taken.end() + 1].isalnum():
        return None
    return taken[0].translate(_WITHOUT_SEPARATORS).upper(), taken.end()


@cache
def _of_length(length: int) -> re.Pattern[str]:
    return re.compile(rf"[A-Za-z0-9](?:[{_BETWEEN}]?[A-Za-z0-9]){{{length - 1}}}")
