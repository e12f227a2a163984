"""How good a version's rows are: each looked at by itself, and all compared for duplicates and leaks."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from btmd.data.near_duplicates import Groups, SignatureFile, groups_of
from btmd.data.rows import row_key
from btmd.inspection.quality_facts import LISTED, Listed, QualityFacts
from btmd.inspection.requests import aside
from btmd.inspection.row_faults import Look
from btmd.inspection.workers import Done, in_workers, portions, workers_for

_PLACE: Final = np.dtype([("row", "<i8"), ("line", "<i8"), ("prompt", "<u8"), ("held_out", "?")])
_BLOCK: Final = 1 << 16
_LOOKING_SHARE: Final = 0.85

Progress = Callable[[float, str], None]


def examine(rows_path: Path, groups_path: Path, *, rows_total: int, progress: Progress) -> QualityFacts:
    """Look at every row; the rows that say the same are written to ``groups_path``, whole or not at all.

    Raises OSError, ChildFailed.
    """
    workers = workers_for(rows_path)
    folder = groups_path.parent
    done = 0

    def on_done(rows: int) -> None:
        nonlocal done
        done += rows
        progress(_LOOKING_SHARE * done / max(1, rows_total), f"{done:,} rows looked at")

    with ExitStack() as stack:
        signed = [SignatureFile(folder) for _ in range(workers)]
        places = [stack.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in range(workers)]

        def look(worker: int, on_rows: Done) -> Look:
            return _look(rows_path, worker, workers, signed[worker], places[worker], on_rows)

        first, *others = in_workers(look, workers, on_done)
        for other in others:
            first.merge(other)
        groups = groups_of(
            signed,
            folder,
            lambda share: progress(_LOOKING_SHARE + (1 - _LOOKING_SHARE) * share, "Comparing the rows"),
        )
        found = _repeats(groups, places) | _leaks(groups, places) | first.found()
    _keep(groups, groups_path)
    return QualityFacts(
        rows=first.rows,
        found=found,
        answers=first.answers,
        distinct_answers=None if first.said_forgotten else len(first.said),
        languages={language: some.count for language, some in sorted(first.languages.items())},
        minor_languages=first.minor_languages,
        median_chars=first.median_chars,
        longest_share=first.longest_share,
        similar_groups=len(np.unique(groups.leaders)),
    )


def _look(rows_path: Path, worker: int, workers: int, signed: SignatureFile, places: IO[bytes], on_rows: Done) -> Look:
    seen = Look()
    for first, rows in portions(rows_path, worker, workers):
        noted = np.zeros(len(rows), _PLACE)
        for index, row in enumerate(rows):
            seen.take(row)
            signed.take(first + index, row)
            prompt = int.from_bytes(row_key(row)[:8], "little")
            noted[index] = (first + index, row["line"], prompt, row.get("split") == "held_out")
        places.write(noted.tobytes())
        on_rows(len(rows))
    places.flush()
    signed.flush()
    return seen


def _repeats(groups: Groups, places: Sequence[IO[bytes]]) -> dict[str, Listed]:
    found = {}
    for kind, rows in (("duplicates", groups.rows[groups.exact]), ("near_duplicates", groups.rows[~groups.exact])):
        if len(rows):
            found[kind] = Listed(len(rows), _lines(rows[:LISTED], places))
    return found


def _leaks(groups: Groups, places: Sequence[IO[bytes]]) -> dict[str, Listed]:
    """Rows that are trained on although the source holds their prompt or their like out."""
    rows = leaked_rows(groups, places)
    return {"leaked": Listed(len(rows), _lines(rows[:LISTED], places))} if len(rows) else {}


def leaked_rows(groups: Groups, places: Sequence[IO[bytes]]) -> NDArray[np.int64]:
    """The numbers of those rows, ascending."""
    if not any(block["held_out"].any() for block in _blocks(places)):
        return np.zeros(0, np.int64)
    held_out, prompts = np.zeros(groups.total, bool), np.zeros(groups.total, np.uint64)
    for block in _blocks(places):
        held_out[block["row"]], prompts[block["row"]] = block["held_out"], block["prompt"]
    labels = groups.labels()
    leaks = np.isin(labels, labels[held_out]) | np.isin(prompts, prompts[held_out])
    return np.flatnonzero(~held_out & leaks)


def _lines(rows: NDArray[np.int64], places: Sequence[IO[bytes]]) -> tuple[int, ...]:
    """Where some rows begin in the source."""
    found: list[int] = []
    for block in _blocks(places):
        found += block["line"][np.isin(block["row"], rows)].tolist()
    return tuple(sorted(found))


def _blocks(places: Sequence[IO[bytes]]) -> Iterator[NDArray[np.void]]:
    for file in places:
        file.seek(0)
        while len(read := file.read(_BLOCK * _PLACE.itemsize)):
            yield np.frombuffer(read, _PLACE)


def _keep(groups: Groups, path: Path) -> None:
    part = Path(aside(str(path)))
    try:
        with part.open("wb") as file:
            groups.save(file)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
