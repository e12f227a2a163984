"""How a step is cut into micro-batches changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from btmd.trainer.model import Batch, TrainableModel, TrainingType
from tests.fixtures.tiny_model import make_tiny_llama
from tests.trainer.model.models import fused, plain, rows

STEPS = 20


def losses_of_a_run(model: TrainableModel, micro_batch: int) -> list[float]:
    optimizer = torch.optim.AdamW(model.trainable_parameters(), lr=1e-3, fused=True)
    losses: list[float] = []
    for step in range(STEPS):
        whole = rows(33, 7, 64, 18, seed=step)
        total = 0.0
        for first in range(0, 4, micro_batch):
            cut = slice(first, first + micro_batch)
            loss: Any = model.loss_sum(Batch(whole.input_ids[cut], whole.learned[cut])) / whole.count_learned()
            loss.backward()
            total += loss.item()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses


@pytest.mark.parametrize("training_type", ["lora_adaptation", "fine_tuning"])
@pytest.mark.parametrize("make", [fused, plain])
def test_micro_batches_of_1_2_and_4_give_the_same_losses(
    tmp_path: Path, make: Any, training_type: TrainingType
) -> None:
    folder = make_tiny_llama(tmp_path / "model")
    reference = losses_of_a_run(make(folder, training_type), 4)
    for micro_batch in (1, 2):
        assert losses_of_a_run(make(folder, training_type), micro_batch) == pytest.approx(reference, abs=1e-5)
    assert len(set(reference)) == STEPS
