"""Is memory about to run out: the device's, the process's own limit, the control group's, the machine's."""

from typing import ClassVar, NamedTuple

from msgspec import field

from btmd.domain.event import Event
from btmd.domain.units import MIB
from btmd.domain.warning import CRITICAL, MachineSampled
from btmd.monitoring.detector import Latched
from btmd.monitoring.latch import Latch, above
from btmd.monitoring.robust import slope
from btmd.monitoring.watched_run import WatchedRun

USED_SHARE, NO_LONGER_SHARE = 0.93, 0.88
"""Of a limit. A trainer's use is level once every length of row was seen; the planner leaves a tenth free."""
MACHINE_SHARE, MACHINE_LEAST_BYTES, MACHINE_MOST_SHARE = 0.04, 768 * MIB, 0.1
"""What should stay available of the machine's own: below it the kernel throws out what programs need."""
DEVICE_SHARE, DEVICE_LEAST_BYTES = 0.02, 200 * MIB
"""Left free on a GPU; the allocator keeps what it once had, so that a run that fits looks nearly full."""
CLEARS = 1.5
FORETOLD_S, NO_LONGER_FORETOLD_S = 1200.0, 3600.0
SETTLED_S, SEEN_S = 480.0, 300.0
"""Memory grows at first, until every length of row was met: a trend is looked for after that."""
GROWN_SHARE = 0.1
"""Of what is left: growth below it is fragmentation."""


class Room(NamedTuple):
    """Bytes in use, the limit, and how much should stay free."""

    used: int
    limit: int
    reserve: float
    reserve_after: float

    @property
    def free(self) -> int:
        return self.limit - self.used


class MemoryRoom(Latched):
    """Nearly nothing is left, or growth foretells so within twenty minutes."""

    severity: ClassVar[str] = CRITICAL
    latch: Latch = field(default_factory=lambda: Latch(to_raise=2, to_clear=3))

    def room(self, sample: MachineSampled) -> Room | None:
        """What the sample tells of this kind of memory."""
        raise NotImplementedError

    def weigh(self, run: WatchedRun, happened: Event) -> None:
        if not isinstance(happened, MachineSampled):
            return
        room = self.room(happened)
        if room is None:
            return
        self.figures = {"used_bytes": room.used, "limit_bytes": room.limit, "process_bytes": happened.rss_bytes}
        full_in_s = self._full_in_s(run, room)
        if full_in_s is not None:
            self.figures["full_in_s"] = round(full_in_s)
        near = above(-room.free, raises=-room.reserve, clears=-room.reserve_after, held=self.latch.held)
        limit_s = NO_LONGER_FORETOLD_S if self.latch.held else FORETOLD_S
        self.latch.tell(near or (full_in_s is not None and full_in_s < limit_s))

    def _full_in_s(self, run: WatchedRun, room: Room) -> float | None:
        if run.training_since_s is None:
            return None
        begun_s = run.training_since_s + SETTLED_S
        points = [
            (seen.at_s, float(found.used))
            for seen in run.samples
            if seen.at_s >= begun_s and (found := self.room(seen.sample)) is not None
        ]
        if len(points) < 2 or points[-1][0] - points[0][0] < SEEN_S:
            return None
        if points[-1][1] - points[0][1] < GROWN_SHARE * room.free:
            return None
        rate = slope(points)
        return room.free / rate if rate > 0 else None


class DeviceMemory(MemoryRoom):
    kind: ClassVar[str] = "memory_device"

    def room(self, sample: MachineSampled) -> Room | None:
        tightest = min(sample.gpus, key=lambda gpu: gpu.total_bytes - gpu.used_bytes, default=None)
        if tightest is None:
            return None
        reserve = max(DEVICE_SHARE * tightest.total_bytes, DEVICE_LEAST_BYTES)
        return Room(tightest.used_bytes, tightest.total_bytes, reserve, CLEARS * reserve)


class ProcessMemory(MemoryRoom):
    kind: ClassVar[str] = "memory_process"

    def room(self, sample: MachineSampled) -> Room | None:
        return _limited(sample.process_bytes, sample.process_limit_bytes)


class GroupMemory(MemoryRoom):
    kind: ClassVar[str] = "memory_group"

    def room(self, sample: MachineSampled) -> Room | None:
        return _limited(sample.group_bytes, sample.group_limit_bytes)


class MachineMemory(MemoryRoom):
    kind: ClassVar[str] = "memory_machine"

    def room(self, sample: MachineSampled) -> Room | None:
        total = sample.total_bytes
        if not total:
            return None
        reserve = max(MACHINE_SHARE * total, min(MACHINE_LEAST_BYTES, MACHINE_MOST_SHARE * total))
        return Room(total - sample.available_bytes, total, reserve, CLEARS * reserve)


def _limited(used: int | None, limit: int | None) -> Room | None:
    if used is None or not limit:
        return None
    return Room(used, limit, (1 - USED_SHARE) * limit, (1 - NO_LONGER_SHARE) * limit)
