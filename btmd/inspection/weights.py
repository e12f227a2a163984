"""Finds a model folder's weight files and checks by their headers that all of them are there and whole."""

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from btmd.errors import ModelDamaged, ModelRefused, NotAModel, PickledWeights
from btmd.inspection.safetensors_header import Header, Tensor, read_header

_DTYPES: Final = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
_PICKLED: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_EMBEDDINGS: Final = ("embed_tokens.weight", "wte.weight", "embed_in.weight")
_BLOCK: Final = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")


def read_headers(folder: Path) -> dict[str, Header]:
    """The header of every weight file, by its name. Raises ModelDamaged, PickledWeights or NotAModel."""
    index_path = folder / "model.safetensors.index.json"
    if index_path.is_file():
        return _read_shards(folder, index_path)
    files = sorted(path for path in folder.glob("*.safetensors") if path.name != "adapter_model.safetensors")
    if not files:
        _refuse_no_weights(folder)
    shards = [path for path in files if re.search(r"-\d{5}-of-\d{5}\.safetensors$", path.name)]
    if shards:
        raise ModelDamaged(
            "The weights are in several files, but the list that says which (model.safetensors.index.json) is missing.",
            hint="Fetch that file too.",
        )
    single = next((path for path in files if path.name == "model.safetensors"), None)
    if single is None:
        raise NotAModel(
            "The folder has .safetensors files, but none is called model.safetensors.",
            hint="Keep the names the model was published with.",
        )
    return {single.name: read_header(single)}


def _read_shards(folder: Path, index_path: Path) -> dict[str, Header]:
    try:
        places: dict[str, str] = json.loads(index_path.read_bytes())["weight_map"]
        names = sorted(set(places.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelDamaged(f"{index_path.name} cannot be read.", hint="Fetch the file again.") from error
    if any(Path(name).name != name for name in names):
        raise ModelDamaged(f"{index_path.name} names files outside the folder.", hint="Use the model as published.")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ModelDamaged(
            f"{len(missing)} of the {len(names)} weight files are missing; the first is {missing[0]}.",
            hint="Fetch the missing files.",
        )
    headers = {name: read_header(folder / name) for name in names}
    lost = [tensor for tensor, name in places.items() if tensor not in headers[name].tensors]
    if lost:
        raise ModelDamaged(
            f"{len(lost)} tensors are not in the file that {index_path.name} names.", hint="Fetch the files again."
        )
    return headers


def _refuse_no_weights(folder: Path) -> None:
    if any(next(folder.glob(pattern), None) is not None for pattern in _PICKLED):
        raise PickledWeights(
            "The weights are pickled (.bin, .pt): reading them can run anything hidden in them.",
            hint="Use the model's .safetensors version if there is one; `btmctl models add PATH --convert` reads the "
            "tensors alone and keeps them as safetensors.",
        )
    raise NotAModel("The folder has no weights: no .safetensors file.", hint="Fetch the weights too.")


def check_layers(tensors: Mapping[str, Tensor], layers: int) -> None:
    """Raises ModelDamaged unless the tensors' names count exactly this many layers."""
    found = {int(match[1]) for name in tensors if (match := _BLOCK.search(name))}
    # Not compared with a range: a damaged configuration may promise any number.
    if found and (len(found) != layers or max(found) != layers - 1):
        raise ModelDamaged(
            f"The configuration promises {layers} layers, but the weights hold {len(found)}.",
            hint="The folder mixes files of two models, or a weight file is missing: fetch it again.",
        )


def check_embedding(tensors: Mapping[str, Tensor], vocab_size: int, widths: Collection[int]) -> None:
    """Raises ModelDamaged unless the embedding has a row for every token and one of these widths."""
    for name, tensor in tensors.items():
        if not name.endswith(_EMBEDDINGS) or len(tensor.shape) != 2:
            continue
        rows, width = tensor.shape
        if rows != vocab_size or width not in widths:
            raise ModelDamaged(
                f"The configuration promises {vocab_size:,} tokens of width {min(widths):,}, "
                f"but the weights hold {rows:,} of width {width:,}.",
                hint="The folder mixes files of two models: fetch it again.",
            )


def linear_layers(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The last parts of the names of the blocks' matrices, sorted: what an adapter can be put on."""
    found = {
        name.removesuffix(".weight").rpartition(".")[2]
        for name, tensor in tensors.items()
        if len(tensor.shape) == 2 and name.endswith(".weight") and _BLOCK.search(name)
    }
    return tuple(sorted(found))


def main_dtype(tensors: Mapping[str, Tensor]) -> str:
    """The type most bytes of the weights are in. Raises ModelRefused for one that cannot be trained."""
    sizes: Counter[str] = Counter()
    for tensor in tensors.values():
        sizes[tensor.dtype] += tensor.size_bytes
    if not sizes:
        raise ModelDamaged("The weight files hold no tensors.", hint="Fetch them again.")
    most = sizes.most_common(1)[0][0]
    if most not in _DTYPES:
        raise ModelRefused(
            f"The weights are stored as {most} and cannot be trained in this form.",
            hint="Use the model's version in bf16, fp16 or fp32.",
        )
    return _DTYPES[most]
