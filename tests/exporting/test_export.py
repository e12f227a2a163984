"""What is taken away answers like what the training made, as other programs read it; or nothing is left."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from btmd.data.encoding import Encoder
from btmd.errors import WrongArchitecture
from btmd.exporting import gguf_file, merged
from btmd.exporting.comparison import compare, load_folder, predictions, require_alike
from btmd.exporting.export import export
from btmd.exporting.requests import Check, ExportDiffers
from btmd.exporting.weights import TunedWeights
from btmd.inspection.gguf_header import read_gguf_header
from tests.exporting.tuned import make_adapter, no_progress, wish
from tests.fixtures.tiny_families import make_family
from tests.fixtures.tiny_model import make_tiny_llama
from tests.fixtures.tiny_sentencepiece import write_sentencepiece

TEXTS = [[1, 40, 50, 60, 70, 80, 90, 100, 110, 7], [1, 300, 200, 100, 9, 8, 7, 6, 5, 4, 3]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_tiny_llama(tmp_path_factory.mktemp("model") / "tiny", dtype="bfloat16")
    weights = load_file(folder / "model.safetensors")
    # Of small random values every token would be as likely as any other, and nothing would tell two models apart.
    weights["model.embed_tokens.weight"] *= 20
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def adapter(base: Path) -> Path:
    return make_adapter(base.parent / "adapter", base)


def alike(model: Any, base: Path, adapter: Path | None) -> float:
    """Divergence in nats of a model from the base with its adapter, as peft puts them together."""
    expected = predictions(load_folder(base, torch.float32, adapter), TEXTS)
    return compare(expected, model, TEXTS)[2]


def test_the_adapter_is_loaded_by_peft_and_names_its_base(base: Path, adapter: Path, tmp_path: Path) -> None:
    made = export(wish(base, adapter, tmp_path / "out", "adapter"), no_progress)
    assert {one.path for one in made.files} == {"adapter_config.json", "adapter_model.safetensors", "README.md"}
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/tiny"
    assert str(tmp_path) not in json.dumps(config)
    assert alike(load_folder(base, torch.float32, tmp_path / "out"), base, adapter) < 1e-9
    assert "Checked" in (tmp_path / "out" / "README.md").read_text()


def test_merged_weights_are_the_sum_in_16_bits(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several files, as a large model has.
    monkeypatch.setattr(merged, "SHARD_BYTES", 60_000)
    made = export(wish(base, adapter, tmp_path / "out", "merged"), no_progress)
    names = {one.path for one in made.files}
    assert {"config.json", "tokenizer.json", "generation_config.json", "model.safetensors.index.json"} <= names
    assert not {"btmd-source.json", "conversion.json"} & names
    assert (made.dtype, json.loads((tmp_path / "out" / "config.json").read_text())["dtype"]) == ("bfloat16",) * 2
    assert alike(load_folder(tmp_path / "out", torch.float32), base, adapter) < 1e-3
    # Without its adapter it would not pass: the comparison sees the difference.
    assert alike(load_folder(base, torch.float32), base, adapter) > 0.05
    assert Encoder.load(tmp_path / "out").template_kind == "model"


@pytest.mark.parametrize(("quant", "divergence"), [("f16", 1e-5), ("q8_0", 1e-2)])
def test_a_gguf_file_is_read_by_transformers_own_reader(
    base: Path, adapter: Path, tmp_path: Path, quant: str, divergence: float
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = export(wish(base, adapter, tmp_path / "out", "gguf", quant=quant, license="mit"), no_progress)
    (one,) = made.files
    assert one.path == f"tiny-job-{quant}.gguf"
    reading: Any = AutoModelForCausalLM
    model = reading.from_pretrained(tmp_path / "out", gguf_file=one.path, dtype=torch.float32)
    assert alike(model.eval(), base, adapter) < divergence
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "out", gguf_file=one.path)
    ours: Any = AutoTokenizer.from_pretrained(base)
    said = [{"role": "user", "content": "How many legs does a spider have?"}]
    assert tokenizer.apply_chat_template(said, tokenize=False) == ours.apply_chat_template(said, tokenize=False)


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_other_families_of_llamas_kind(family: str, tmp_path: Path) -> None:
    base = make_family(tmp_path / "base", family)
    adapter = make_adapter(tmp_path / "adapter", base)
    made = export(wish(base, adapter, tmp_path / "out", "gguf", quant="f16"), no_progress)
    assert made.check is not None
    assert made.check.divergence < 1e-4


def test_a_family_that_is_not_known_for_certain_is_refused_in_words(tmp_path: Path) -> None:
    base = make_family(tmp_path / "base", "gemma")
    with pytest.raises(WrongArchitecture, match="Gemma") as refusal:
        export(wish(base, None, tmp_path / "out", "gguf"), no_progress)
    assert "--format merged" in refusal.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_an_adapter_at_layers_that_bear_other_names_is_merged_as_well(tmp_path: Path) -> None:
    base = make_family(tmp_path / "base", "gpt2")
    adapter = tmp_path / "adapter"
    from peft import LoraConfig, get_peft_model

    model: Any = load_folder(base, torch.float32)
    tuned: Any = get_peft_model(model, LoraConfig(r=2, target_modules=["c_attn"], task_type="CAUSAL_LM"))
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    tuned.save_pretrained(adapter)
    with TunedWeights(base, None) as plain:
        assert plain.fits()
    export(wish(base, adapter, tmp_path / "out", "merged"), no_progress)
    assert alike(load_folder(tmp_path / "out", torch.float32), base, adapter) < 1e-2


def test_a_wrong_file_is_told_and_not_kept(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_file, "_ordered", lambda values, *_: values)
    with pytest.raises(ExportDiffers, match="Nothing was kept"):
        export(wish(base, adapter, tmp_path / "out", "gguf"), no_progress)
    monkeypatch.setattr(TunedWeights, "_tuned", lambda self, name, weight: weight)
    with pytest.raises(ExportDiffers, match="merged model"):
        export(wish(base, adapter, tmp_path / "out", "merged"), no_progress)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_number_is_not_alike() -> None:
    check = Check(prompts=1, own_rows=0, positions=1, agreement=100.0, divergence=float("nan"), limit=99.0)
    with pytest.raises(ExportDiffers):
        require_alike(check, "It", "merged")


def test_a_tokenizer_of_sentencepieces_kind_is_kept(tmp_path: Path) -> None:
    base = make_tiny_llama(tmp_path / "base", chat_template=None)
    assert write_sentencepiece(base) <= 512
    made = export(wish(base, None, tmp_path / "out", "gguf", quant="f16"), no_progress)
    assert made.check is not None
    values = read_gguf_header(tmp_path / "out" / "tiny-job-f16.gguf").values
    assert (values["tokenizer.ggml.model"], values["tokenizer.ggml.add_space_prefix"]) == ("llama", True)
    assert values["tokenizer.ggml.add_bos_token"] is True
    assert values["tokenizer.ggml.token_type"][:4] == [2, 3, 3, 6]
    assert "### User:" in values["tokenizer.chat_template"]
