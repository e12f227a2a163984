"""How much of a wanted answer a given one has: shared words, and whether all are the same. No texts are kept."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

_WORDS = re.compile(r"[^\W_]+")
_WITHOUT_SPACES = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Letters of scripts that put no spaces between words: each counts as one."""


class Overlap(NamedTuple):
    """Means over answers, both 0 to 1: F1 of the words, and the share with exactly the wanted words."""

    f1: float
    exact: float


def overlap(pairs: Iterable[tuple[str, str]]) -> Overlap | None:
    """Of pairs of a given and a wanted answer; case and punctuation do not count. None without a pair."""
    scores = [(_f1(words(given), words(wanted)), words(given) == words(wanted)) for given, wanted in pairs]
    if not scores:
        return None
    return Overlap(sum(f1 for f1, _ in scores) / len(scores), sum(exact for _, exact in scores) / len(scores))


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    spaced = _WITHOUT_SPACES.sub(lambda letter: f" {letter.group()} ", text.lower())
    return _WORDS.findall(spaced)


def _f1(given: list[str], wanted: list[str]) -> float:
    if not given or not wanted:
        return float(given == wanted)
    shared = sum((Counter(given) & Counter(wanted)).values())
    return 2 * shared / (len(given) + len(wanted))
