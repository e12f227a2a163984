"""How long steps take, in pieces of half a minute: now against what this attempt could do before."""

import math
from collections import deque

from msgspec import Struct, field

from btmd.monitoring.robust import MEDIAN_ERROR, log_scale, median

PIECE_S = 30.0
RECENT_PIECES = 6
"""Three minutes, or six steps where each takes longer than half a minute."""
FEWEST_BEFORE = 6
MOST_BEFORE = 240
"""Two hours of pieces make out what is usual."""
LEAST_S = 1e-6


class Paces(Struct):
    """``recent`` are the newest pieces, ``usual`` those before them that were not called slow; seconds a step."""

    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_PIECES))
    usual: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_BEFORE))
    pieces: int = 0
    slow: bool = False
    """Whether the newest pieces are called slow; they are then no measure for what is usual."""
    _step: int = -1
    _elapsed_s: float = 0.0

    def begin(self) -> None:
        """Another attempt: its speed is its own."""
        self.recent.clear()
        self.usual.clear()
        self.pieces, self.slow, self._step = 0, False, -1

    def add(self, step: int, elapsed_s: float) -> bool:
        """A tick, with the training time of its attempt; the first one only begins. Whether a piece came of it."""
        if self._step < 0 or step <= self._step or elapsed_s < self._elapsed_s:
            self._step, self._elapsed_s = step, elapsed_s
            return False
        if elapsed_s - self._elapsed_s < PIECE_S:
            return False
        if len(self.recent) == RECENT_PIECES and not self.slow:
            self.usual.append(self.recent[0])
        self.recent.append(max(LEAST_S, (elapsed_s - self._elapsed_s) / (step - self._step)))
        self._step, self._elapsed_s = step, elapsed_s
        self.pieces += 1
        return True

    @property
    def now_s(self) -> float | None:
        """Seconds a step over the last minutes; None until they are known."""
        return median(self.recent) if len(self.recent) == RECENT_PIECES else None

    @property
    def before_s(self) -> float | None:
        return median(self.usual) if len(self.usual) >= FEWEST_BEFORE else None

    @property
    def slowdown(self) -> float | None:
        """How many times longer a step takes than was usual."""
        now, before = self.now_s, self.before_s
        return None if now is None or before is None else now / before

    @property
    def noise(self) -> float:
        """Standard error of the logarithm of ``now_s``, by how the usual pieces differ."""
        return MEDIAN_ERROR * log_scale(self.usual or self.recent) / math.sqrt(RECENT_PIECES)
