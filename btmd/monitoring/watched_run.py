"""A training as far as it can be told from the log: what every detector looks at."""

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from msgspec import Struct, field

from btmd.domain.event import Event
from btmd.domain.forecast import Forecast, ForecastMade, ForecastRevised
from btmd.domain.job import ENDED, STAGES, JobState, evolve
from btmd.domain.job_events import (
    AttemptStarted,
    CheckpointSaved,
    HeldOutLossMeasured,
    JobSubmitted,
    TrainingProgressed,
    TrainingShapeKnown,
    TrainingStageEntered,
)
from btmd.domain.machine import DaemonStarted
from btmd.domain.warning import MachineSampled
from btmd.monitoring.losses import LossCourse
from btmd.monitoring.paces import Paces

SAMPLES_KEPT = 61
"""Half an hour of samples, one every 30 s."""
GAPS_KEPT = 200


class Seen(NamedTuple):
    """A sample, when it was taken, and what the job's checkpoints held then."""

    at_s: float
    sample: MachineSampled
    own_bytes: int


class WatchedRun(Struct):
    """Times are seconds on a clock that stands still while the machine sleeps and does not jump."""

    job: JobState | None = None
    """As the job itself stands."""
    frozen: Mapping[str, Any] = field(default_factory=dict)
    """The trainer's plan, as it was submitted."""
    forecast: Forecast | None = None
    now_s: float = 0.0
    stage_since_s: float = 0.0
    training_since_s: float | None = None
    """When this attempt began to train; None until it does."""
    sign_s: float = 0.0
    """When the trainer was last heard of."""
    ticks: int = 0
    """Of this attempt."""
    gaps: deque[float] = field(default_factory=lambda: deque(maxlen=GAPS_KEPT))
    """Times between two signs of life of this attempt while it trained."""
    step: int = 0
    total_steps: int = 0
    resumed_from_step: int = 0
    learning_rate: float = 0.0
    tick: TrainingProgressed | None = None
    losses: LossCourse = field(default_factory=LossCourse)
    paces: Paces = field(default_factory=Paces)
    held_out: list[tuple[int, float]] = field(default_factory=list)
    """Step and loss of every measurement, the one before the training first."""
    checkpoints: dict[str, int] = field(default_factory=dict)
    """Size of those that stand, by name."""
    samples: deque[Seen] = field(default_factory=lambda: deque(maxlen=SAMPLES_KEPT))
    """Of this attempt."""
    evaluation_s: float = 0.0
    """The longest measurement so far."""
    _skipped_s: float = 0.0

    @property
    def state(self) -> str:
        return "queued" if self.job is None else self.job.state

    @property
    def asked(self) -> str:
        return "" if self.job is None else self.job.asked

    @property
    def attempt(self) -> int:
        return 0 if self.job is None else self.job.attempt

    @property
    def plan(self) -> Mapping[str, Any]:
        """The trainer's plan, with what recoveries have changed."""
        return self.frozen if self.job is None or not self.job.changes else {**self.frozen, **self.job.changes}

    @property
    def alive(self) -> bool:
        """Whether a trainer belongs to it just now."""
        return self.state in STAGES

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def trains(self) -> bool:
        return self.state == "training"

    @property
    def on_gpu(self) -> bool:
        return str(self.plan.get("device", "cpu")) != "cpu"

    @property
    def warmup_steps(self) -> int:
        return int(float(self.plan.get("warmup_ratio", 0.0)) * self.total_steps)

    @property
    def sample(self) -> MachineSampled | None:
        return self.samples[-1].sample if self.samples else None

    def is_set(self, at_us: int) -> float:
        """The time ``at_us`` on the run's own clock, which never goes back."""
        self.now_s = max(self.now_s, at_us / 1e6 - self._skipped_s)
        return self.now_s

    def see(self, happened: Event, at_us: int) -> None:
        """Take in one event, in the order of the log."""
        if isinstance(happened, MachineSampled):
            self._take_sample(happened, at_us)
            return
        now_s = self.is_set(at_us)
        if isinstance(happened, TrainingProgressed):
            self._take_tick(happened, now_s)
            self._hear(now_s)
            return
        self.job = evolve(self.job, happened)
        match happened:
            case JobSubmitted():
                self.frozen = happened.trainer_plan
            case ForecastMade() | ForecastRevised():
                self.forecast = happened.forecast
            case AttemptStarted():
                self._begin_attempt(now_s)
            case DaemonStarted():
                # Nobody listened before: what the trainer told meanwhile is still to be read.
                self.sign_s = now_s
            case TrainingStageEntered():
                self.stage_since_s = now_s
                if self.trains and self.training_since_s is None:
                    self.training_since_s = now_s
            case TrainingShapeKnown():
                self._take_shape(happened.shape)
            case HeldOutLossMeasured():
                self._take_evaluation(happened)
            case CheckpointSaved():
                self.checkpoints[happened.name] = happened.size_bytes
                for name in happened.pruned:
                    self.checkpoints.pop(name, None)
        if getattr(happened, "number", None) is not None:
            self._hear(now_s)

    def _hear(self, now_s: float) -> None:
        if self.trains and self.ticks > 1:
            self.gaps.append(now_s - self.sign_s)
        self.sign_s = now_s

    def _begin_attempt(self, now_s: float) -> None:
        self.ticks, self.tick = 0, None
        self.stage_since_s = self.sign_s = now_s
        self.training_since_s = None
        self.gaps.clear()
        self.samples.clear()
        self.paces.begin()

    def _take_shape(self, shape: Mapping[str, Any]) -> None:
        self.total_steps = int(shape.get("total_steps") or 0)
        self.resumed_from_step = self.step = int(shape.get("resumed_from_step") or 0)
        self.losses.begin(self.total_steps, self.resumed_from_step)
        self.held_out = [one for one in self.held_out if one[0] <= self.resumed_from_step]

    def _take_tick(self, tick: TrainingProgressed, now_s: float) -> None:
        self.paces.add(tick.step, tick.elapsed_s)
        self.ticks += 1
        self.tick, self.step, self.total_steps = tick, tick.step, tick.total_steps
        self.learning_rate = tick.learning_rate
        for step, loss in zip(tick.steps, tick.losses, strict=False):
            self.losses.add(step, loss)

    def _take_evaluation(self, measured: HeldOutLossMeasured) -> None:
        self.evaluation_s = max(self.evaluation_s, measured.seconds)
        if measured.when != "after":
            self.held_out.append((measured.step, measured.loss))

    def _take_sample(self, sample: MachineSampled, at_us: int) -> None:
        skipped_s = sample.suspended_s + sample.clock_jump_s
        self._skipped_s += skipped_s
        if skipped_s > 0:
            # What came after the jump, and before it was known, lies in the future now.
            self.now_s = min(self.now_s, at_us / 1e6 - self._skipped_s)
        now_s = self.is_set(at_us)
        self.sign_s = min(self.sign_s, now_s)
        self.stage_since_s = min(self.stage_since_s, now_s)
        if sample.attempt == self.attempt:
            self.samples.append(Seen(now_s, sample, sum(self.checkpoints.values())))
