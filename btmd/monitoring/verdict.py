"""Is the model better than before? Decided from what was measured, with how sure that is.

Losses are in nats, percentages of the loss before the training; a positive improvement is a fall. The thresholds are
proved on trainings whose outcome is known beforehand (benchmarks/verdict.py).
"""

import math
from typing import Final, Literal

from msgspec import Struct

Kind = Literal["better", "slightly_better", "unchanged", "worse", "overfitted", "forgot", "unmeasured"]

UNCHANGED_PERCENT: Final = 1.0
CLEAR_PERCENT: Final = 5.0
LEAST_DIFFERENCE: Final = 0.01
"""Nats. Where a loss is small already, a large part of it is still nothing that anybody would notice."""
ROSE_AGAIN_PERCENT: Final = 2.0
"""A held-out loss that ends this much above its lowest was better before: the rows were learned by heart from there."""
BY_HEART_SHARE: Final = 0.5
"""Rows that are learned by heart have at most this share of the held-out loss."""
FORGOT_PERCENT: Final = 10.0
"""By how much the loss on general knowledge rises when answers to other questions suffer noticeably."""
ONE_SIDED_95: Final = 1.645
MOSTLY_RIGHT: Final = 0.5
NEARER_BY: Final = 0.1
"""Of the words of an answer: the form alone, learned from answers to other questions, brings less."""
FEW_ANSWERS: Final = 10
"""Of fewer short answers nobody can tell whether more of them are right."""


class Measurement(Struct, frozen=True):
    """A held-out loss measured after ``step`` steps of the training."""

    step: int
    loss: float


class Evidence(Struct, frozen=True):
    """What was measured before, during and after a training; None or empty where it was not."""

    before: float | None = None
    after: float | None = None
    low: float | None = None
    """The improvement in percent lies between ``low`` and ``high`` in nine cases of ten."""
    high: float | None = None
    rows: int | None = None
    """Held-out rows that it was measured on."""
    history: tuple[Measurement, ...] = ()
    """In the order of the steps."""
    train_loss: float | None = None
    """On the rows that it learned from, over the last steps."""
    general_before: float | None = None
    """Loss on questions of general knowledge, which are in no dataset."""
    general_after: float | None = None
    answers: int = 0
    """Answers generated to held-out prompts with short answers; the next four are about these."""
    overlap_before: float | None = None
    """How much of their words they share with the data's (F1, 0 to 1)."""
    overlap_after: float | None = None
    exact_before: float | None = None
    """The share that has exactly the data's words."""
    exact_after: float | None = None


class Verdict(Struct, frozen=True):
    """What the measurements come to. ``sure``: chance alone does not explain them, at nine in ten."""

    kind: Kind
    sure: bool
    improvement_percentage: float | None
    low_percentage: float | None = None
    high_percentage: float | None = None
    overfitted_after_step: int | None = None
    """From this step on it got worse on held-out rows; the state that was kept may be a good one all the same."""
    general_change_percentage: float | None = None
    """By how much the loss on general knowledge rose (or fell, if negative)."""
    forgot: bool = False
    hardly_right: bool = False
    """The loss fell, and still short answers came no nearer to those in the data: only their form was learned."""


def judge(seen: Evidence) -> Verdict:
    """The verdict on the state that was kept."""
    improvement = improvement_percent(seen.before, seen.after)
    general = improvement_percent(seen.general_before, seen.general_after)
    change = None if general is None else -general
    forgot = change is not None and change >= FORGOT_PERCENT
    kind: Kind
    if improvement is None:
        kind = "forgot" if forgot else "unmeasured"
        return Verdict(kind, forgot, None, general_change_percentage=change, forgot=forgot)
    kind, sure = _of_held_out(improvement, seen)
    hardly_right = kind in ("better", "slightly_better") and _answers_hardly_right(seen)
    if hardly_right:
        kind = "slightly_better"
    if kind in ("worse", "unchanged") and improvement < UNCHANGED_PERCENT and _by_heart(seen):
        kind = "overfitted"
    elif forgot and kind != "worse":
        kind = "forgot"
    return Verdict(
        kind,
        sure,
        round(improvement, 2),
        low_percentage=None if seen.low is None else round(seen.low, 2),
        high_percentage=None if seen.high is None else round(seen.high, 2),
        overfitted_after_step=_rose_again_after(seen.history),
        general_change_percentage=None if change is None else round(change, 2),
        forgot=forgot,
        hardly_right=hardly_right,
    )


def improvement_percent(before: float | None, after: float | None) -> float | None:
    """By how much a loss fell, in percent; None when it was not measured or makes no sense."""
    if before is None or after is None or not before > 0:
        return None
    return 100 * (before - after) / before


def _of_held_out(improvement: float, seen: Evidence) -> tuple[Kind, bool]:
    """Better or worse only where chance does not explain it; otherwise nothing is claimed."""
    low = improvement if seen.low is None else seen.low
    high = improvement if seen.high is None else seen.high
    if seen.before is not None and seen.after is not None and abs(seen.before - seen.after) < LEAST_DIFFERENCE:
        return "unchanged", True
    if improvement >= UNCHANGED_PERCENT and low > 0:
        return ("better" if improvement >= CLEAR_PERCENT else "slightly_better"), True
    if improvement <= -UNCHANGED_PERCENT and high < 0:
        return "worse", True
    # No difference is a finding only where a clear one would have been seen.
    return "unchanged", low > -CLEAR_PERCENT and high < CLEAR_PERCENT


def _rose_again_after(history: tuple[Measurement, ...]) -> int | None:
    """The step of the lowest held-out loss, where it ends clearly above that."""
    if len(history) < 2:
        return None
    best = min(history, key=lambda one: one.loss)
    rise = 100 * (history[-1].loss - best.loss) / best.loss if best.loss > 0 else 0.0
    return best.step if rise >= ROSE_AGAIN_PERCENT else None


def _by_heart(seen: Evidence) -> bool:
    return seen.train_loss is not None and seen.after is not None and seen.train_loss <= BY_HEART_SHARE * seen.after


def _answers_hardly_right(seen: Evidence) -> bool:
    """Whether short answers were compared, enough of them, and are no nearer to the data's than chance makes them."""
    before, after, rows = seen.exact_before, seen.exact_after, seen.answers
    if before is None or after is None or rows < FEW_ANSWERS or after >= MOSTLY_RIGHT:
        return False
    # An answer of several words is seldom right to the last of them; nearer it comes all the same.
    if (seen.overlap_after or 0.0) - (seen.overlap_before or 0.0) >= NEARER_BY:
        return False
    share = (before + after) / 2
    spread = math.sqrt(2 * share * (1 - share) / rows)
    return after - before <= ONE_SIDED_95 * spread
