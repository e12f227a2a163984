"""A GGUF file becomes the very weights transformers would load from it, or nothing at all."""

import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType
from safetensors.numpy import load_file, save_file

from btmd.data.encoding import Encoder
from btmd.errors import BtmdError, Conflict, FileMissing, ModelDamaged, NotAModel, NotEnoughDisk, WrongArchitecture
from btmd.inspection import gguf as conversion
from btmd.inspection.facts import ConversionFacts
from btmd.inspection.gguf import convert_gguf
from tests.fixtures.tiny_gguf import make_tiny_gguf
from tests.fixtures.tiny_model import make_tiny_llama


def converted(source: Path, folder: Path) -> ConversionFacts:
    return convert_gguf(source, folder, progress=lambda _share, _text: None)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("original"), tied=False, seed=3)


@pytest.fixture
def tiny(original: Path, tmp_path: Path) -> Path:
    return make_tiny_gguf(original, tmp_path / "tiny.gguf")


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_1", "Q5_0", "TQ1_0"])
def test_the_weights_are_those_transformers_loads(kind: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = make_tiny_llama(tmp_path / "original", hidden=256, heads=4, kv_heads=2, tied=kind == "Q8_0", seed=5)
    make_tiny_gguf(model, tmp_path / "tiny.gguf", kind=GGMLQuantizationType[kind])
    facts = converted(tmp_path / "tiny.gguf", tmp_path / "new")
    assert facts.quantised == (None if kind in ("F32", "F16", "BF16") else kind)
    expected: Any = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.bfloat16)
    ours: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "new", dtype=torch.bfloat16)
    theirs = expected.state_dict()
    assert set(ours.state_dict()) == set(theirs)
    for name, values in ours.state_dict().items():
        assert torch.equal(values, theirs[name]), name
    tokens = torch.tensor([[5, 9, 33, 70, 120, 300]])
    assert torch.equal(ours(tokens).logits, expected(tokens).logits)


def test_an_unquantised_file_gives_the_original_model_back(original: Path, tmp_path: Path) -> None:
    source = make_tiny_gguf(original, tmp_path / "tiny.gguf", kind=GGMLQuantizationType.F32)
    facts = converted(source, tmp_path / "new")
    before, after = load_file(original / "model.safetensors"), _floats(tmp_path / "new" / "model.safetensors")
    assert set(before) == set(after)
    for name, values in before.items():
        np.testing.assert_allclose(after[name], values, rtol=2**-8, err_msg=name)
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    wanted = json.loads((original / "config.json").read_text())
    for key in config.keys() & wanted.keys() - {"torch_dtype"}:
        assert config[key] == wanted[key], key
    assert facts.model.parameters == sum(values.size for values in before.values())


def _floats(path: Path) -> dict[str, Any]:
    import torch
    from safetensors.torch import load_file as load_tensors

    return {name: values.to(torch.float32).numpy() for name, values in load_tensors(path).items()}


def test_the_tokenizer_speaks_like_the_original(original: Path, tiny: Path, tmp_path: Path) -> None:
    converted(tiny, tmp_path / "new")
    ours, theirs = Encoder.load(tmp_path / "new"), Encoder.load(original)
    talk = [{"role": "user", "content": "How many legs? 8 or 16…"}, {"role": "assistant", "content": "Eight 🐝."}]
    row: Any = {"line": 1, "messages": talk}
    assert ours.encode(row) == theirs.encode(row)
    assert ours.eos_ids == theirs.eos_ids
    assert ours.encode({"line": 1, "text": "A hive."}) == theirs.encode({"line": 1, "text": "A hive."})


def test_digits_stay_single_where_the_model_learned_them_so(original: Path, tmp_path: Path) -> None:
    source = make_tiny_gguf(original, tmp_path / "tiny.gguf")
    content = source.read_bytes()
    source.write_bytes(content.replace(b"\x05\0\0\0\0\0\0\0gpt-2", b"\x05\0\0\0\0\0\0\0qwen2"))
    converted(source, tmp_path / "new")
    rule = json.loads((tmp_path / "new" / "tokenizer.json").read_text())["pre_tokenizer"]["pretokenizers"][0]
    assert r"\p{N}|" in rule["pattern"]["Regex"]


def test_an_unknown_rule_for_words_is_told(original: Path, tmp_path: Path) -> None:
    source = make_tiny_gguf(original, tmp_path / "tiny.gguf")
    source.write_bytes(source.read_bytes().replace(b"\x05\0\0\0\0\0\0\0gpt-2", b"\x05\0\0\0\0\0\0\0novel"))
    assert any("'novel'" in warning for warning in converted(source, tmp_path / "new").model.warnings)


