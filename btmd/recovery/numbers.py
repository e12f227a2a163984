"""A training whose figures run away: skip the rows that did it, then slow down, then compute more exactly."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from btmd.domain.job_state import Trouble
from btmd.recovery.decisions import Failure, Limits, Retry

ROWS_ORDER = ("skip_rows", "skip_rows", "lower_rate", "exact_precision", "skip_rows", "lower_rate")
"""Tried in turn when rows are known: bad rows are the commonest cause, and lowering the rate does not mend them."""
RATE_ORDER = ("lower_rate", "lower_rate", "exact_precision", "lower_rate", "lower_rate", "lower_rate")
EARLY_SHARE = 0.1
"""A training that runs away within this share of its steps learns much too fast, not a little."""
GENTLE, STEEP = 0.5, 0.1
LEAST_SHARE = 1e-5
"""Of the planned rate; below it nothing is learned any more."""
QUARANTINED_BATCHES = 8
"""At most so many steps' rows are left out in all: where more are bad, it is not the rows."""


def steadier(failure: Failure, before: Sequence[Trouble], plan: Mapping[str, Any], limits: Limits) -> Retry | None:
    """The next thing to try; None when nothing is left. ``before`` are the failures of this kind without progress."""
    order = ROWS_ORDER if failure.rows else RATE_ORDER
    early = limits.total_steps > 0 and failure.step <= EARLY_SHARE * limits.total_steps
    back = _from_before(failure, before, limits, early=early)
    possible: dict[str, Callable[[], Retry | None]] = {
        "skip_rows": lambda: _skip_rows(failure, plan, back),
        "lower_rate": lambda: _lower_rate(before, plan, limits, back, early=early),
        "exact_precision": lambda: _exact(plan, back),
    }
    start = len(before)
    for action in (*order[start:], "lower_rate", "exact_precision", "skip_rows"):
        found = possible[action]()
        if found is not None and not any(_again(one, found) for one in before[-1:]):
            return found
    return None


def _again(trouble: Trouble, found: Retry) -> bool:
    return trouble.action == found.action and trouble.changes == found.changes


def _skip_rows(failure: Failure, plan: Mapping[str, Any], back: Mapping[str, Any]) -> Retry | None:
    quarantined = tuple(int(row) for row in plan.get("quarantined_rows") or ())
    rows = tuple(sorted(set(failure.rows) - set(quarantined)))
    most = QUARANTINED_BATCHES * int(plan["batch_size"])
    if not rows or len(quarantined) + len(rows) > most:
        return None
    changes: dict[str, Any] = {"quarantined_rows": [*quarantined, *rows], **back}
    return Retry("skip_rows", changes, {"rows": rows, "step": failure.step})


def _lower_rate(
    before: Sequence[Trouble], plan: Mapping[str, Any], limits: Limits, back: Mapping[str, Any], *, early: bool
) -> Retry | None:
    rate = float(plan["learning_rate"])
    lowered = any(one.action == "lower_rate" for one in before)
    now = float(f"{rate * (STEEP if early or lowered else GENTLE):.3g}")
    if now < LEAST_SHARE * limits.planned_rate or not 0 < now < rate:
        return None
    return Retry("lower_rate", {"learning_rate": now, **back}, {"before": rate, "now": now})


def _exact(plan: Mapping[str, Any], back: Mapping[str, Any]) -> Retry | None:
    precision = str(plan["precision"])
    if precision == "fp32" or plan.get("training_type") == "qlora_adaptation":
        return None
    return Retry("exact_precision", {"precision": "fp32", **back}, {"before": precision})


def _from_before(failure: Failure, before: Sequence[Trouble], limits: Limits, *, early: bool) -> dict[str, Any]:
    """Begin at a checkpoint from before it went wrong.

    Rows that give no number change nothing, so what was saved before them is good. Without such rows the weights have
    run away, and like a loss that rises they did so before it was noticed: then the best state by the held-out rows
    counts, and early or for the second time the start.
    """
    if failure.step <= 0:
        return {}
    if failure.reason == "not_a_number" and failure.rows:
        return {"resume_before_step": failure.step}
    if early or before or limits.best_step is None:
        return {"resume_before_step": 1}
    return {"resume_before_step": min(failure.step, limits.best_step + 1)}
