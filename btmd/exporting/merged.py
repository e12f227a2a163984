"""The tuned model as a folder of 16-bit safetensors that transformers loads without peft."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from btmd.child.answering import Progress
from btmd.data.chat_template import PLAIN_TEMPLATE
from btmd.data.encoding import Encoder
from btmd.exporting.weights import TunedWeights
from btmd.inspection.model import CONVERSION_NOTE
from btmd.trainer.model.full_model import SHARD_BYTES, copy_surroundings

_TYPES = {"BF16": torch.bfloat16, "F16": torch.float16}
_NOTES = ("btmd-source.json", CONVERSION_NOTE)
"""Where a converted base came from: of this machine, and of no use elsewhere."""
_NAMES = {torch.bfloat16: "bfloat16", torch.float16: "float16"}
_FLOATING = ("F64", "F32", "F16", "BF16")


def write_merged(weights: TunedWeights, base: Path, folder: Path, progress: Progress) -> str:
    """Write config, tokenizer, template and weights; returns the type of the numbers.

    Weights that are in 16 bits stay in the form they have; others become bf16. Memory stays at one tensor's size.
    """
    dtype = _target(weights.dtypes)
    copy_surroundings(base, folder)
    shards = _shards(weights.shapes, weights.dtypes)
    places: dict[str, str] = {}
    done, total = 0, sum(_size(shape, kind) for shard in shards for shape, kind in shard.values())
    tensors = iter(weights)
    for number, shard in enumerate(shards, start=1):
        several = f"-{number:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
        name = f"model{several}.safetensors"
        with (folder / name).open("wb") as file:
            file.write(_head(shard, dtype))
            for wanted, (shape, kind) in shard.items():
                found, tensor = next(tensors)
                assert found == wanted
                file.write(_bytes(tensor.to(dtype) if kind in _FLOATING else tensor))
                places[wanted] = name
                done += _size(shape, kind)
                progress(done / total, "Writing the merged weights")
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    _set_type(folder, dtype)
    return _NAMES[dtype]


def merge_in_memory(base: Path, adapter: Path, folder: Path) -> str:
    """As `write_merged`, by peft, for models whose layers have other names than their files: takes all their memory."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, use_safetensors=True, local_files_only=True, trust_remote_code=False
    )
    merged: Any = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    copy_surroundings(base, folder)
    merged.to(torch.bfloat16).save_pretrained(folder)
    # save_pretrained writes a configuration of its own making; the person's has more to say.
    copy_surroundings(base, folder)
    return "bfloat16"


def copy_whole(result: Path, folder: Path) -> None:
    """A model that was tuned as a whole is in this form already."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in sorted(result.iterdir()):
        if path.is_file():
            shutil.copyfile(path, folder / path.name)


def finish(folder: Path, training_type: str) -> None:
    """Leave out what is of this machine alone, and name the template that was trained with.

    A model without a chat template was trained on plain headings: whoever asks it has to use the same.
    """
    for name in _NOTES:
        (folder / name).unlink(missing_ok=True)
    encoder = Encoder.load(folder)
    if encoder.template_kind == "model" or training_type == "continued_pretraining":
        return
    (folder / "chat_template.jinja").write_text(plain_template(folder), encoding="utf-8")


def plain_template(folder: Path) -> str:
    """The headings as a template that needs nothing of btmd."""
    encoder = Encoder.load(folder)
    rendered = encoder.render([{"role": "user", "content": ""}])
    begin, _, _ = rendered.partition("### User:")
    return PLAIN_TEMPLATE.replace("{{ bos_if_wanted }}", "{{ bos_token }}" if begin else "")


def _target(dtypes: dict[str, str]) -> torch.dtype:
    floating = [kind for kind in dtypes.values() if kind in _FLOATING]
    most = max(set(floating), key=floating.count)
    return _TYPES.get(most, torch.bfloat16)


def _size(shape: tuple[int, ...], kind: str) -> int:
    elements = 1
    for one in shape:
        elements *= one
    if kind in _FLOATING:
        return 2 * elements
    from btmd.inspection.safetensors_header import BITS

    return elements * BITS[kind] // 8


_Shard = dict[str, tuple[tuple[int, ...], str]]


def _shards(shapes: dict[str, tuple[int, ...]], dtypes: dict[str, str]) -> list[_Shard]:
    shards: list[_Shard] = [{}]
    room = SHARD_BYTES
    for name, shape in shapes.items():
        size = _size(shape, dtypes[name])
        if size > room and shards[-1]:
            shards.append({})
            room = SHARD_BYTES
        shards[-1][name] = (shape, dtypes[name])
        room -= size
    return shards


def _head(shard: _Shard, dtype: torch.dtype) -> bytes:
    """The header of a safetensors file: an entry for each tensor, its length before it."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    kind_of = {torch.bfloat16: "BF16", torch.float16: "F16"}[dtype]
    for name, (shape, kind) in shard.items():
        end = at + _size(shape, kind)
        written = kind_of if kind in _FLOATING else kind
        entries[name] = {"dtype": written, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    encoded = json.dumps(entries, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _set_type(folder: Path, dtype: torch.dtype) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = _NAMES[dtype]
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