def test_what_it_was_made_from_is_kept(tiny: Path, tmp_path: Path) -> None:
    facts = converted(tiny, tmp_path / "new")
    note = json.loads((tmp_path / "new" / "conversion.json").read_text())
    assert note["converted_from"] == "tiny.gguf"
    assert note["source_sha256"] == facts.source_sha256
    assert facts.model.quantised == facts.quantised == "Q8_0"


def test_stretched_positions_are_recovered(original: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = json.loads((original / "config.json").read_text())
    wanted = {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    (tmp_path / "config.json").write_text(json.dumps({**config, "rope_theta": 500000.0, "rope_scaling": wanted}))
    stretched: Any = AutoConfig.from_pretrained(tmp_path)
    frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](stretched, torch.device("cpu"))
    plain = 1.0 / 500000.0 ** (torch.arange(0, 16, 2) / 16)
    factors = (plain / frequencies).numpy().astype(np.float32)
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((original / name).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**config, "rope_theta": 500000.0}))
    source = make_tiny_gguf(tmp_path, tmp_path / "tiny.gguf", extra={"rope_freqs.weight": factors})
    converted(source, tmp_path / "new")
    assert json.loads((tmp_path / "new" / "config.json").read_text())["rope_scaling"] == wanted
    factors[-1] *= 2
    source = make_tiny_gguf(tmp_path, tmp_path / "odd.gguf", extra={"rope_freqs.weight": factors})
    with pytest.raises(WrongArchitecture):
        converted(source, tmp_path / "odd")


@pytest.mark.parametrize("share", [0.0001, 0.02, 0.1, 0.5, 0.99, 0.99999])
def test_a_file_cut_off_is_refused_at_once_and_leaves_nothing(share: float, tiny: Path, tmp_path: Path) -> None:
    whole = tiny.read_bytes()
    tiny.write_bytes(whole[: max(4, int(len(whole) * share))])
    with pytest.raises(ModelDamaged, match="cut off"):
        converted(tiny, tmp_path / "new")
    assert os.listdir(tmp_path) == ["tiny.gguf"]


def test_a_flipped_header_is_refused_or_converted_but_never_crashes(tiny: Path, tmp_path: Path) -> None:
    whole = bytearray(tiny.read_bytes())
    random = np.random.default_rng(0)
    refused = 0
    for round_number in range(40):
        damaged = bytearray(whole)
        damaged[int(random.integers(4, 900))] ^= 1 << int(random.integers(0, 8))
        tiny.write_bytes(damaged)
        try:
            converted(tiny, tmp_path / f"new{round_number}")
        except BtmdError:
            refused += 1
    assert refused > 0
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


def test_weights_that_are_no_numbers_are_refused(original: Path, tmp_path: Path) -> None:
    folder = tmp_path / "nan"
    make_tiny_llama(folder, tied=False)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = np.nan
    save_file(tensors, folder / "model.safetensors")
    source = make_tiny_gguf(folder, tmp_path / "nan.gguf", kind=GGMLQuantizationType.F32)
    with pytest.raises(ModelDamaged, match="no numbers"):
        converted(source, tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["nan", "nan.gguf"]


def test_what_is_no_convertible_gguf_is_refused(original: Path, tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        converted(tmp_path / "nothing.gguf", tmp_path / "new")
    (tmp_path / "text.gguf").write_text("GG, not UF")
    with pytest.raises(NotAModel):
        converted(tmp_path / "text.gguf", tmp_path / "new")
    make_tiny_gguf(original, tmp_path / "strange.gguf", architecture="bert")
    with pytest.raises(WrongArchitecture, match="bert"):
        converted(tmp_path / "strange.gguf", tmp_path / "new")
    make_tiny_gguf(original, tmp_path / "extra.gguf", extra={"mystery.weight": np.zeros(4, np.float32)})
    with pytest.raises(WrongArchitecture, match="mystery"):
        converted(tmp_path / "extra.gguf", tmp_path / "new")


def test_a_folder_that_is_there_is_not_overwritten(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with pytest.raises(Conflict):
        converted(tiny, tmp_path / "new")


def test_too_little_room_is_seen_before_the_work(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = (10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(conversion.shutil, "disk_usage", lambda _folder: type("Usage", (), {"free": usage[2]}))
    with pytest.raises(NotEnoughDisk):
        converted(tiny, tmp_path / "new")
    assert os.listdir(tmp_path) == ["tiny.gguf"]


def test_a_disk_that_fills_up_during_the_work_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            converted(tiny, tmp_path / "new")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert os.listdir(tmp_path) == ["tiny.gguf"]
