"""The fused implementation computes what transformers and peft compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from btmd.trainer.model import Batch, LoraSettings, TrainableModel, TrainingType
from tests.fixtures.tiny_model import make_tiny_llama
from tests.trainer.model.models import change_config, fused, gradients, plain, rows, scatter

BOTH: list[TrainingType] = ["lora_adaptation", "fine_tuning"]


def assert_equal_gradients(ours: TrainableModel, theirs: TrainableModel, batch: Batch) -> None:
    mine, reference = gradients(ours, batch), gradients(theirs, batch)
    assert mine.keys() == reference.keys()
    for name, gradient in reference.items():
        assert gradient.norm() > 0, name
        assert (mine[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("training_type", BOTH)
def test_losses_and_gradients_are_those_of_the_plain_model(
    tmp_path: Path, training_type: TrainingType, tied: bool, checkpointing: bool
) -> None:
    folder = make_tiny_llama(tmp_path / "model", tied=tied)
    ours = fused(folder, training_type, checkpointing=checkpointing)
    theirs = plain(folder, training_type, checkpointing=checkpointing)
    if training_type == "lora_adaptation":
        scatter(ours)
        scatter(theirs)
    batch = rows(5, 37, 150, 16)
    assert ours.loss_sum(batch).item() == pytest.approx(theirs.loss_sum(batch).item(), rel=1e-5)
    assert ours.evaluate_loss_sum(batch)[0] == pytest.approx(theirs.evaluate_loss_sum(batch)[0], rel=1e-5)
    assert ours.evaluate_loss_sum(batch)[1] == theirs.evaluate_loss_sum(batch)[1] == batch.count_learned()
    assert ours.count_parameters() == theirs.count_parameters()
    assert_equal_gradients(ours, theirs, batch)


def test_adapters_on_some_layers_only(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "model")
    some = LoraSettings(r=4, alpha=6, target_modules=("q_proj", "v_proj", "down_proj"))
    ours, theirs = fused(folder, lora=some), plain(folder, lora=some)
    scatter(ours)
    scatter(theirs)
    assert len(ours.trainable_parameters()) == 2 * 3 * 2
    assert_equal_gradients(ours, theirs, rows(40, 9))


@pytest.mark.parametrize("training_type", BOTH)
def test_qwen2_with_its_biases(tmp_path: Path, training_type: TrainingType) -> None:
    folder = make_tiny_llama(tmp_path / "model", tied=False)
    change_config(folder, architectures=["Qwen2ForCausalLM"], model_type="qwen2", use_sliding_window=False)
    weights = load_file(folder / "model.safetensors")
    draws = torch.Generator().manual_seed(5)
    for name in [name for name in weights if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))]:
        biases = torch.randn(weights[name].shape[0], generator=draws) * 0.1
        weights[name.replace("weight", "bias")] = biases
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    ours, theirs = fused(folder, training_type), plain(folder, training_type)
    if training_type == "lora_adaptation":
        scatter(ours)
        scatter(theirs)
    batch = rows(30, 70)
    assert ours.loss_sum(batch).item() == pytest.approx(theirs.loss_sum(batch).item(), rel=1e-5)
    assert_equal_gradients(ours, theirs, batch)


def test_a_long_row_is_taken_in_blocks_of_queries(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "model", context=2048)
    ours, theirs = fused(folder), plain(folder)
    scatter(ours)
    scatter(theirs)
    assert_equal_gradients(ours, theirs, rows(1100))


def test_new_adapters_are_equal_in_both_and_follow_from_the_seed(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "model")
    first, again, other = fused(folder, seed=7), plain(folder, seed=7), fused(folder, seed=8)
    for name, tensor in first.state_tensors().items():
        assert torch.equal(tensor, again.state_tensors()[name]), name
        assert name.endswith("lora_B.weight") == (tensor.norm() == 0)
    assert any(not torch.equal(t, other.state_tensors()[name]) for name, t in first.state_tensors().items())


@pytest.mark.parametrize("training_type", BOTH)
def test_bf16_losses_stay_within_two_percent_over_a_run(tmp_path: Path, training_type: TrainingType) -> None:
    folder = make_tiny_llama(tmp_path / "model", dtype="bfloat16")
    runs: list[list[float]] = []
    for make, precision in ((fused, "bf16"), (plain, "bf16"), (fused, "fp32")):
        model = make(folder, training_type, precision=precision)
        optimizer = torch.optim.AdamW(model.trainable_parameters(), lr=3e-3, fused=True)
        losses: list[float] = []
        for step in range(12):
            batch = rows(40, 60, seed=step % 3)
            loss: Any = model.loss_sum(batch) / batch.count_learned()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        runs.append(losses)
    assert runs[0] == pytest.approx(runs[1], rel=0.02)
    assert runs[0] == pytest.approx(runs[2], rel=0.02)
    # Steps 0 and 9 see the same rows.
    assert runs[0][9] < runs[0][0] - 0.05
