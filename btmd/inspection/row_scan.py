"""Rows looked through for personal data on all processors, and handed on in their order."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from msgspec import Struct, field, msgpack

from btmd.data.rows import Row
from btmd.inspection.recogniser import recogniser_of_names
from btmd.inspection.workers import in_turn, portions, workers_for
from btmd.privacy.detectors import Detectors
from btmd.privacy.given import GivenWords
from btmd.privacy.masked import Find, Replaced, replace
from btmd.privacy.own_patterns import OwnPattern

Place = tuple[str, int]
"""Where in a row: ``messages`` or ``rejected`` and the number of the turn, or ``text`` and 0."""
Found = dict[int, list[tuple[Place, Replaced]]]
"""By the number of a row in its portion, what was found in its texts; rows without anything are not there."""
_ENCODE: Final = msgpack.Encoder().encode
_DECODE: Final = msgpack.Decoder(Found).decode
"""From process to process several times as fast as pickled."""


class LookingFor(Struct, frozen=True):
    """What is looked for. ``words`` and ``patterns`` by kind; ``kept``: kinds that stay."""

    words: tuple[tuple[str, tuple[str, ...]], ...] = ()
    patterns: tuple[tuple[str, str], ...] = ()
    regions: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    exact_case: bool = False

    def detectors(self) -> Detectors:
        """Raises InvalidValue for a pattern that is none."""
        return Detectors(
            regions=self.regions,
            given=GivenWords(self.words, exact_case=self.exact_case) if self.words else None,
            patterns=[OwnPattern(kind, expression) for kind, expression in self.patterns],
            names=recogniser_of_names(),
            kept=self.kept,
        )


class Looked(Struct, frozen=True):
    """Some rows, and what was found in them."""

    rows: list[Row]
    found: Found = field(default_factory=dict)


def texts_of(row: Row) -> Iterator[tuple[Place, str]]:
    """Every text of a row."""
    for number, message in enumerate(row.get("messages", ())):
        yield ("messages", number), message["content"]
    for number, message in enumerate(row.get("rejected", ())):
        yield ("rejected", number), message["content"]
    if "text" in row:
        yield ("text", 0), row["text"]


def kinds_in(found: list[tuple[Place, Replaced]]) -> Counter[str]:
    """How often each kind was found in a row; the beginning that two answers share counts once."""
    shared = {(number, *replaced.pieces) for (part, number), replaced in found if part == "messages"}
    return Counter(
        one.kind
        for (part, number), replaced in found
        if part != "rejected" or (number, *replaced.pieces) not in shared
        for one in replaced.new
    )


def look_through(rows: Path, looking_for: LookingFor, *, workers: int | None = None) -> Iterator[Looked]:
    """Yield all rows in their order. ``workers``: as many as the dataset is worth; one alone is this process.

    Raises InvalidValue for a pattern, ChildFailed when a worker ends, and what reading raises.
    """
    find = looking_for.detectors().find
    workers = workers_for(rows) if workers is None else workers

    def of_worker(number: int) -> Iterator[bytes]:
        return (_ENCODE(_found_in(portion, find)) for _, portion in portions(rows, number, workers))

    if workers == 1:
        for _, portion in portions(rows, 0, 1):
            yield Looked(portion, _found_in(portion, find))
        return
    with closing(in_turn(of_worker, workers)) as found:
        for (_, portion), in_it in zip(portions(rows, 0, 1), found, strict=True):
            yield Looked(portion, _DECODE(in_it))


def _found_in(portion: list[Row], find: Find) -> Found:
    found: Found = {}
    for number, row in enumerate(portion):
        seen: dict[str, Replaced | None] = {}
        here: list[tuple[Place, Replaced]] = []
        for place, text in texts_of(row):
            if text not in seen:
                seen[text] = replace(text, find)
            replaced = seen[text]
            if replaced is not None:
                here.append((place, replaced))
        if here:
            found[number] = here
    return found
