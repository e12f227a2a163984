"""Is the disk about to be full, and when."""

from typing import ClassVar

from msgspec import field

from btmd.domain.event import Event
from btmd.domain.units import GIB, MIB
from btmd.domain.warning import CRITICAL, MachineSampled
from btmd.monitoring.detector import Latched
from btmd.monitoring.latch import Latch, above
from btmd.monitoring.robust import slope
from btmd.monitoring.watched_run import WatchedRun

LEAST_BYTES = GIB
"""Below it other programs, and the log, begin to fail."""
CHECKPOINTS_FREE = 2.2
"""One is written beside the one before; with some room for the result."""
SOON_S, NO_LONGER_SOON_S = 3600.0, 7200.0
SEEN_S = 480.0
"""A rate needs eight minutes of samples."""
FALLEN_SHARE = 0.02
"""Of what was free: less is noise of other programs."""


class DiskFilling(Latched):
    """Too little is free, or will be within the hour. What the job's own checkpoints take is no trend: it ends."""

    kind: ClassVar[str] = "disk_filling"
    severity: ClassVar[str] = CRITICAL
    latch: Latch = field(default_factory=lambda: Latch(to_raise=2, to_clear=3))

    def weigh(self, run: WatchedRun, happened: Event) -> None:
        if not isinstance(happened, MachineSampled):
            return
        free = happened.disk_free_bytes
        newest = max(run.checkpoints.values(), default=0)
        needed = max(LEAST_BYTES, CHECKPOINTS_FREE * newest + 256 * MIB)
        self.figures = {"free_bytes": free, "needed_bytes": int(needed)}
        full_in_s = self._full_in_s(run, free)
        if full_in_s is not None:
            self.figures["full_in_s"] = round(full_in_s)
        short = above(-free, raises=-needed, clears=-1.3 * needed, held=self.latch.held)
        soon = full_in_s is not None and full_in_s < (NO_LONGER_SOON_S if self.latch.held else SOON_S)
        self.latch.tell(short or soon)

    def _full_in_s(self, run: WatchedRun, free: int) -> float | None:
        points = [(seen.at_s, float(seen.sample.disk_free_bytes + seen.own_bytes)) for seen in run.samples]
        if not points or points[-1][0] - points[0][0] < SEEN_S:
            return None
        if points[0][1] - points[-1][1] < FALLEN_SHARE * points[0][1]:
            return None
        rate = slope(points)
        return free / -rate if rate < 0 else None
