"""What is saved can be read by the libraries everybody uses, and says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from btmd.errors import Conflict, ModelDamaged
from btmd.trainer.model import LoraSettings, full_model, load_trainable
from tests.fixtures.tiny_model import make_tiny_llama
from tests.trainer.model.models import CPU, change_config, fused, plain, rows, scatter


def mean_loss(model: Any, ids: torch.Tensor) -> float:
    with torch.no_grad():
        return float(model(input_ids=ids[None], labels=ids[None]).loss)


@pytest.mark.parametrize("make", [fused, plain])
def test_an_adapter_is_read_by_peft(tmp_path: Path, make: Any) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = make_tiny_llama(tmp_path / "model")
    model = make(folder)
    scatter(model)
    model.save_result(tmp_path / "adapter")
    read = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path / "adapter")
    batch = rows(50)
    everything = type(batch)(batch.input_ids, [torch.ones(50, dtype=torch.bool)])
    loss_sum, learned = model.evaluate_loss_sum(everything)
    assert learned == 49
    assert mean_loss(read, batch.input_ids[0]) == pytest.approx(loss_sum / learned, rel=1e-5)


@pytest.mark.parametrize("make", [fused, plain])
@pytest.mark.parametrize("tied", [True, False])
def test_a_full_fine_tune_is_read_by_transformers(tmp_path: Path, make: Any, tied: bool) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_tiny_llama(tmp_path / "model", tied=tied)
    model = make(folder, "fine_tuning")
    scatter(model)
    model.save_result(tmp_path / "result")
    tensors = load_file(tmp_path / "result" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert tensors.keys() == load_file(folder / "model.safetensors").keys()
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "result", dtype=torch.float32)
    AutoTokenizer.from_pretrained(tmp_path / "result")
    batch = rows(50)
    everything = type(batch)(batch.input_ids, [torch.ones(50, dtype=torch.bool)])
    loss_sum, learned = model.evaluate_loss_sum(everything)
    assert mean_loss(read, batch.input_ids[0]) == pytest.approx(loss_sum / learned, rel=0.02)


def test_large_results_are_sharded_with_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM

    folder = make_tiny_llama(tmp_path / "model")
    model = fused(folder, "fine_tuning")
    monkeypatch.setattr(full_model, "SHARD_BYTES", 60_000)
    model.save_result(tmp_path / "result")
    assert len(list((tmp_path / "result").glob("model-*.safetensors"))) > 2
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "result", dtype=torch.float32)
    first = "model.layers.1.mlp.down_proj.weight"
    assert torch.equal(read.state_dict()[first], model.state_tensors()[first].bfloat16().float())


@pytest.mark.parametrize("make", [fused, plain])
@pytest.mark.parametrize("training_type", ["lora_adaptation", "fine_tuning"])
def test_state_goes_through_a_file_and_back(tmp_path: Path, make: Any, training_type: Any) -> None:
    folder = make_tiny_llama(tmp_path / "model")
    model = make(folder, training_type)
    scatter(model)
    save_file(model.state_tensors(), tmp_path / "state.safetensors")
    other = make(folder, training_type, seed=9)
    other.load_state_tensors(load_file(tmp_path / "state.safetensors"))
    assert other.evaluate_loss_sum(rows(30, 8)) == model.evaluate_loss_sum(rows(30, 8))
    assert all(parameter.dtype == torch.float32 for parameter in other.trainable_parameters())


def test_an_earlier_adapter_is_the_start_with_its_own_rank_and_layers(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "model")
    few = LoraSettings(r=2, alpha=3, target_modules=("q_proj", "up_proj"))
    first = fused(folder, lora=few)
    scatter(first)
    first.save_result(tmp_path / "adapter")
    second = _continue(folder, tmp_path / "adapter", LoraSettings(r=16, alpha=32))
    assert second.state_tensors().keys() == first.state_tensors().keys()
    assert second.evaluate_loss_sum(rows(30)) == first.evaluate_loss_sum(rows(30))


def test_adapters_of_other_kinds_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "model")
    adapter = tmp_path / "adapter"
    fused(folder).save_result(adapter)
    config = (adapter / "adapter_config.json").read_text()
    (adapter / "adapter_config.json").write_text(config.replace('"use_dora": false', '"use_dora": true'))
    with pytest.raises(Conflict, match="use_dora"):
        _continue(folder, adapter, None)
    (adapter / "adapter_config.json").write_text(config)
    whole = (adapter / "adapter_model.safetensors").read_bytes()
    (adapter / "adapter_model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelDamaged):
        _continue(folder, adapter, None)


def test_a_changed_base_folder_keeps_its_surroundings_but_no_old_weights(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "model", dtype="bfloat16")
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    change_config(folder, torch_dtype="float32")
    fused(folder, "fine_tuning", precision="bf16").save_result(tmp_path / "result")
    names = {path.name for path in (tmp_path / "result").iterdir()}
    assert {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"} <= names
    assert "pytorch_model.bin" not in names
    assert '"dtype": "bfloat16"' in (tmp_path / "result" / "config.json").read_text()


def _continue(folder: Path, adapter: Path, lora: LoraSettings | None) -> Any:
    return load_trainable(
        folder,
        training_type="lora_adaptation",
        precision="fp32",
        lora=lora,
        gradient_checkpointing=False,
        seed=0,
        device=CPU,
        adapter_folder=adapter,
    )
