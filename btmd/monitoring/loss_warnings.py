"""A training loss that is not a number, jumps, or rises."""

import math
from collections import deque
from typing import ClassVar

from msgspec import Struct, field

from btmd.domain.event import Event
from btmd.domain.job_events import AttemptStarted, HeldOutLossMeasured, TrainingProgressed, TrainingShapeKnown
from btmd.domain.warning import CRITICAL, WARNING, Evidence, Finding
from btmd.monitoring.detector import Latched
from btmd.monitoring.latch import Latch
from btmd.monitoring.losses import SMOOTHED, LossCourse
from btmd.monitoring.robust import deviation, median, scale
from btmd.monitoring.watched_run import WatchedRun

PASSED_STEPS = 10
"""A number again so many steps beyond the one that had none: it is over."""

SPIKE_USUAL, SPIKE_FEWEST = 100, 20
SPIKE_FACTOR = 1.4
"""Times the usual loss: what lies below it does no harm, however sure it is."""
SPIKE_STEPS, SPIKE_MOST, SPIKE_SUM = 6, 5.0, 18.0
"""Single rows decide a single loss, so none counts for more than five deviations; six steps that add up to eighteen
come once in ten million even where losses are spread as widely as Student's t with four degrees of freedom."""
SPIKE_LEAST_SCALE = 0.05
SPIKE_OVER = 20
LEAST_LOSS = 1e-6
SPIKE_ACCEPTED = 100
LIMIT_EVERY = 10

RISEN_SHARE, RISEN_ERRORS = 0.25, 7
"""Above where the training began, as a share and in standard errors: the model is worse than untrained."""
FAST_FACTOR, FAST_SCALES, FAST_STEPS = 2.0, 10, 16
"""Both halves of these steps lie so high: a jump that passes by itself has passed by then."""
HIGH_SHARE, HIGH_ERRORS, HIGH_BLOCKS = 0.08, 3.2, 3
"""Above the best so far, which lies too low by itself: it is the least of many, by about sqrt(2 ln n) errors. So many
blocks running: a training that learns on falls again soon, so more blocks tell more than a higher bar."""
HIGH_CARRIED = 0.8
"""Of that height, where the median of the same blocks has to lie: one block is in three means running, and a jump of
the loss that has passed must not raise them all by itself."""


class NotANumber(Struct):
    """A loss or a gradient was not a number, here or by the word of an attempt that ended by it."""

    kind: ClassVar[str] = "not_a_number"
    figures: Evidence = field(default_factory=dict)
    step: int | None = None
    goes_on: bool = False
    """Whether the attempt that it was seen in goes on."""

    def take(self, run: WatchedRun, happened: Event) -> None:
        if getattr(happened, "reason", "") == "not_a_number":
            self._note(int(getattr(happened, "step", 0) or run.step + 1), "loss", goes_on=False)
        elif isinstance(happened, AttemptStarted):
            self.goes_on = False
        elif isinstance(happened, HeldOutLossMeasured) and not math.isfinite(happened.loss):
            self._note(happened.step, "held_out", goes_on=True)
        elif isinstance(happened, TrainingProgressed):
            self._take_tick(happened)

    def _note(self, step: int, of: str, *, goes_on: bool) -> None:
        self.step, self.figures, self.goes_on = step, {"step": step, "of": of}, goes_on

    def _take_tick(self, tick: TrainingProgressed) -> None:
        for step, loss in zip(tick.steps, tick.losses, strict=False):
            if not math.isfinite(loss):
                self._note(step, "loss", goes_on=True)
                return
        if tick.gradient_norm is not None and not math.isfinite(tick.gradient_norm):
            self._note(tick.step, "gradient", goes_on=True)
        elif self.step is not None and tick.step >= self.step + PASSED_STEPS:
            self.step = None

    def judge(self, run: WatchedRun) -> Finding | None:
        return None if self.step is None else Finding(self.kind, CRITICAL, self.figures, stops=self.goes_on)


class LossSpiking(Latched):
    """Several steps in a row lie far above what single steps usually do."""

    kind: ClassVar[str] = "loss_spiking"
    _usual: deque[float] = field(default_factory=lambda: deque(maxlen=SPIKE_USUAL))
    _heights: deque[float] = field(default_factory=lambda: deque(maxlen=SPIKE_OVER))
    _middle: float | None = None
    _scale: float = 1.0
    _since_measured: int = 0
    _in_a_row: int = 0

    def reset(self) -> None:
        Latched.reset(self)
        self._heights.clear()

    def weigh(self, run: WatchedRun, happened: Event) -> None:
        if isinstance(happened, TrainingProgressed):
            for step, loss in zip(happened.steps, happened.losses, strict=False):
                if math.isfinite(loss):
                    self._take_loss(step, loss)

    def _take_loss(self, step: int, loss: float) -> None:
        height = self._height(loss)
        self._heights.append(height)
        high = height > SPIKE_MOST / 2
        self._in_a_row = self._in_a_row + 1 if high else 0
        if self._in_a_row >= SPIKE_ACCEPTED:
            # It stays there: a jump no more, but where the loss is now.
            self._usual.clear()
            self._heights.clear()
            self._middle = None
        if not high:
            self._usual.append(loss)
            self._since_measured += 1
        if self._since_measured >= LIMIT_EVERY and len(self._usual) >= SPIKE_FEWEST:
            self._measure()
        if high and self._middle is not None:
            self.figures = {"loss": round(loss, 4), "usual": round(self._middle, 4), "step": step}
        if self.latch.held:
            self.latch.tell(any(one > SPIKE_MOST / 2 for one in self._heights))
        else:
            self.latch.tell(sum(list(self._heights)[-SPIKE_STEPS:]) >= SPIKE_SUM)

    def _measure(self) -> None:
        self._middle = median(self._usual)
        heights = [math.log(max(loss, LEAST_LOSS) / max(self._middle, LEAST_LOSS)) for loss in self._usual]
        self._scale = max(SPIKE_LEAST_SCALE, deviation(heights))
        self._since_measured = 0

    def _height(self, loss: float) -> float:
        """In deviations of the logarithm above what is usual, but for what is no harm."""
        if self._middle is None:
            return 0.0
        height = math.log(max(loss, LEAST_LOSS) / max(self._middle, LEAST_LOSS)) / self._scale
        most = SPIKE_MOST if loss > SPIKE_FACTOR * self._middle else 1.0
        return max(-2.0, min(most, height))


