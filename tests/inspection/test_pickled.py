"""Pickled weights become safetensors through a reader of tensors alone; a program hidden in them is never run."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from btmd.errors import ModelDamaged, ModelRefused, NotAModel, PickleRunsCode
from btmd.frames import Tick
from btmd.inspection.pickled import convert_pickled
from tests.fixtures.tiny_families import make_family
from tests.fixtures.tiny_model import make_tiny_llama
from tests.trainer.here import only, train_here
from tests.trainer.job import frames_of, make_job


def convert(source: Path, folder: Path) -> Any:
    return convert_pickled(source, folder, progress=lambda _share, _text: None)


def pickle_weights(folder: Path, *, shards: int = 1, old_form: bool = False) -> dict[str, torch.Tensor]:
    """Bring a model folder into the form of years ago; returns its tensors."""
    tensors = load_file(folder / "model.safetensors")
    # Published files held the head beside the embedding that it is.
    if "lm_head.weight" not in tensors:
        embedding = next(name for name in tensors if name.endswith(("embed_tokens.weight", "wte.weight")))
        tensors["lm_head.weight"] = tensors[embedding]
    (folder / "model.safetensors").unlink()
    if shards == 1:
        torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not old_form)
        return tensors
    places = {name: f"pytorch_model-{index % shards + 1:05}-of-{shards:05}.bin" for index, name in enumerate(tensors)}
    for file in set(places.values()):
        torch.save({name: tensors[name] for name in places if places[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return tensors


def converted_tensors(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in folder.glob("*.safetensors"):
        found.update(load_file(path))
    return found


@pytest.mark.parametrize(("shards", "old_form"), [(1, False), (1, True), (3, False)])
def test_tensors_come_over_bit_by_bit_with_everything_around_them(shards: int, old_form: bool, tmp_path: Path) -> None:
    source = make_tiny_llama(tmp_path / "old", dtype="bfloat16")
    tensors = pickle_weights(source, shards=shards, old_form=old_form)
    before = sorted(os.listdir(source))
    facts = convert(source, tmp_path / "state" / "new")
    del tensors["lm_head.weight"]
    made = converted_tensors(tmp_path / "state" / "new")
    assert made.keys() == tensors.keys()
    assert all(torch.equal(made[name], tensor) and made[name].dtype == tensor.dtype for name, tensor in tensors.items())
    assert (facts.files, facts.tensors, facts.model.dtype) == (shards, len(tensors), "bfloat16")
    assert facts.model.tied_embeddings
    assert sorted(os.listdir(source)) == before
    assert os.listdir(tmp_path / "state") == ["new"]


def test_gpt2_as_it_was_published_is_converted(tmp_path: Path) -> None:
    source = make_family(tmp_path / "old", "gpt2")
    pickle_weights(source)
    facts = convert(source, tmp_path / "new")
    assert facts.model.linear_layers == ("c_attn", "c_fc", "c_proj")


def test_what_was_converted_is_trained(tmp_path: Path) -> None:
    source = make_tiny_llama(tmp_path / "old")
    pickle_weights(source)
    convert(source, tmp_path / "new")
    job = make_job(tmp_path, model_folder=str(tmp_path / "new"), max_steps=1)
    train_here(job)
    assert [tick.step for tick in only(Tick, frames_of(job))] == [1]


class Program:
    """Runs when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["zip", "old", "bare"])
def test_a_program_in_a_pickle_is_refused_and_not_run(form: str, tmp_path: Path) -> None:
    source = make_tiny_llama(tmp_path / "old")
    (source / "model.safetensors").unlink()
    proof = tmp_path / "it-ran"
    content = {"weight": torch.zeros(2), "more": Program(os.system, f"touch {proof}")}
    if form == "bare":
        (source / "pytorch_model.bin").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, source / "pytorch_model.bin", _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(PickleRunsCode) as refusal:
        convert(source, tmp_path / "state" / "new")
    assert not proof.exists()
    assert "Nothing was run" in refusal.value.detail
    assert os.listdir(tmp_path / "state") == []
    # The proof is one: an ordinary reader runs it.
    if form == "bare":
        pickle.loads((source / "pytorch_model.bin").read_bytes())
        assert proof.exists()


def cut(source: Path) -> None:
    os.truncate(source / "pytorch_model.bin", 3000)


def hold_a_checkpoint(source: Path) -> None:
    torch.save({"epoch": 3, "weight": torch.zeros(2)}, source / "pytorch_model.bin")


def hold_a_list(source: Path) -> None:
    torch.save([torch.zeros(2)], source / "pytorch_model.bin")


def hold_nothing(source: Path) -> None:
    (source / "pytorch_model.bin").unlink()


def lead_outside(source: Path) -> None:
    (source / "pytorch_model.bin").unlink()
    (source / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": "../x.bin"}}))


BROKEN: list[tuple[Callable[[Path], None], type[Exception]]] = [
    (cut, ModelDamaged),
    (hold_a_checkpoint, ModelRefused),
    (hold_a_list, ModelRefused),
    (hold_nothing, NotAModel),
    (lead_outside, ModelDamaged),
]


@pytest.mark.parametrize(("damage", "error"), BROKEN)
def test_what_is_no_model_leaves_nothing_behind(
    damage: Callable[[Path], None], error: type[Exception], tmp_path: Path
) -> None:
    source = make_tiny_llama(tmp_path / "old")
    pickle_weights(source)
    damage(source)
    with pytest.raises(error):
        convert(source, tmp_path / "state" / "new")
    assert not (tmp_path / "state").exists() or os.listdir(tmp_path / "state") == []
