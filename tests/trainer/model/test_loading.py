from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from btmd.errors import ModelDamaged, ModelRefused, NotAModel
from btmd.trainer.model import Batch, LoraSettings, TrainableModel, load_trainable
from tests.fixtures.tiny_model import make_tiny_llama, make_tokenizer
from tests.trainer.model.models import CPU, change_config, rows


def load(folder: Path, *, precision: str = "fp32", lora: LoraSettings | None = None) -> TrainableModel:
    return load_trainable(
        folder,
        training_type="lora_adaptation",
        precision=precision,  # type: ignore[arg-type]
        lora=lora,
        gradient_checkpointing=False,
        seed=0,
        device=CPU,
    )


def test_other_architectures_are_trained_by_the_plain_implementation(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path / "gpt2"
    make_tokenizer(folder)
    GPT2LMHeadModel(GPT2Config(vocab_size=512, n_embd=32, n_layer=2, n_head=2, n_positions=128)).save_pretrained(folder)
    model = load(folder)
    assert model.implementation == "plain"
    optimizer = torch.optim.AdamW(model.trainable_parameters(), lr=1e-2, fused=True)
    losses = []
    for _ in range(8):
        loss = model.loss_sum(rows(20, 33))
        losses.append(loss.item())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "values",
    [
        {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 8},
        {"architectures": ["MistralForCausalLM"], "model_type": "mistral"},
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    ],
)
def test_what_the_fused_layers_do_not_compute_is_left_to_the_plain_implementation(
    tmp_path: Path, values: dict[str, object]
) -> None:
    folder = make_tiny_llama(tmp_path / "model")
    change_config(folder, **values)
    assert load(folder).implementation == "plain"


def test_compiling_does_not_take_a_llama_away_from_the_fused_implementation(tmp_path: Path) -> None:
    model = load_trainable(
        make_tiny_llama(tmp_path / "model"),
        training_type="lora_adaptation",
        precision="fp32",
        lora=None,
        gradient_checkpointing=False,
        seed=0,
        device=CPU,
        compile=True,
    )
    assert model.implementation == "fused"


def test_fp16_is_left_to_the_plain_implementation(tmp_path: Path) -> None:
    assert load(make_tiny_llama(tmp_path / "model"), precision="fp16").implementation == "plain"


def test_a_llama_is_loaded_without_importing_transformers(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "model")
    program = (
        "import sys, torch; from pathlib import Path; from btmd.trainer.model import load_trainable\n"
        f"load_trainable(Path({str(folder)!r}), training_type='lora_adaptation', precision='fp32', lora=None,\n"
        " gradient_checkpointing=False, seed=0, device=torch.device('cpu'))\n"
        "assert 'transformers' not in sys.modules and 'peft' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_folders_that_are_not_whole_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAModel):
        load(tmp_path)
    folder = make_tiny_llama(tmp_path / "model")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelDamaged):
        load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(NotAModel):
        load(folder)
    (folder / "model.safetensors").write_bytes(whole)
    change_config(folder, num_hidden_layers=3)
    with pytest.raises(ModelDamaged, match=r"layers\.2"):
        load(folder)


def test_unknown_target_layers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="nowhere"):
        load(make_tiny_llama(tmp_path / "model"), lora=LoraSettings(target_modules=("nowhere",)))


def test_a_batch_refuses_rows_that_do_not_fit_their_masks() -> None:
    with pytest.raises(ValueError, match="shape"):
        Batch([torch.zeros(3, dtype=torch.long)], [torch.zeros(2, dtype=torch.bool)])
    with pytest.raises(ValueError, match="row"):
        Batch([], [])
