"""A model folder is described from its headers, and refused in words when it could not be trained."""

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from btmd.data.encoding import Encoder
from btmd.errors import (
    BadTemplate,
    FileMissing,
    InvalidValue,
    ModelDamaged,
    ModelRefused,
    NotAModel,
    PickledWeights,
    RemoteCode,
    TokenizerMissing,
    WrongArchitecture,
)
from btmd.inspection.facts import ModelFacts
from btmd.inspection.model import inspect_model
from btmd.inspection.tokenizer_conversion import convert_tokenizer
from btmd.model_fingerprint import fingerprint_now
from btmd.registry.model_upload import require_model_files
from tests.fixtures.seven_billion import make_seven_billion
from tests.fixtures.tiny_model import make_tiny_llama


def inspected(folder: Path, tokenizer_folder: Path | None = None) -> ModelFacts:
    return inspect_model(folder, tokenizer_folder=tokenizer_folder, progress=lambda _share, _text: None)


def change(path: Path, **values: Any) -> None:
    """Set keys of a JSON file; None takes one away."""
    content = json.loads(path.read_text())
    content.update(values)
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def shard(folder: Path) -> None:
    """Bring the weights into two files with an index, as large models are published."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    places = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        places.update(dict.fromkeys(part, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / "model.safetensors").unlink()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make_tiny_llama(tmp_path / "tiny")


def test_the_facts_are_those_of_the_files(tiny: Path) -> None:
    facts = inspected(tiny)
    assert (facts.architecture, facts.family, facts.dtype) == ("LlamaForCausalLM", "llama", "float32")
    assert (facts.layers, facts.hidden_size, facts.intermediate_size) == (2, 64, 128)
    assert (facts.heads, facts.kv_heads, facts.head_size) == (4, 2, 16)
    assert (facts.vocab_size, facts.context_length) == (512, 512)
    assert (facts.tied_embeddings, facts.has_chat_template, facts.is_chat, facts.is_code) == (True, True, True, False)
    assert facts.parameters == 512 * 64 + 64 + 2 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128)
    assert facts.size_bytes == (tiny / "model.safetensors").stat().st_size
    assert facts.tokenizer == "fast"
    assert facts.license is None
    assert facts.quantised is None
    assert facts.linear_layers == ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
    assert facts.warnings == ()


def test_parameters_agree_with_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = make_tiny_llama(tmp_path, tied=False, dtype="bfloat16")
    facts = inspected(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    assert facts.parameters == model.num_parameters()
    assert facts.dtype == "bfloat16"
    assert not facts.tied_embeddings


def test_several_weight_files_count_as_one_model(tiny: Path) -> None:
    whole = inspected(tiny)
    shard(tiny)
    assert inspected(tiny).parameters == whole.parameters
    assert inspected(tiny).weight_files == 2


def test_a_changed_model_has_another_fingerprint(tiny: Path) -> None:
    before = inspected(tiny).fingerprint
    assert inspected(tiny).fingerprint == before
    change(tiny / "config.json", rms_norm_eps=1e-6)
    assert inspected(tiny).fingerprint != before


def test_the_card_tells_licence_and_purpose(tiny: Path) -> None:
    (tiny / "README.md").write_text("---\nlicense: apache-2.0\ntags:\n- code\n---\n# A model\n")
    facts = inspected(tiny)
    assert facts.license == "apache-2.0"
    assert facts.is_code


def test_a_model_without_a_template_is_told(tmp_path: Path) -> None:
    facts = inspected(make_tiny_llama(tmp_path, chat_template=None))
    assert not facts.is_chat
    assert "no chat template" in facts.warnings[0]


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, path.stat().st_size - 100)


def cut_header(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 300)


def damage_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[20] ^= 255
    path.write_bytes(content)


def empty_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def lose_a_shard(folder: Path) -> None:
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def lose_the_index(folder: Path) -> None:
    shard(folder)
    (folder / "model.safetensors.index.json").unlink()


def lead_outside(folder: Path) -> None:
    shard(folder)
    path = folder / "model.safetensors.index.json"
    path.write_text(path.read_text().replace("model-00001", "../model-00001"))


def pickle_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def be_an_adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


def rewrite(name: str, **values: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / name, **values)


def remove(*names: str) -> Callable[[Path], None]:
    def remove_them(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove_them


REFUSED: dict[str, tuple[Callable[[Path], None], type[ModelRefused]]] = {
    "no configuration": (remove("config.json"), NotAModel),
    "an adapter": (be_an_adapter, NotAModel),
    "a configuration that is not JSON": (lambda folder: os.truncate(folder / "config.json", 40), ModelDamaged),
    "no model type": (rewrite("config.json", model_type=None), NotAModel),
    "no size": (rewrite("config.json", num_hidden_layers=None), ModelDamaged),
    "BERT": (rewrite("config.json", model_type="bert", architectures=["BertForMaskedLM"]), WrongArchitecture),
    "RoBERTa": (rewrite("config.json", model_type="roberta", architectures=["RobertaModel"]), WrongArchitecture),
    "T5": (
        rewrite("config.json", model_type="t5", is_encoder_decoder=True, architectures=["T5ForConditionalGeneration"]),
        WrongArchitecture,
    ),
    "a classifier": (rewrite("config.json", architectures=["LlamaForSequenceClassification"]), WrongArchitecture),
    "pictures too": (rewrite("config.json", architectures=["LlavaForConditionalGeneration"]), WrongArchitecture),
    "an architecture of another day": (
        rewrite("config.json", model_type="llama9", architectures=["Llama9ForCausalLM"]),
        WrongArchitecture,
    ),
    "remote code": (rewrite("config.json", auto_map={"AutoModelForCausalLM": "modeling_x.X"}), RemoteCode),
    "quantised weights": (rewrite("config.json", quantization_config={"quant_method": "gptq"}), ModelRefused),
    "pickled weights": (pickle_weights, PickledWeights),
    "no weights": (remove("model.safetensors"), NotAModel),
    "empty weights": (empty_weights, ModelDamaged),
    "cut weights": (cut_weights, ModelDamaged),
    "cut header": (cut_header, ModelDamaged),
    "damaged header": (damage_header, ModelDamaged),
    "a missing shard": (lose_a_shard, ModelDamaged),
    "a missing index": (lose_the_index, ModelDamaged),
    "an index that leads outside": (lead_outside, ModelDamaged),
    "layers missing": (rewrite("config.json", num_hidden_layers=3), ModelDamaged),
    "a configuration of a wider model": (rewrite("config.json", hidden_size=128), ModelDamaged),
    "a configuration of another vocabulary": (rewrite("config.json", vocab_size=600), ModelDamaged),
    "no tokenizer": (remove("tokenizer.json"), TokenizerMissing),
    "a damaged tokenizer": (lambda folder: os.truncate(folder / "tokenizer.json", 500), TokenizerMissing),
    "a broken template": (rewrite("tokenizer_config.json", chat_template="{% for"), BadTemplate),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_is_refused_in_words(case: str, tiny: Path) -> None:
    damage, kind = REFUSED[case]
    damage(tiny)
    before = sorted(os.listdir(tiny))
    with pytest.raises(kind) as refusal:
        inspected(tiny)
    assert type(refusal.value) is kind
    assert refusal.value.detail.endswith(".")
    assert refusal.value.hint
    assert sorted(os.listdir(tiny)) == before


def test_a_missing_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        inspected(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotAModel):
        inspected(tmp_path / "file")


def test_any_flipped_byte_of_a_header_is_refused_or_read(tiny: Path) -> None:
    path = tiny / "model.safetensors"
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    for position in range(0, length, 37):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        try:
            inspected(tiny)
        except ModelRefused:
            continue


def test_an_old_tokenizer_is_converted_once_into_its_own_folder(tiny: Path, tmp_path: Path) -> None:
    reference = Encoder.load(tiny)
    content = json.loads((tiny / "tokenizer.json").read_text())
    vocab = {**content["model"]["vocab"], **{token["content"]: token["id"] for token in content["added_tokens"]}}
    (tiny / "vocab.json").write_text(json.dumps(vocab))
    merges = "\n".join(" ".join(pair) for pair in content["model"]["merges"])
    (tiny / "merges.txt").write_text("#version: 0.2\n" + merges)
    (tiny / "tokenizer.json").unlink()
    change(tiny / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    assert inspected(tiny).tokenizer == "slow"
    before = sorted(os.listdir(tiny))
    facts = inspected(tiny, tmp_path / "state" / "tokenizer")
    assert facts.tokenizer == "slow"
    assert facts.has_chat_template
    assert sorted(os.listdir(tiny)) == before
    assert os.listdir(tmp_path / "state") == ["tokenizer"]
    row: Any = {
        "line": 1,
        "messages": [{"role": "user", "content": "Where do bees live?"}, {"role": "assistant", "content": "A hive."}],
    }
    converted = Encoder.load(tmp_path / "state" / "tokenizer")
    assert converted.encode(row) == reference.encode(row)
    assert converted.eos_ids == reference.eos_ids


def test_an_old_tokenizer_that_cannot_be_converted_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    (tiny / "tokenizer.json").unlink()
    (tiny / "tokenizer.model").write_bytes(b"not a sentencepiece model")
    change(tiny / "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
    with pytest.raises(TokenizerMissing):
        inspected(tiny, tmp_path / "state" / "tokenizer")
    assert not (tmp_path / "state").exists() or os.listdir(tmp_path / "state") == []


def bytes_read() -> int:
    """By this process so far, from wherever."""
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


def test_a_model_of_seven_billion_weights_is_described_by_its_headers_alone(tmp_path: Path) -> None:
    folder = make_seven_billion(tmp_path / "seven")
    before = bytes_read()
    facts = inspected(folder)
    assert facts.parameters == pytest.approx(7.24e9, rel=0.01)
    assert (facts.size_bytes > 14e9, facts.weight_files) == (True, 3)
    assert bytes_read() - before < 2_000_000


@pytest.mark.parametrize("told_in", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("argument", ["vocab", "vocab_file"])
def test_an_old_tokenizer_cannot_have_another_file_read_as_its_vocabulary(
    tiny: Path, tmp_path: Path, told_in: str, argument: str
) -> None:
    secret = tmp_path / "rows.jsonl"
    secret.write_text("[UNK]\nnobody-elses-business\n")
    (tiny / "tokenizer.json").unlink()
    (tiny / "vocab.txt").write_text("\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "bees")))
    (tiny / "special_tokens_map.json").write_text("{}")
    change(tiny / "tokenizer_config.json", tokenizer_class="BertTokenizer")
    change(tiny / told_in, **{argument: str(secret)})
    convert_tokenizer(tiny, tmp_path / "state" / "tokenizer")
    made = "".join(path.read_text() for path in (tmp_path / "state" / "tokenizer").iterdir())
    assert "bees" in made
    assert "nobody-elses-business" not in made


def test_of_a_models_settings_only_tokens_and_switches_are_handed_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    token = {"content": "<s>", "special": True}
    kept = {
        "tokenizer_class": "BertTokenizer",
        "bos_token": token,
        "eos_token": "</s>",
        "added_tokens_decoder": {"0": token},
        "extra_special_tokens": ["<t>"],
        "chat_template": "{{ messages }}",
        "padding_side": "left",
        "do_lower_case": True,
        "model_max_length": 512,
        "vocab_size": 320,
        "unk_id": None,
    }
    # A number is a file to Python as well: one that is open.
    dropped = {
        **dict.fromkeys(("vocab", "vocab_file", "merges", "merges_file", "tokenizer_file", "model_path"), 3),
        **dict.fromkeys(("cache_dir", "tokenizer_object", "files", "init_inputs", "model_kwargs"), True),
        "name_or_path": "/etc",
        "auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]},
        "backend": "another",
        "words": ["/etc/passwd"],
    }
    (tiny / "tokenizer_config.json").write_text(json.dumps(kept | dropped))
    (tiny / "special_tokens_map.json").write_text(json.dumps(dropped | {"pad_token": "<pad>", "tokenizer_class": "os"}))
    change(
        tiny / "config.json", tokenizer_class="subprocess.Popen", errors="strict", auto_map={"AutoModel": "evil.Model"}
    )
    handed: dict[str, Any] = {}

    def read(folder: Path, **asked: object) -> None:
        assert asked["trust_remote_code"] is False
        handed.update({path.name: json.loads(path.read_text()) for path in folder.glob("*config.json")})
        handed.update({path.name: json.loads(path.read_text()) for path in folder.glob("special*.json")})
        raise ValueError

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", read)
    with pytest.raises(TokenizerMissing):
        convert_tokenizer(tiny, tmp_path / "state" / "tokenizer")
    assert handed == {
        "tokenizer_config.json": kept,
        "special_tokens_map.json": {"pad_token": "<pad>"},
        "config.json": {"model_type": "llama"},
    }


def test_a_model_is_recognised_without_having_its_headers_in_memory(tiny: Path) -> None:
    path = tiny / "model.safetensors"
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    padded = whole[8 : 8 + length] + b" " * 16_000_000
    path.write_bytes(len(padded).to_bytes(8, "little") + padded + whole[8 + length :])
    known = inspected(tiny).fingerprint
    tracemalloc.start()
    assert fingerprint_now(tiny) == known
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    index = tiny / "model.safetensors.index.json"
    with index.open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(ValueError, match="larger"):
        fingerprint_now(tiny)
    sizes = {"config.json": 100, path.name: 100, index.name: 100_000_000}
    with pytest.raises(InvalidValue, match="larger"):
        require_model_files(sizes, convert=False)


def test_a_configuration_does_not_choose_other_weights(tiny: Path) -> None:
    change(tiny / "config.json", transformers_weights="../other/model.safetensors")
    with pytest.raises(ModelRefused, match="transformers_weights"):
        inspected(tiny)


def test_what_is_recorded_of_a_model_has_bounds(tiny: Path) -> None:
    (tiny / "conversion.json").write_text(json.dumps({"warnings": ["a long story, " * 10_000]}))
    with pytest.raises(ModelRefused, match="longer than those of any model"):
        inspected(tiny)


def test_a_family_is_a_name_and_no_path(tiny: Path) -> None:
    change(tiny / "config.json", model_type="llama/../llama")
    with pytest.raises(WrongArchitecture):
        inspected(tiny)
