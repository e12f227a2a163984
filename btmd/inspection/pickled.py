"""Converts pickled weights to safetensors with a reader that knows tensors and nothing else.

A pickle is a program. torch's ``weights_only`` reader refuses every instruction that is not about a tensor, before it
is carried out; and it works in a process without a network.
"""

import json
import re
import resource
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from btmd.domain.units import GIB
from btmd.errors import Conflict, ModelDamaged, ModelRefused, NotAModel, NotEnoughDisk, PickleRunsCode
from btmd.inspection.facts import ModelFacts, PickleConversionFacts
from btmd.inspection.model import CONVERSION_NOTE, inspect_model
from btmd.inspection.requests import aside
from btmd.model_fingerprint import SLOW_TOKENIZERS

_SINGLE: Final = "pytorch_model.bin"
_INDEX: Final = "pytorch_model.bin.index.json"
_SPARE_BYTES: Final = 200_000_000
_LARGEST_COPIED_BYTES: Final = 200_000_000
_WEIGHTS: Final = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".safetensors", ".gguf", ".ot")
_FORBIDDEN: Final = re.compile(r"(?:GLOBAL|type) '?([\w.]+)")
_DTYPES: Final = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip

Progress = Callable[[float, str], None]


def convert_pickled(source: Path, folder: Path, *, progress: Progress) -> PickleConversionFacts:
    """Write ``folder`` with the weights of ``source`` as safetensors and everything else as it is, whole or not at all.

    Raises NotAModel, ModelDamaged, PickleRunsCode, NotEnoughDisk, Conflict, and what inspect_model raises.
    """
    names = _pickled_files(source)
    if folder.exists():
        raise Conflict("This model was converted before.", hint="Remove it first to convert it anew.")
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    sizes = {name: (source / name).stat().st_size for name in names}
    _check_room(folder.parent, sum(sizes.values()))
    _allow_memory(max(sizes.values()))
    part = Path(aside(str(folder)))
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    try:
        _copy_surroundings(source, part)
        progress(0.02, "Loading the libraries that read tensors")
        tensors = _convert_all(source, part, names, sizes, progress)
        _convert_old_tokenizer(part)
        note = {"converted_from": source.name, "pickled_files": names}
        (part / CONVERSION_NOTE).write_text(json.dumps(note, indent=2), encoding="utf-8")
        progress(0.97, "Checking the result")
        facts: ModelFacts = inspect_model(part, tokenizer_folder=None, progress=lambda _share, _text: None)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return PickleConversionFacts(folder=str(folder), files=len(names), tensors=tensors, model=facts)


