"""The micro-batches that a run will compute: how large they are, and which shapes they bring. No step is taken here."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from btmd.data.sequences import Rows, micro_batches, rows_of_step
from btmd.trainer.cost import Cost
from btmd.trainer.model import Implementation
from btmd.trainer.model.layout import bucket, round_up
from btmd.trainer.model.products import BLOCK, STEP

MOST_STEPS = 400
"""Looked at, spread evenly over the run; more do not tell more."""

_PLAIN_BUCKET = 64

Shape = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Portion:
    """One micro-batch: indices of its rows, their tokens, and the lengths at which something is computed for it."""

    members: tuple[int, ...]
    tokens: int
    shapes: frozenset[Shape]


@dataclass(frozen=True, slots=True)
class Workload:
    """``portions`` stand for all micro-batches of the run, each for ``weight`` of them."""

    portions: tuple[Portion, ...]
    weight: float

    @property
    def heaviest(self) -> Portion:
        return max(self.portions, key=lambda one: one.tokens)

    @property
    def shapes(self) -> frozenset[Shape]:
        return frozenset().union(*(one.shapes for one in self.portions))

    def seconds(self, cost: Cost) -> float:
        """What all micro-batches of the run take."""
        return self.weight * sum(cost.seconds(portion.tokens) for portion in self.portions)

    def spread(self, count: int) -> list[Portion]:
        """Up to ``count`` portions from small to large, as they are distributed, the heaviest left out."""
        ordered = sorted(self.portions, key=lambda one: one.tokens)
        places = [round((index + 0.5) / count * (len(ordered) - 1)) for index in range(count)]
        return [ordered[place] for place in dict.fromkeys(places)]


def workload_of(
    rows: Rows, *, batch_size: int, micro_batch_size: int, seed: int, total_steps: int, implementation: Implementation
) -> Workload:
    """All micro-batches of the run, or of MOST_STEPS of its steps."""
    chosen = np.unique(np.linspace(0, total_steps - 1, min(total_steps, MOST_STEPS)).round().astype(int))
    portions = [
        portion
        for step in chosen
        for portion in _portions(
            rows,
            rows_of_step(rows, step=int(step), batch_size=batch_size, seed=seed),
            micro_batch_size,
            implementation,
        )
    ]
    return Workload(tuple(portions), total_steps / len(chosen))


def portion_of(rows: Rows, members: Sequence[int], implementation: Implementation) -> Portion:
    """The portion made of these rows."""
    numbers = [number for member in members for number in rows.sequences(member)]
    lengths = [int(rows.offsets[number + 1] - rows.offsets[number]) for number in numbers]
    learned = int(rows.learned_counts[list(members)].sum())
    shapes = _fused_shapes(lengths, learned) if implementation == "fused" else _plain_shapes(lengths, learned)
    return Portion(tuple(members), sum(lengths), frozenset(shapes))


def _portions(
    rows: Rows, members: NDArray[np.int64], micro_batch_size: int, implementation: Implementation
) -> Iterator[Portion]:
    for together in micro_batches(members, micro_batch_size):
        yield portion_of(rows, [int(one) for one in together], implementation)


def _fused_shapes(lengths: Sequence[int], learned: int) -> Iterator[Shape]:
    """Pieces of the flat axis and of the vocabulary's, and the places of each row: see products.py and layout.py."""
    ends = list(itertools.accumulate(lengths))
    places = round_up(max(end - length + bucket(length) for end, length in zip(ends, lengths, strict=True)), STEP)
    for kind, length in (("flat", places), ("head", round_up(max(learned, 1), STEP))):
        for first in range(0, length, BLOCK):
            yield kind, min(BLOCK, length - first)
    yield from (("row", bucket(length)) for length in lengths)


def _plain_shapes(lengths: Sequence[int], learned: int) -> Iterator[Shape]:
    """Rows padded to the longest: their number and length together make the shape."""
    longest = round_up(max(lengths), _PLAIN_BUCKET)
    yield f"rows of {longest}", len(lengths)
    yield "head", round_up(max(learned, 1), _PLAIN_BUCKET)


def covering(portions: Sequence[Portion], seen: frozenset[Shape]) -> Iterator[Portion]:
    """Portions that together have every shape that is not in ``seen``, each time the one with most of them a token."""
    left = [one for one in portions if not one.shapes <= seen]
    known = set(seen)
    while left:
        best = max(left, key=lambda one: (len(one.shapes - known) / one.tokens, -one.tokens))
        known |= best.shapes
        yield best
        left = [one for one in left if not one.shapes <= known]
