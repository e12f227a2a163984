"""A whole fine-tuned model as a Hugging Face folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

SHARD_BYTES = 4_000_000_000
_WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".gguf", ".msgpack")


def copy_surroundings(source: Path, folder: Path) -> None:
    """Copy tokenizer, template and settings, everything but weights; ``config.json`` then says bf16."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.is_file() and not path.name.endswith(_WEIGHTS) and not path.name.startswith("."):
            shutil.copyfile(path, folder / path.name)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config.pop("torch_dtype", None)
    config["dtype"] = "bfloat16"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def write_weights(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write ``tensors`` as bf16, in one file or in shards of SHARD_BYTES with their index."""
    shards: list[dict[str, Tensor]] = [{}]
    room = SHARD_BYTES
    for name, tensor in tensors.items():
        size_bytes = tensor.numel() * 2
        if size_bytes > room and shards[-1]:
            shards.append({})
            room = SHARD_BYTES
        shards[-1][name] = tensor.detach()
        room -= size_bytes
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        several = f"-{number:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
        file = f"model{several}.safetensors"
        whole = {name: tensor.to("cpu", torch.bfloat16).contiguous() for name, tensor in shard.items()}
        save_file(whole, folder / file, metadata={"format": "pt"})
        places.update(dict.fromkeys(shard, file))
    if len(shards) > 1:
        total = sum(tensor.numel() * 2 for tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
