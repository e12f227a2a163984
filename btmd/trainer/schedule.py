"""The learning rate as a function of the step, so that there is no scheduler state to save or to lose."""

import math

SCHEDULES = ("cosine", "linear", "constant")


def count_warmup_steps(ratio: float, total_steps: int) -> int:
    """Warm-up steps of a run of ``total_steps``, rounded up, never all of them."""
    return max(0, min(math.ceil(ratio * total_steps), total_steps - 1))


def learning_rate_factor(schedule: str, *, step: int, warmup_steps: int, total_steps: int) -> float:
    """What the peak learning rate is multiplied with in ``step`` (counted from 0).

    After the warm-up the values are those of transformers' schedules of the same names. During it they rise by equal
    parts from 1 / (warmup_steps + 1): transformers begins with 0 and so spends its first step on nothing.
    Raises ValueError for a name not in SCHEDULES.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}")
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return 1.0
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    if schedule == "linear":
        return max(0.0, 1.0 - done)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))
