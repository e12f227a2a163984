from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from btmd.trainer.model import LoraSettings, load_trainable
from tests.fixtures.tiny_model import make_tiny_llama
from tests.trainer.model.models import CPU, change_config, fused, gradients, plain, rows, scatter

DROPPING = LoraSettings(r=4, alpha=8, dropout=0.3)


@pytest.mark.parametrize("make", [fused, plain])
def test_dropout_follows_from_torchs_random_state_alone(tmp_path: Path, make: Any) -> None:
    model = make(make_tiny_llama(tmp_path / "model"), lora=DROPPING)
    scatter(model)
    state = torch.get_rng_state()
    first = model.loss_sum(rows(40, 20)).item()
    second = model.loss_sum(rows(40, 20)).item()
    torch.set_rng_state(state)
    assert model.loss_sum(rows(40, 20)).item() == first
    assert model.loss_sum(rows(40, 20)).item() == second
    assert first != second


@pytest.mark.parametrize("make", [fused, plain])
def test_evaluating_and_answering_draw_nothing_from_the_random_state(tmp_path: Path, make: Any) -> None:
    model = make(make_tiny_llama(tmp_path / "model"), lora=DROPPING)
    scatter(model)
    state = torch.get_rng_state()
    losses = {model.evaluate_loss_sum(rows(40, 20))[0] for _ in range(3)}
    list(model.generate([1, 2, 3], max_new_tokens=5, eos_ids=set(), temperature=1.0, seed=4))
    assert len(losses) == 1
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("rope", [{}, {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}])
def test_loading_draws_nothing_from_the_random_state(tmp_path: Path, rope: dict[str, object]) -> None:
    folder = make_tiny_llama(tmp_path / "model")
    change_config(folder, **rope)
    state = torch.get_rng_state()
    model = load_trainable(
        folder,
        training_type="lora_adaptation",
        precision="fp32",
        lora=DROPPING,
        gradient_checkpointing=False,
        seed=0,
        device=CPU,
    )
    assert model.implementation == ("plain" if rope else "fused")
    assert torch.equal(torch.get_rng_state(), state)


def test_recomputed_layers_drop_the_same_values(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "model")
    found = []
    for checkpointing in (False, True):
        model = fused(folder, lora=DROPPING, checkpointing=checkpointing)
        scatter(model)
        torch.manual_seed(11)
        found.append((gradients(model, rows(40, 20)), torch.get_rng_state()))
    for name, gradient in found[0][0].items():
        assert torch.equal(gradient, found[1][0][name]), name
    assert torch.equal(found[0][1], found[1][1])
