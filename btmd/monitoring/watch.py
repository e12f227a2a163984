"""The fold over a job's part of the log: what is wrong with its training now.

Everything it knows comes from events and the time it is asked at, so that any past training can be watched again by a
newer release, and a daemon that was restarted goes on where it was.
"""

from btmd.domain.event import Event
from btmd.domain.warning import Evidence, Finding
from btmd.monitoring.clock import ClockJumped, Suspended
from btmd.monitoring.detector import Detector
from btmd.monitoring.disk_room import DiskFilling
from btmd.monitoring.learning import LearningRateLow, LossFlat, OverFitting
from btmd.monitoring.liveness import Hung, Stalled
from btmd.monitoring.loss_warnings import LearningRateHigh, LossDiverging, LossSpiking, NotANumber
from btmd.monitoring.memory_room import DeviceMemory, GroupMemory, MachineMemory, ProcessMemory
from btmd.monitoring.speed import DataStarved, GpuShared, ProcessorShared, Slow, Throttled
from btmd.monitoring.watched_run import WatchedRun

DETECTORS: tuple[type[Detector], ...] = (
    NotANumber,
    LossDiverging,
    Hung,
    Stalled,
    DeviceMemory,
    ProcessMemory,
    GroupMemory,
    MachineMemory,
    DiskFilling,
    LossSpiking,
    LearningRateHigh,
    OverFitting,
    LossFlat,
    LearningRateLow,
    Slow,
    Throttled,
    GpuShared,
    ProcessorShared,
    DataStarved,
    Suspended,
    ClockJumped,
)
"""The gravest first: that is the order in which they are told."""

KINDS = tuple(detector.kind for detector in DETECTORS)

OUTLIVES_ATTEMPT = ("not_a_number",)
"""Told on while no trainer lives: it is why the one before ended."""

COVERED = {
    "stalled": ("hung",),
    "learning_rate_high": ("loss_diverging",),
    "loss_spiking": ("loss_diverging",),
    "loss_flat": ("loss_diverging", "learning_rate_high", "over_fitting"),
    "slow": ("hung", "stalled"),
}
"""What says nothing more beside another finding."""


class Watch:
    """One job's. ``see`` takes in its events in the order of the log."""

    def __init__(self) -> None:
        self.run = WatchedRun()
        self._detectors: list[Detector] = [detector() for detector in DETECTORS]

    def see(self, happened: Event, at_us: int) -> None:
        """Take in one event; ``at_us`` is the clock as it was read then."""
        self.run.see(happened, at_us)
        for detector in self._detectors:
            detector.take(self.run, happened)

    def look(self, now_us: int) -> tuple[Finding, ...]:
        """All that is wrong at ``now_us``, the gravest first."""
        if self.run.ended:
            return ()
        self.run.is_set(now_us)
        found = {one.kind: one for detector in self._detectors if (one := self._judged(detector)) is not None}
        return tuple(one for kind, one in found.items() if not any(other in found for other in COVERED.get(kind, ())))

    def _judged(self, detector: Detector) -> Finding | None:
        if not self.run.alive and detector.kind not in OUTLIVES_ATTEMPT:
            return None
        return detector.judge(self.run)

    def figures(self) -> dict[str, Evidence]:
        """What each detector saw last, by kind."""
        return {detector.kind: dict(detector.figures) for detector in self._detectors if detector.figures}
