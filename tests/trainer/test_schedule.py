"""The learning rate is a function of the step."""

import pytest
import torch
from transformers import get_scheduler

from btmd.trainer.schedule import count_warmup_steps, learning_rate_factor


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant_with_warmup"])
@pytest.mark.parametrize(("warmup", "total"), [(0, 7), (3, 20), (1, 2)])
def test_after_the_warm_up_the_values_are_transformers_own(schedule: str, warmup: int, total: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler(schedule, optimizer, num_warmup_steps=warmup, num_training_steps=total)
    ours = schedule.removesuffix("_with_warmup")
    for step in range(total):
        if step >= warmup:
            expected = theirs.get_last_lr()[0]
            found = learning_rate_factor(ours, step=step, warmup_steps=warmup, total_steps=total)
            assert found == pytest.approx(expected, abs=1e-12)
        optimizer.step()
        theirs.step()


def test_the_warm_up_rises_by_equal_parts_and_wastes_no_step() -> None:
    factors = [learning_rate_factor("cosine", step=step, warmup_steps=4, total_steps=20) for step in range(5)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize(("ratio", "total", "expected"), [(0.1, 25, 3), (0.0, 25, 0), (1.0, 5, 4), (0.5, 1, 0)])
def test_warm_up_steps_are_a_share_of_the_real_number(ratio: float, total: int, expected: int) -> None:
    assert count_warmup_steps(ratio, total) == expected


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="zigzag"):
        learning_rate_factor("zigzag", step=0, warmup_steps=0, total_steps=1)
