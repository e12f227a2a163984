"""The loss of each sequence by itself, in both implementations, with gradients that add up."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from btmd.errors import Conflict
from btmd.trainer.model import Batch, TrainableModel, TrainingType
from tests.fixtures.tiny_model import make_tiny_llama
from tests.trainer.model.models import fused, gradients, plain, rows, scatter

MAKERS = {"fused": fused, "plain": plain}
WEIGHTS = torch.tensor([0.7, -0.4, 1.3])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("sequences"), tied=False)


def each_alone(model: TrainableModel, batch: Batch) -> list[float]:
    pairs = zip(batch.input_ids, batch.learned, strict=True)
    return [model.evaluate_loss_sum(Batch([ids], [learned]))[0] for ids, learned in pairs]


def weighted_gradients(model: TrainableModel, batch: Batch) -> dict[str, Tensor]:
    (model.sequence_losses(batch) * WEIGHTS).sum().backward()  # type: ignore[no-untyped-call]
    found: dict[str, Tensor] = {}
    for name, parameter in zip(model.state_tensors(), model.trainable_parameters(), strict=True):
        assert parameter.grad is not None
        found[name] = parameter.grad.clone()
        parameter.grad = None
    return found


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("training_type", ["lora_adaptation", "fine_tuning"])
def test_each_sequence_has_its_own_loss_and_gradient(maker: str, training_type: TrainingType, folder: Path) -> None:
    model = MAKERS[maker](folder, training_type)
    if training_type == "lora_adaptation":
        scatter(model)
    batch = rows(9, 40, 70)
    expected = each_alone(model, batch)
    assert model.evaluate_sequence_losses(batch).tolist() == pytest.approx(expected, rel=1e-5)
    assert model.sequence_losses(batch).tolist() == pytest.approx(expected, rel=1e-5)
    found = weighted_gradients(model, batch)
    alone = [
        gradients(model, Batch([ids], [learned])) for ids, learned in zip(batch.input_ids, batch.learned, strict=True)
    ]
    for name, gradient in found.items():
        wanted = sum(float(weight) * one[name] for weight, one in zip(WEIGHTS, alone, strict=True))
        torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("maker", MAKERS)
def test_without_the_adapter_it_is_the_base_model(maker: str, folder: Path) -> None:
    model = MAKERS[maker](folder)
    batch = rows(9, 40, 70)
    before = model.evaluate_sequence_losses(batch)
    scatter(model)
    assert not torch.allclose(model.evaluate_sequence_losses(batch), before, rtol=1e-3)
    torch.testing.assert_close(model.evaluate_sequence_losses(batch, base=True), before)


@pytest.mark.parametrize("maker", MAKERS)
def test_a_full_fine_tune_has_no_base_to_go_back_to(maker: str, folder: Path) -> None:
    with pytest.raises(Conflict):
        MAKERS[maker](folder, "fine_tuning").evaluate_sequence_losses(rows(9), base=True)
