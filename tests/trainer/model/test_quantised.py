"""A base in four bits: asked for where it cannot be, it is refused with what to do; where it can, it trains."""

import importlib.util
from pathlib import Path

import pytest
import torch

from btmd.errors import ModelRefused, PackageMissing
from btmd.trainer.model import LoraSettings, load_trainable
from btmd.trainer.model.plain import PlainModel
from btmd.trainer.model.quantised import quantisation, require_quantising
from tests.fixtures.tiny_model import make_tiny_llama
from tests.trainer.model.models import CPU, LORA, plain, rows


def test_it_is_refused_on_a_cpu_rather_than_trained_otherwise(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="NVIDIA") as refused:
        load_trainable(
            make_tiny_llama(tmp_path / "model"),
            training_type="qlora_adaptation",
            precision="bf16",
            lora=LORA,
            gradient_checkpointing=False,
            seed=3,
            device=CPU,
        )
    assert "lora_adaptation" in refused.value.hint


def test_without_its_library_it_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else found(name))
    with pytest.raises(PackageMissing) as refused:
        require_quantising(torch.device("cuda"))
    assert "btmctl doctor" in refused.value.hint


def test_weights_are_normal_floats_and_products_are_computed_in_the_training_s_format() -> None:
    settings = quantisation(torch.float16)
    assert settings.load_in_4bit
    assert settings.bnb_4bit_use_double_quant
    assert settings.bnb_4bit_quant_type == "nf4"
    assert settings.bnb_4bit_compute_dtype is torch.float16


@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_adapter_learns_on_a_quantised_base(checkpointing: bool, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="part of the extra gpu; newer versions compute on a CPU too")
    folder = make_tiny_llama(tmp_path / "model")
    model = PlainModel(
        folder,
        precision="bf16",
        lora=LoraSettings(r=4, alpha=8),
        gradient_checkpointing=checkpointing,
        seed=3,
        device=CPU,
        compile=False,
        quantised=True,
    )
    whole = plain(folder, precision="bf16")
    assert model.count_parameters() == whole.count_parameters()
    batch = rows(20, 40)
    before, _ = model.evaluate_loss_sum(batch)
    assert before == pytest.approx(whole.evaluate_loss_sum(batch)[0], rel=0.02)
    for _ in range(5):
        model.loss_sum(batch).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for parameter in model.trainable_parameters():
                assert parameter.grad is not None
                parameter -= 0.2 * parameter.grad / batch.count_learned()
                parameter.grad = None
    assert model.evaluate_loss_sum(batch)[0] < before
    assert float(model.evaluate_sequence_losses(batch, base=True).sum()) == pytest.approx(before, rel=1e-3)
    model.save_result(tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
