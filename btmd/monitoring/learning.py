"""Is anything learned, and is it learned by heart: flat, learning rate too low, over-fitting."""

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

from msgspec import Struct, field

from btmd.domain.event import Event
from btmd.domain.job_events import HeldOutLossMeasured, TrainingProgressed
from btmd.domain.warning import INFO, WARNING
from btmd.monitoring.detector import Latched
from btmd.monitoring.latch import Latch
from btmd.monitoring.losses import LossCourse
from btmd.monitoring.robust import median
from btmd.monitoring.watched_run import WatchedRun

JUDGED_SHARE = 0.25
"""Of the steps: before it, warm-up and the schedule may not have let anything happen."""
FEWEST_BLOCKS = 6
LITTLE_SHARE = 0.02
"""Of the loss at the start."""
SURE_ERRORS = 3
CLEAR = 0.6
"""Of the pairs of measurements: as good as all go down."""
FEWEST_MEASURED = 4
NEWEST_BENT = 6
QUARTER = 0.319
"""A quarter of normal values lie closer to their mean, in deviations."""

OVER_LEAST, OVER_MUCH = 0.02, 0.03
"""Above the best held-out loss: twice running, and the newest."""
OVER_FEW_LEAST, OVER_FEW_MUCH = 0.03, 0.05
"""While too few measurements are known to tell how much they vary by themselves."""
OVER_JITTERS, OVER_MUCH_JITTERS = 3, 5
JITTER_MEASURED = 6


class _Gain(Struct, frozen=True):
    """What was learned so far, as a share of the loss at the start; ``clear``: a way down, not chance."""

    share: float
    sure: bool
    clear: bool


def _gain(run: WatchedRun) -> _Gain | None:
    """By the held-out rows, which are the same each time; by the training loss where none are held out."""
    measured = [loss for _, loss in run.held_out]
    if measured and run.held_out[0][0] == 0:
        if len(measured) < FEWEST_MEASURED or measured[0] <= 0:
            return None
        share = (measured[0] - median(measured[-3:])) / measured[0]
        clear = share > 2 * jitter(measured) / measured[0] and concordance(measured) < -CLEAR
        return _Gain(share, sure=True, clear=clear)
    return _gain_by_training(run.losses)


def _gain_by_training(course: LossCourse) -> _Gain | None:
    if len(course.blocks) < FEWEST_BLOCKS or course.now is None or not course.start or course.start <= 0:
        return None
    middles = [block.middle for block in course.blocks]
    # Thirds, so that neither end hangs on one block.
    third = max(2, len(middles) // 3)
    early, late = sum(middles[:third]) / third, sum(middles[-third:]) / third
    error = course.block_error * math.sqrt(2 / third)
    share = max(course.start - course.now, early - late) / course.start
    doubt = SURE_ERRORS * max(error, course.smooth_error) / course.start
    return _Gain(share, sure=doubt < LITTLE_SHARE, clear=early - late > SURE_ERRORS * error)


def jitter(values: Sequence[float]) -> float:
    """By how much measurements vary by themselves, from how the newest bend; 0 for fewer than three.

    From the least bends, as a curve that really bends, downwards and then up, has large ones too.
    """
    newest = values[-NEWEST_BENT:]
    bends = sorted(abs(a - 2 * b + c) for a, b, c in zip(newest, newest[1:], newest[2:], strict=False))
    # The second difference of independent values has six times their variance.
    return bends[len(bends) // 4] / QUARTER / math.sqrt(6) if bends else 0.0


def concordance(values: Sequence[float]) -> float:
    """Of all pairs, the share in which the later is greater, less that in which it is smaller (Kendall's tau)."""
    pairs = list(itertools.combinations(values, 2))
    return sum((b > a) - (b < a) for a, b in pairs) / len(pairs)


class _Learning(Latched):
    """What both detectors share: when they judge, and what they say."""

    latch: Latch = field(default_factory=lambda: Latch(to_raise=2, to_clear=2))
    _seen: tuple[int, int] = (0, 0)

    def weigh(self, run: WatchedRun, happened: Event) -> None:
        if not isinstance(happened, (TrainingProgressed, HeldOutLossMeasured)):
            return
        seen = (len(run.losses.blocks), len(run.held_out))
        if seen == self._seen:
            return
        self._seen = seen
        gain = _gain(run)
        judged = run.total_steps > 0 and run.step >= max(JUDGED_SHARE * run.total_steps, 2 * run.warmup_steps)
        if gain is None or not judged or len(run.losses.blocks) < FEWEST_BLOCKS:
            return
        self.figures = {"gain_percent": round(100 * gain.share, 2), "step": run.step, "rate": run.learning_rate}
        self.latch.tell(self.holds(gain))

    def holds(self, gain: _Gain) -> bool:
        """Whether so little was learned as this detector is about."""
        raise NotImplementedError


class LossFlat(_Learning):
    """Nothing is learned."""

    kind: ClassVar[str] = "loss_flat"

    def holds(self, gain: _Gain) -> bool:
        return gain.sure and gain.share < LITTLE_SHARE and not gain.clear


class LearningRateLow(_Learning):
    """Something is learned, steadily, but next to nothing will have come of it at the end."""

    kind: ClassVar[str] = "learning_rate_low"
    severity: ClassVar[str] = INFO

    def holds(self, gain: _Gain) -> bool:
        return gain.sure and 0 < gain.share < LITTLE_SHARE and gain.clear


class OverFitting(Latched):
    """The training loss falls on while the held-out loss rises."""

    kind: ClassVar[str] = "over_fitting"
    severity: ClassVar[str] = WARNING
    _train: dict[int, float] = field(default_factory=dict)
    """The smoothed training loss at each measurement's step."""

    def weigh(self, run: WatchedRun, happened: Event) -> None:
        if not isinstance(happened, HeldOutLossMeasured) or happened.when != "during":
            return
        if run.losses.now is not None:
            self._train[happened.step] = run.losses.now
        losses = [loss for _, loss in run.held_out]
        best_at = min(range(len(losses)), key=losses.__getitem__)
        best_step, best = run.held_out[best_at]
        newest = losses[-1]
        self.figures = {
            "held_out": round(newest, 4),
            "best": round(best, 4),
            "best_step": best_step,
            "step": happened.step,
        }
        least, much = self._limits(losses, best)
        if self.latch.held:
            self.latch.tell(newest > best + least / 2)
            return
        rising = len(losses) - best_at > 2 and min(losses[-2:]) > best + least and newest > best + much
        still_rising = len(losses) > 1 and newest > losses[-2]
        self.latch.tell(rising and still_rising and self._learns_on(best_step, happened.step))

    def _limits(self, losses: list[float], best: float) -> tuple[float, float]:
        if len(losses) < JITTER_MEASURED:
            return OVER_FEW_LEAST * best, OVER_FEW_MUCH * best
        varies = jitter(losses)
        return max(OVER_LEAST * best, OVER_JITTERS * varies), max(OVER_MUCH * best, OVER_MUCH_JITTERS * varies)

    def _learns_on(self, best_step: int, step: int) -> bool:
        before, now = self._train.get(best_step), self._train.get(step)
        return before is None or now is None or now < before
