"""The course of the training losses, in blocks of steps: what single rows do is left behind."""

import math
from collections import deque
from collections.abc import Sequence

from msgspec import Struct, field

from btmd.monitoring.robust import MEDIAN_ERROR, deviation, median, scale

FEWEST_IN_BLOCK, MOST_IN_BLOCK = 5, 20
BLOCKS_WANTED, MOST_BLOCKS = 25, 1000
"""A run is cut into about so many blocks, so that a short one is judged too, and a long one takes no more room."""
SMOOTHED = 3
"""Blocks whose mean counts as the loss just now."""
RECENT_STEPS = 60
FEWEST_COMPARED, MOST_COMPARED = 7, 24
WITHIN_WEIGHT = 30
STEEP_BLOCKS = 2
"""In the first ones a loss falls so steeply that it bends even over four of them, which is no chance."""


class Block(Struct, frozen=True):
    """``scale`` is the robust deviation of its single steps."""

    last_step: int
    middle: float
    scale: float


class LossCourse(Struct):
    """Losses by step. A run that goes back to a checkpoint forgets what came after it."""

    block_steps: int = MOST_IN_BLOCK
    blocks: list[Block] = field(default_factory=list)
    recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))
    smooth: list[float] = field(default_factory=list)
    """Of every block from the third on, the mean of the last three."""
    _gathered: list[float] = field(default_factory=list)

    def begin(self, total_steps: int, resumed_from_step: int) -> None:
        """An attempt goes on after ``resumed_from_step`` of ``total_steps``."""
        if not self.blocks:
            few = min(MOST_IN_BLOCK, total_steps // BLOCKS_WANTED)
            self.block_steps = max(FEWEST_IN_BLOCK, few, total_steps // MOST_BLOCKS)
        while self.blocks and self.blocks[-1].last_step > resumed_from_step:
            self.blocks.pop()
        del self.smooth[max(0, len(self.blocks) - SMOOTHED + 1) :]
        kept = [one for one in self.recent if one[0] <= resumed_from_step]
        self.recent.clear()
        self.recent.extend(kept)
        self._gathered.clear()

    def add(self, step: int, loss: float) -> None:
        """One more step; what is not a number is left out."""
        if not math.isfinite(loss):
            return
        self.recent.append((step, loss))
        self._gathered.append(loss)
        if len(self._gathered) < self.block_steps:
            return
        self.blocks.append(Block(step, median(self._gathered), scale(self._gathered)))
        self._gathered.clear()
        if len(self.blocks) >= SMOOTHED:
            self.smooth.append(sum(block.middle for block in self.blocks[-SMOOTHED:]) / SMOOTHED)

    @property
    def start(self) -> float | None:
        return self.blocks[0].middle if self.blocks else None

    @property
    def now(self) -> float | None:
        return self.smooth[-1] if self.smooth else None

    @property
    def best(self) -> float | None:
        return min(self.smooth, default=None)

    @property
    def step_scale(self) -> float:
        """How far single steps lie from their neighbours, over the last blocks that were sound."""
        return median([block.scale for block in self.blocks[-12:]]) if self.blocks else 0.0

    @property
    def block_error(self) -> float:
        """Standard error of a block's median: from its own steps and, if more, from how blocks differ from neighbours.

        A few blocks tell little of how blocks differ: their own steps count for as much as WITHIN_WEIGHT of them.
        """
        within = MEDIAN_ERROR * self.step_scale / math.sqrt(self.block_steps)
        sound = self.blocks[STEEP_BLOCKS:-SMOOTHED][-MOST_COMPARED:]
        among, count = between(sound), len(sound)
        if among <= within:
            return within
        return math.sqrt((WITHIN_WEIGHT * within**2 + count * among**2) / (WITHIN_WEIGHT + count))

    @property
    def smooth_error(self) -> float:
        return self.block_error / math.sqrt(SMOOTHED)


def between(blocks: Sequence[Block]) -> float:
    """Standard error of a block from how far four in a row lie from a parabola; 0 for too few."""
    middles = [block.middle for block in blocks]
    if len(middles) < FEWEST_COMPARED:
        return 0.0
    fours = zip(middles, middles[1:], middles[2:], middles[3:], strict=False)
    # The third difference of independent values has 1 + 9 + 9 + 1 times their variance.
    return deviation([a - 3 * b + 3 * c - d for a, b, c, d in fours]) / math.sqrt(20)