def _pickled_files(source: Path) -> list[str]:
    if not (source / "config.json").is_file():
        raise NotAModel(f"'{source.name}' is not a model: it has no config.json.", hint="Give the model's folder.")
    if (source / _SINGLE).is_file():
        return [_SINGLE]
    try:
        names = sorted(set(json.loads((source / _INDEX).read_bytes())["weight_map"].values()))
    except FileNotFoundError:
        raise NotAModel(
            f"The folder has no {_SINGLE} to convert.", hint="Other pickled files are not converted; get safetensors."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelDamaged(f"{_INDEX} cannot be read.", hint="Fetch the file again.") from error
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise ModelDamaged(f"{_INDEX} names files outside the folder.", hint="Use the model as published.")
    if missing := [name for name in names if not (source / name).is_file()]:
        raise ModelDamaged(f"The weight file {missing[0]} is missing.", hint="Fetch the missing files.")
    return names


def _check_room(folder: Path, weights_bytes: int) -> None:
    needed, free = weights_bytes + _SPARE_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        raise NotEnoughDisk(
            f"The converted model takes {needed / 1e9:.1f} GB, and only {free / 1e9:.1f} GB are free.",
            hint="Free some room, or put the state folder on a larger disk (BTMD_STATE_DIR).",
        )


def _allow_memory(largest_bytes: int) -> None:
    """A file is mapped rather than read, but the kernel counts the mapping as if it were."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_DATA, (soft + largest_bytes + GIB, hard))


def _copy_surroundings(source: Path, part: Path) -> None:
    for path in source.iterdir():
        is_weights = path.name.endswith(_WEIGHTS) or path.name == _INDEX
        if path.is_file() and not is_weights and path.stat().st_size <= _LARGEST_COPIED_BYTES:
            shutil.copyfile(path, part / path.name)


def _convert_all(source: Path, part: Path, names: list[str], sizes: Mapping[str, int], progress: Progress) -> int:
    """Convert file by file; returns the number of tensors."""
    leave_out = _tied_names(part)
    places: dict[str, str] = {}
    done = 0
    for number, name in enumerate(names, 1):
        progress(0.1 + 0.85 * done / sum(sizes.values()), f"Converting {name}")
        target = "model.safetensors" if len(names) == 1 else f"model-{number:05d}-of-{len(names):05d}.safetensors"
        tensors = _kept(_read(source / name), leave_out)
        if repeated := places.keys() & tensors.keys():
            raise ModelDamaged(f"The tensor {min(repeated)} stands in two weight files.", hint="Fetch the files again.")
        _write(part / target, tensors)
        places.update(dict.fromkeys(tensors, target))
        done += sizes[name]
    if len(names) > 1:
        index = {"metadata": {}, "weight_map": places}
        (part / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return len(places)


def _read(path: Path) -> dict[str, Any]:
    import pickle

    import torch

    try:
        # The old form without a zip archive cannot be mapped.
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        found = _FORBIDDEN.search(str(error))
        what = f" ({found[1]})" if found is not None else ""
        raise PickleRunsCode(
            f"{path.name} holds more than tensors{what}: reading it would run a program hidden in it. Nothing was run.",
            hint="Do not use this file. Most models are published as .safetensors too.",
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelDamaged(f"{path.name} is damaged or cut off.", hint="Copy or download the file again.") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise ModelRefused(f"{path.name} holds no named tensors.", hint="Use the model as it was published.")
    odd = [name for name, value in content.items() if not isinstance(name, str) or not isinstance(value, torch.Tensor)]
    if odd:
        raise ModelRefused(
            f"{path.name} holds something else than tensors under {str(odd[0])[:60]!r}.",
            hint="Use the model as it was published, not a checkpoint of its training.",
        )
    return dict(content)


def _tied_names(folder: Path) -> tuple[str, ...]:
    """The head, where the configuration says that it is the embedding: it is kept once."""
    from transformers import AutoConfig

    try:
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelDamaged("The model's config.json cannot be used.", hint="Fetch the file again.") from error
    return ("lm_head.weight", "embed_out.weight") if getattr(config, "tie_word_embeddings", False) else ()


def _kept(tensors: Mapping[str, Any], leave_out: tuple[str, ...]) -> dict[str, Any]:
    """The tensors that are kept, checked: a head that is the embedding goes. Raises ModelRefused."""
    kept: dict[str, Any] = {}
    for name, tensor in tensors.items():
        if leave_out and name.endswith(leave_out):
            continue
        if str(tensor.dtype).removeprefix("torch.") not in _DTYPES or str(tensor.layout) != "torch.strided":
            raise ModelRefused(
                f"The tensor {name[:60]} is of a kind that cannot be kept ({tensor.dtype}).",
                hint="Use the model's version in bf16, fp16 or fp32.",
            )
        kept[name] = tensor
    return kept


def _write(path: Path, tensors: Mapping[str, Any]) -> None:
    """A safetensors file, one tensor after the other, so that no second copy of all stands in memory."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        code = _DTYPES[str(tensor.dtype).removeprefix("torch.")]
        entries[name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [start, end]}
    encoded = json.dumps(entries, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for tensor in tensors.values():
            _write_tensor(file, tensor)
        file.flush()


def _write_tensor(file: BinaryIO, tensor: Any) -> None:
    import torch

    if tensor.numel():
        file.write(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _convert_old_tokenizer(part: Path) -> None:
    if (part / "tokenizer.json").is_file() or not any((part / name).is_file() for name in SLOW_TOKENIZERS):
        return
    from btmd.inspection.tokenizer_conversion import convert_tokenizer

    converted = part / "converted-tokenizer"
    convert_tokenizer(part, converted)
    for path in converted.iterdir():
        if not (part / path.name).exists() or path.name.startswith("tokenizer"):
            path.replace(part / path.name)
    shutil.rmtree(converted)
