"""The kinds of personal data, and one that was found."""

import re
from typing import Final, NamedTuple

EMAIL, PHONE, CARD, IBAN, IP, KEY, NAME = "email", "phone", "card", "iban", "ip", "key", "name"
STRUCTURED: Final = (EMAIL, PHONE, CARD, IBAN, IP, KEY)
"""What is found by its form, without a recogniser of names."""
DETECTORS: Final = 1
"""Goes up when the detectors find more or less than before, so that what was remembered is looked for again."""
_KIND = re.compile(r"[a-z][a-z0-9_]{0,30}")


class Finding(NamedTuple):
    """Where personal data stands in a text; ``value`` is its one form, the same for every spelling."""

    start: int
    end: int
    kind: str
    value: str


def kind_named(text: str) -> str | None:
    """A kind as it is kept, from what a person typed (``Customer-No`` becomes ``customer_no``); None if it is none."""
    kind = text.strip().lower().replace("-", "_").replace(" ", "_")
    return kind if _KIND.fullmatch(kind) else None


def without_overlaps(findings: list[Finding]) -> list[Finding]:
    """In the order of the text; of two that overlap, the one that begins first stays, of those the longer one."""
    if len(findings) < 2:
        return findings
    kept: list[Finding] = []
    end = -1
    for one in sorted(findings, key=lambda one: (one.start, -one.end)):
        if one.start >= end:
            kept.append(one)
            end = one.end
    return kept
