"""What a step computes depends on its rows, not on how they are cut up."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from btmd.frames import Failed, Tick
from btmd.job_folder import LoraPlan
from btmd.trainer import resuming
from btmd.trainer.failures import TrainingFailed
from btmd.trainer.model import Batch
from btmd.trainer.optimizer import AdamW
from btmd.trainer.step import Accumulation, GradientOverflow, optimizer_step
from tests.trainer.here import only, train_here
from tests.trainer.job import frames_of, full_fine_tune, losses_of, make_job

NO_DROPOUT = {"lora": LoraPlan(r=4, alpha=8, dropout=0.0)}


@pytest.mark.parametrize("kind", [NO_DROPOUT, full_fine_tune()], ids=["lora", "full"])
def test_micro_batch_and_accumulation_change_no_loss_over_twenty_steps(kind: dict[str, Any], tmp_path: Path) -> None:
    found: dict[int, dict[int, float]] = {}
    for micro_batch_size in (1, 2, 4, 6):
        folder = make_job(
            tmp_path,
            f"micro-{micro_batch_size}",
            **kind,
            micro_batch_size=micro_batch_size,
            batch_size=8,
            num_epochs=5,
            save_every=0,
            sample_answers=0,
        )
        train_here(folder)
        found[micro_batch_size] = losses_of(folder)
    assert len(found[1]) == 20
    for micro_batch_size in (2, 4, 6):
        assert found[micro_batch_size] == pytest.approx(found[1], abs=1e-5, rel=0)


class OneWeight:
    """The smallest model: its loss is the squared weight times the row's only number."""

    def __init__(self, weight: float) -> None:
        self.weight = torch.nn.Parameter(torch.tensor([[weight]]))

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        return (self.weight**2).sum() * float(sum(int(ids[0]) for ids in batch.input_ids))


def batch_of(*numbers: int) -> Batch:
    return Batch([torch.tensor([number]) for number in numbers], [torch.tensor([True]) for _ in numbers])


def take(model: Any, *batches: Batch, tokens: int = 4, **changes: Any) -> Any:
    optimizer = AdamW([model.weight], weight_decay=0.0)
    values: dict[str, Any] = {"divisor": tokens, "learning_rate": 0.1, "max_gradient_norm": 0.0}
    return optimizer_step(model, optimizer, batches, **(values | changes))


def test_loss_and_gradient_are_means_over_the_tokens_of_the_whole_step() -> None:
    result = take(OneWeight(3.0), batch_of(1, 2), batch_of(5))
    assert result.loss == pytest.approx(9 * 8 / 4)
    assert result.gradient_norm == pytest.approx(6 * 8 / 4)
    assert result.tokens == 3


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_a_loss_that_is_no_number_changes_no_weight(weight: float) -> None:
    model = OneWeight(weight)
    with pytest.raises(TrainingFailed) as failed:
        take(model, batch_of(1))
    assert failed.value.reason == "not_a_number"


def test_a_gradient_that_is_no_number_changes_no_weight() -> None:
    model = OneWeight(2.0)
    model.weight.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(TrainingFailed) as failed:
        take(model, batch_of(1))
    assert failed.value.reason == "not_a_number"
    assert model.weight.item() == 2.0


def test_the_loss_scale_leaves_loss_norm_and_step_as_they_are() -> None:
    plain, scaled = OneWeight(3.0), OneWeight(3.0)
    assert take(plain, batch_of(2), max_gradient_norm=1.0) == take(
        scaled, batch_of(2), max_gradient_norm=1.0, loss_scale=1024.0
    )
    assert plain.weight.item() == scaled.weight.item()


def test_an_overflow_under_a_loss_scale_asks_for_a_smaller_one() -> None:
    with pytest.raises(GradientOverflow):
        take(OneWeight(1e18), batch_of(1), tokens=1, loss_scale=2.0**100)


def test_fp16_finds_a_loss_scale_that_fits_and_repeats_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = make_job(tmp_path, "usual", **NO_DROPOUT, precision="fp16", save_every=0, sample_answers=0)
    train_here(usual)
    monkeypatch.setattr(resuming, "FIRST_FP16_LOSS_SCALE", 2.0**100)
    far_off = make_job(tmp_path, "far-off", **NO_DROPOUT, precision="fp16", save_every=0, sample_answers=0)
    train_here(far_off)
    assert losses_of(far_off) == pytest.approx(losses_of(usual), rel=1e-3)


def test_leaving_between_micro_batches_keeps_what_was_done() -> None:
    model, done = OneWeight(3.0), Accumulation()
    looks = iter([None, KeyboardInterrupt()])

    def leave() -> None:
        if (error := next(looks)) is not None:
            raise error

    with pytest.raises(KeyboardInterrupt):
        take(model, batch_of(1), batch_of(2), accumulation=done, before_each=leave)
    assert (done.rows_done, done.loss_sum) == (1, 9.0)
    assert model.weight.grad is not None
    assert model.weight.grad.item() == pytest.approx(6 / 4)


def test_a_diverging_run_ends_as_not_a_number_and_tells_only_numbers(tmp_path: Path) -> None:
    folder = make_job(tmp_path, **full_fine_tune() | {"learning_rate": 1e18}, max_gradient_norm=0.0, save_every=0)
    with pytest.raises(TrainingFailed) as failed:
        train_here(folder)
    assert failed.value.reason == "not_a_number"
    ticks = only(Tick, frames_of(folder))
    assert ticks
    assert all(math.isfinite(loss) for tick in ticks for loss in tick.losses)
    assert only(Failed, frames_of(folder)) == []  # the process tells it, see test_process
