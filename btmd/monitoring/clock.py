"""The clock was set, or the machine slept: told for a while, since nothing about it goes on."""

from typing import ClassVar

from msgspec import Struct, field

from btmd.domain.event import Event
from btmd.domain.warning import INFO, Evidence, Finding, MachineSampled
from btmd.monitoring.watched_run import WatchedRun

TOLD_S = 600.0
LEAST_JUMP_S = 30.0
"""Time servers mend smaller differences by letting the clock run slower."""
LEAST_SLEEP_S = 60.0
"""A busy machine may keep the daemon from looking for as long as that."""


class Momentary(Struct):
    """Something that has happened rather than is: withdrawn by itself."""

    kind: ClassVar[str]
    figures: Evidence = field(default_factory=dict)
    since_s: float | None = None

    def take(self, run: WatchedRun, happened: Event) -> None:
        if isinstance(happened, MachineSampled) and (seen := self.seen(happened)):
            self.figures, self.since_s = {**seen, "step": run.step}, run.now_s

    def seen(self, sample: MachineSampled) -> Evidence:
        """The figures, where the sample tells of it."""
        raise NotImplementedError

    def judge(self, run: WatchedRun) -> Finding | None:
        if self.since_s is None or run.now_s - self.since_s > TOLD_S:
            return None
        return Finding(self.kind, INFO, self.figures)


class ClockJumped(Momentary):
    kind: ClassVar[str] = "clock_jumped"

    def seen(self, sample: MachineSampled) -> Evidence:
        jump_s = sample.clock_jump_s
        return {"jump_s": round(jump_s, 1)} if abs(jump_s) >= LEAST_JUMP_S else {}


class Suspended(Momentary):
    kind: ClassVar[str] = "suspended"

    def seen(self, sample: MachineSampled) -> Evidence:
        slept_s = sample.suspended_s
        return {"slept_s": round(slept_s, 1)} if slept_s >= LEAST_SLEEP_S else {}
