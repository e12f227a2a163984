"""What is different between the rows of two versions; where a row stands does not count."""

from array import array
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from btmd.data.row_chunks import RowsFile
from btmd.data.rows import content_key, decode_row
from btmd.inspection.facts import DifferenceFacts

_LISTED: Final = 100
_PROGRESS_EVERY: Final = 2000

Progress = Callable[[float, str], None]


def difference(before: Path, after: Path, progress: Progress) -> DifferenceFacts:
    """Compare two versions' rows; chunks that both have are not read. Raises FileMissing, Damaged."""
    first, second = RowsFile(before), RowsFile(after)
    shared = Counter(chunk.sha256 for chunk in first.chunks or ()) & Counter(
        chunk.sha256 for chunk in second.chunks or ()
    )
    rows_of = {chunk.sha256: chunk.rows for chunk in first.chunks or ()}
    same = sum(rows_of[sha256] * count for sha256, count in shared.items())
    old, old_lines = _keys(first, shared, lambda done: progress(done * 0.5, "Comparing the rows"))
    new, new_lines = _keys(second, shared, lambda done: progress(0.5 + done * 0.5, "Comparing the rows"))
    added, removed = _without(new, old), _without(old, new)
    return DifferenceFacts(
        rows_added=int(added.sum()),
        rows_removed=int(removed.sum()),
        rows_unchanged=same + len(new) - int(added.sum()),
        added_lines=tuple(new_lines[added][:_LISTED].tolist()),
        removed_lines=tuple(old_lines[removed][:_LISTED].tolist()),
    )


def _keys(
    rows: RowsFile, shared: Counter[str], tell: Callable[[float], None]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    keys, lines = array("Q"), array("q")
    total = max(1, rows.size_bytes)
    done = 0
    for number, (stored, base) in enumerate(rows.lines(without=shared)):
        row = decode_row(stored, base)
        done += len(stored)
        if number % _PROGRESS_EVERY == 0:
            tell(min(1.0, done / total))
        digest = blake2b(content_key(row), digest_size=8, person=row.get("split", "").encode()).digest()
        keys.append(int.from_bytes(digest, "little"))
        lines.append(row["line"])
    return np.array(keys, np.uint64), np.array(lines, np.int64)


def _without(rows: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of ``rows`` have no counterpart in ``others``; of repeated ones the last."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    repeats = np.arange(len(rows)) - np.searchsorted(ordered, ordered, side="left")
    counterparts = np.sort(others)
    count = np.searchsorted(counterparts, ordered, side="right") - np.searchsorted(counterparts, ordered, side="left")
    found = np.zeros(len(rows), bool)
    found[order] = repeats >= count
    return found
