"""Tiny models of both implementations with equal values, and rows to train them on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from btmd.trainer.model import Batch, LoraSettings, Precision, TrainableModel, TrainingType, load_trainable
from btmd.trainer.model.plain import PlainModel

CPU = torch.device("cpu")
VOCABULARY = 512
LORA = LoraSettings(r=4, alpha=8)


def settings_for(training_type: TrainingType) -> LoraSettings | None:
    return LORA if training_type == "lora_adaptation" else None


def fused(
    folder: Path,
    training_type: TrainingType = "lora_adaptation",
    *,
    lora: LoraSettings | None = None,
    precision: Precision = "fp32",
    checkpointing: bool = False,
    seed: int = 3,
) -> TrainableModel:
    model = load_trainable(
        folder,
        training_type=training_type,
        precision=precision,
        lora=lora or settings_for(training_type),
        gradient_checkpointing=checkpointing,
        seed=seed,
        device=CPU,
    )
    assert model.implementation == "fused"
    return model


def plain(
    folder: Path,
    training_type: TrainingType = "lora_adaptation",
    *,
    lora: LoraSettings | None = None,
    precision: Precision = "fp32",
    checkpointing: bool = False,
    seed: int = 3,
) -> TrainableModel:
    return PlainModel(
        folder,
        precision=precision,
        lora=lora or settings_for(training_type),
        gradient_checkpointing=checkpointing,
        seed=seed,
        device=CPU,
        compile=False,
    )


def scatter(model: TrainableModel, seed: int = 1) -> None:
    """Give adapters values as after training: with B at zero, as at first, A would get no gradient."""
    draws = torch.Generator().manual_seed(seed)
    model.load_state_tensors(
        {name: torch.randn(tensor.shape, generator=draws) * 0.1 for name, tensor in model.state_tensors().items()}
    )


def rows(*lengths: int, seed: int = 0) -> Batch:
    """Rows of random tokens, a little more than half of them learned."""
    draws = torch.Generator().manual_seed(seed)
    ids = [torch.randint(0, VOCABULARY, (length,), generator=draws) for length in lengths]
    return Batch(ids, [torch.rand(len(row), generator=draws) > 0.4 for row in ids])


def gradients(model: TrainableModel, batch: Batch) -> dict[str, Tensor]:
    """Gradients of the loss sum by the names of the masters."""
    loss: Any = model.loss_sum(batch)
    loss.backward()
    found: dict[str, Tensor] = {}
    for name, parameter in zip(model.state_tensors(), model.trainable_parameters(), strict=True):
        assert parameter.grad is not None, name
        found[name] = parameter.grad.clone()
        parameter.grad = None
    return found


def change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
