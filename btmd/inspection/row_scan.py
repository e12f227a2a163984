"""Rows looked through for personal data on all processors, and handed on in their order."""

import ctypes
import multiprocessing
import os
import signal
import traceback
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final, NoReturn

from msgspec import Struct, field

from btmd.data.rows import Row
from btmd.errors import BtmdError, ChildFailed, all_errors
from btmd.inspection.recogniser import recogniser_of_names
from btmd.inspection.workers import portions, workers_for
from btmd.privacy.detectors import Detectors
from btmd.privacy.given import GivenWords
from btmd.privacy.masked import Find, Replaced, replace
from btmd.privacy.own_patterns import OwnPattern

Place = tuple[str, int]
"""Where in a row: ``messages`` or ``rejected`` and the number of the turn, or ``text`` and 0."""
Found = dict[int, list[tuple[Place, Replaced]]]
"""By the number of a row in its portion, what was found in its texts; rows without anything are not there."""
_DIE_WITH_PARENT: Final = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


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
    if workers == 1:
        for _, portion in portions(rows, 0, 1):
            yield Looked(portion, _found_in(portion, find))
        return
    started = [_start(rows, number, workers, find) for number in range(workers)]
    try:
        for turn, (_, portion) in enumerate(portions(rows, 0, 1)):
            yield Looked(portion, _received(started[turn % workers][1]))
    finally:
        for process, connection in started:
            process.kill()
            process.join()
            connection.close()


def _received(connection: Connection) -> Found:
    try:
        what, value = connection.recv()
    except EOFError:
        raise ChildFailed(
            "A process that looked through the rows ended before it was done.",
            hint="If memory is short, close other programs and try again.",
        ) from None
    if what == "found":
        found: Found = value
        return found
    code, detail, hint = value
    raise all_errors().get(code, ChildFailed)(detail, hint=hint)


def _start(rows: Path, number: int, workers: int, find: Find) -> tuple[BaseProcess, Connection]:
    # Forked: it begins at once, with the patterns compiled here. Results go one way only, so none waits for the other.
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(rows, number, workers, find, there, os.getpid()), daemon=True)
    process.start()
    there.close()
    return process, here


def _work(rows: Path, number: int, workers: int, find: Find, connection: Connection, parent: int) -> NoReturn:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    try:
        for _, portion in portions(rows, number, workers):
            connection.send(("found", _found_in(portion, find)))
    except BtmdError as error:
        connection.send(("refused", (error.code, error.detail, error.hint)))
    # The parent waits for an answer, whatever happened; the text of a row may stand in the error and is not passed on.
    except Exception as error:  # noqa: BLE001
        traceback.print_tb(error.__traceback__)
        said = f"Looking through the rows failed in a way nobody thought of ({type(error).__name__})."
        connection.send(("refused", (ChildFailed.code, said, "Please report it.")))
    os._exit(0)


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
