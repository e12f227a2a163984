"""SIGKILL at any step: the next attempt goes on from the last checkpoint with exactly the same numbers.

Two kills of a small run each; ten of a longer one with BTMD_PROOF=1.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from btmd.frames import Finished
from tests.trainer.here import only, train_here
from tests.trainer.job import frames_of, full_fine_tune, kill_at_step, losses_of, make_job

KILLS = 10 if os.environ.get("BTMD_PROOF") else 2
STEPS_APART = 7


@pytest.mark.parametrize("kind", [{}, full_fine_tune()], ids=["lora", "full"])
def test_sigkill_at_different_steps_changes_no_loss(kind: dict[str, Any], tmp_path: Path) -> None:
    changes = kind | {"num_epochs": 2 * KILLS + 8, "save_every": 3, "eval_every": 10, "sample_answers": 0}
    undisturbed = make_job(tmp_path, "undisturbed", **changes)
    train_here(undisturbed)

    folder = make_job(tmp_path, **changes)
    for kill in range(KILLS):
        kill_at_step(folder, kill + 1, STEPS_APART * (kill + 1))
        assert only(Finished, frames_of(folder, kill + 1)) == []
    train_here(folder, KILLS + 1)

    expected = losses_of(undisturbed)
    for attempt in range(1, KILLS + 2):
        told = losses_of(folder, [attempt])
        assert told == {step: expected[step] for step in told}
        if attempt > 1:
            assert min(told) > STEPS_APART * (attempt - 1) - 3
    [calm], [disturbed] = only(Finished, frames_of(undisturbed)), only(Finished, frames_of(folder, KILLS + 1))
    assert (disturbed.held_out_after, disturbed.best_step) == (calm.held_out_after, calm.best_step)
