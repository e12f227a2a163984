"""Held-out losses row by row: before and after are compared on the same rows, and chance is told from learning."""

import hashlib
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from btmd.files.durable import write_atomically

FEWEST_ROWS = 5
"""Of fewer nobody can say how much others like them would differ."""
_RESAMPLES, _FEWEST_RESAMPLES = 2000, 200
_DRAWS = 20_000_000
"""In all: about a second. Of very many rows fewer resamples do, since they hardly differ."""
_AT_ONCE = 2_000_000
_TAIL = 0.05


class RowLosses(msgspec.Struct, frozen=True):
    """For each line of the dataset the sum of its losses, and over how many tokens or pairs; ascending lines."""

    lines: tuple[int, ...]
    losses: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def gathered(cls, lines: Sequence[int], losses: Sequence[float], counts: Sequence[int]) -> "RowLosses":
        """From parts in any order; a line may have several."""
        names, places = np.unique(np.array(lines, np.int64), return_inverse=True)
        sums = np.bincount(places, np.array(losses, np.float64), len(names))
        totals = np.bincount(places, np.array(counts, np.float64), len(names)).astype(np.int64)
        return cls(tuple(names.tolist()), tuple(sums.tolist()), tuple(totals.tolist()))

    @property
    def mean(self) -> float:
        """The loss per token or pair."""
        return float(np.sum(self.losses)) / max(1, sum(self.counts))

    def only(self, lines: Collection[int]) -> "RowLosses":
        """Those of some lines."""
        kept = [place for place, line in enumerate(self.lines) if line in lines]
        return RowLosses(
            tuple(self.lines[place] for place in kept),
            tuple(self.losses[place] for place in kept),
            tuple(self.counts[place] for place in kept),
        )


class HeldOutRows(msgspec.Struct):
    """What is kept of the measurements: before training, and of the best state so far, which was after ``step``."""

    before: RowLosses | None = None
    after: RowLosses | None = None
    step: int = 0


class ImprovementRange(NamedTuple):
    """Percent of the loss before; nine times in ten other rows of this kind would give something from low to high."""

    low: float
    high: float
    rows: int


def read_held_out(path: Path) -> HeldOutRows:
    """What an earlier attempt has kept; nothing where there is none or it is damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=HeldOutRows)
    except (FileNotFoundError, msgspec.DecodeError):
        return HeldOutRows()


def write_held_out(path: Path, held_out: HeldOutRows) -> None:
    """Raises OSError."""
    write_atomically(path, msgspec.json.encode(held_out))


def improvement_range(before: RowLosses, after: RowLosses, *, name: str) -> ImprovementRange | None:
    """By bootstrap over the rows measured both times; None for too few. The draws follow from ``name`` alone."""
    both = set(before.lines) & set(after.lines)
    first, last = before.only(both), after.only(both)
    rows = len(both)
    if rows < FEWEST_ROWS or not first.mean > 0:
        return None
    # Each time as many rows are drawn, with repeats; a row counts with all its tokens.
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    draws = np.random.default_rng(seed)
    gains: list[NDArray[np.float64]] = []
    sums = np.array([first.losses, last.losses, last.counts, first.counts], np.float64)
    resamples = max(_FEWEST_RESAMPLES, min(_RESAMPLES, _DRAWS // rows))
    at_once = max(1, min(resamples, _AT_ONCE // rows))
    for _ in range(-(-resamples // at_once)):
        drawn = draws.integers(rows, size=(at_once, rows))
        lost, left, tokens, tokens_before = (column[drawn].sum(axis=1) for column in sums)
        gains.append(100 * (1 - (left / tokens) / (lost / tokens_before)))
    low, high = np.quantile(np.concatenate(gains), (_TAIL, 1 - _TAIL))
    middle = 100 * (1 - last.mean / first.mean)
    wider = _few_rows_factor(rows)
    return ImprovementRange(middle - wider * (middle - float(low)), middle + wider * (float(high) - middle), rows)


def _few_rows_factor(rows: int) -> float:
    """By how much the range of so few rows is too narrow: 1.45 for five, 1.05 for thirty.

    A bootstrap takes the rows' own spread for that of all rows, and the normal distribution for Student's; the latter's
    quantile is its expansion by the degrees of freedom (Cornish and Fisher).
    """
    freedom = rows - 1
    return (1 + 0.926 / freedom + 0.863 / freedom**2) * math.sqrt(rows / freedom)
