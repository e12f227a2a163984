"""What every detector is: it takes in events and says, at any time, whether something is wrong."""

from typing import ClassVar, Protocol

from msgspec import Struct, field

from btmd.domain.event import Event
from btmd.domain.job_events import AttemptStarted
from btmd.domain.warning import WARNING, Evidence, Finding
from btmd.monitoring.latch import Latch
from btmd.monitoring.watched_run import WatchedRun


class Detector(Protocol):
    """``figures`` are what it saw last, whether it holds or not."""

    kind: ClassVar[str]
    figures: Evidence

    def take(self, run: WatchedRun, happened: Event) -> None:
        """Take in an event that ``run`` has taken in already."""

    def judge(self, run: WatchedRun) -> Finding | None:
        """What is wrong at the run's time."""


class Latched(Struct):
    """A detector that judges when an event comes and remembers its judgement. Another attempt begins anew."""

    kind: ClassVar[str]
    severity: ClassVar[str] = WARNING
    stops: ClassVar[bool] = False
    latch: Latch = field(default_factory=Latch)
    figures: Evidence = field(default_factory=dict)

    def take(self, run: WatchedRun, happened: Event) -> None:
        if isinstance(happened, AttemptStarted):
            self.reset()
        else:
            self.weigh(run, happened)

    def weigh(self, run: WatchedRun, happened: Event) -> None:
        """Tell the latch, if the event says anything about it."""

    def reset(self) -> None:
        self.latch.reset()
        self.figures = {}

    def judge(self, run: WatchedRun) -> Finding | None:
        return Finding(self.kind, self.severity, self.figures, self.stops) if self.latch.held else None