class LossDiverging(Latched):
    """The loss has risen clearly above where it began."""

    kind: ClassVar[str] = "loss_diverging"
    severity: ClassVar[str] = CRITICAL
    stops: ClassVar[bool] = True
    latch: Latch = field(default_factory=lambda: Latch(to_raise=1, to_clear=2))
    _blocks: int = 0
    _first: list[float] = field(default_factory=list)
    _untrained: float | None = None
    """On held-out rows."""

    def weigh(self, run: WatchedRun, happened: Event) -> None:
        if isinstance(happened, HeldOutLossMeasured) and happened.when == "before" and math.isfinite(happened.loss):
            self._untrained = happened.loss
        if not isinstance(happened, TrainingProgressed):
            return
        if len(self._first) < 3:
            self._first += [one for one in happened.losses[: 3 - len(self._first)] if math.isfinite(one)]
        course = run.losses
        if not self.latch.held and self._rises_fast(course):
            self._note(run, course, median([loss for _, loss in course.recent][-FAST_STEPS:]))
            self.latch.tell(True)
        elif len(course.blocks) != self._blocks and course.now is not None:
            self._blocks = len(course.blocks)
            self._note(run, course, course.now)
            self.latch.tell(self._has_risen(course, course.now))

    def _note(self, run: WatchedRun, course: LossCourse, now: float) -> None:
        begin, best = self._begin(course), course.best
        self.figures = {"loss": round(now, 4), "began": round(begin, 4), "step": run.step, "rate": run.learning_rate}
        if best is not None:
            self.figures["best"] = round(best, 4)

    def _begin(self, course: LossCourse) -> float:
        known = [median(self._first)] if self._first else []
        if self._first and self._untrained is not None:
            # The first step may ruin everything: then the first three losses are of the ruin, but for the very first.
            known.append(max(self._first[0], self._untrained))
        return min([*known, *([course.blocks[0].middle] if course.blocks else [])], default=math.inf)

    def _rises_fast(self, course: LossCourse) -> bool:
        newest = [loss for _, loss in course.recent][-FAST_STEPS:]
        if len(newest) < FAST_STEPS or not self._first:
            return False
        begin = self._begin(course)
        spread = course.step_scale or scale(newest)
        half = FAST_STEPS // 2
        lower = min(median(newest[:half]), median(newest[half:]))
        return lower > max(FAST_FACTOR * begin, begin + FAST_SCALES * spread)

    def _has_risen(self, course: LossCourse, now: float) -> bool:
        begin, best = course.start, course.best
        assert begin is not None
        assert best is not None
        if self.latch.held:
            # How single blocks differ says nothing any more: they climb.
            return now > begin + RISEN_SHARE / 2 * abs(begin)
        rise = max(RISEN_SHARE * abs(begin), RISEN_ERRORS * course.block_error)
        return now > begin + rise and now > best + rise


class LearningRateHigh(Latched):
    """The loss rises again from its best: steps are too long to stay there."""

    kind: ClassVar[str] = "learning_rate_high"
    severity: ClassVar[str] = WARNING
    latch: Latch = field(default_factory=lambda: Latch(to_raise=HIGH_BLOCKS, to_clear=3))
    _blocks: int = 0

    def reset(self) -> None:
        Latched.reset(self)
        self._blocks = 0

    def weigh(self, run: WatchedRun, happened: Event) -> None:
        course = run.losses
        if not isinstance(happened, (TrainingProgressed, TrainingShapeKnown)) or len(course.blocks) == self._blocks:
            return
        self._blocks = len(course.blocks)
        now, best = course.now, course.best
        if now is None or best is None:
            return
        self.figures = {"loss": round(now, 4), "best": round(best, 4), "step": run.step, "rate": run.learning_rate}
        if self.latch.held:
            self.latch.tell(now > best + HIGH_SHARE / 2 * abs(best))
            return
        errors = HIGH_ERRORS + math.sqrt(2 * math.log(max(1.0, len(course.smooth) / SMOOTHED)))
        height = max(HIGH_SHARE * abs(best), errors * course.smooth_error)
        carried = median([block.middle for block in course.blocks[-SMOOTHED:]])
        self.latch.tell(now > best + height and carried > best + HIGH_CARRIED * height)
