"""Reads what a safetensors file says about itself, and checks that its bytes can be all there."""

import json
import math
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from btmd.errors import ModelDamaged

_MOST_HEADER_BYTES: Final = 100_000_000
"""The format's own limit."""
BITS: Final = {
    "F64": 64,
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "I64": 64,
    "U64": 64,
    "I32": 32,
    "U32": 32,
    "I16": 16,
    "U16": 16,
    "I8": 8,
    "U8": 8,
    "BOOL": 8,
}


class Tensor(Struct, frozen=True):
    """One tensor of a file; ``dtype`` in the format's own spelling (``BF16``)."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.elements * BITS[self.dtype] // 8


class Header(Struct, frozen=True):
    """A file's tensors by name, the header's own bytes, and the file's size."""

    tensors: dict[str, Tensor]
    raw: bytes
    size_bytes: int


def read_header(path: Path) -> Header:
    """Read and check the header alone. Raises ModelDamaged, naming the file, if it cannot be whole."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size_bytes < 10 or length > min(_MOST_HEADER_BYTES, size_bytes - 8):
            raise _damaged(path, "its header is not whole")
        raw = file.read(length)
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "its header cannot be read") from error
    if not isinstance(content, dict):
        raise _damaged(path, "its header cannot be read")
    body_bytes = size_bytes - 8 - length
    tensors: dict[str, Tensor] = {}
    last = 0
    for name, entry in content.items():
        if name == "__metadata__":
            continue
        tensor, end = _tensor(path, entry)
        tensors[name] = tensor
        last = max(last, end)
    if last > body_bytes:
        raise _damaged(path, f"{last - body_bytes:,} of {last:,} bytes of its weights are missing")
    if last < body_bytes:
        raise _damaged(path, f"{body_bytes - last:,} bytes stand behind its weights")
    return Header(tensors, raw, size_bytes)


def _tensor(path: Path, entry: Any) -> tuple[Tensor, int]:
    try:
        start, end = entry["data_offsets"]
        tensor = Tensor(entry["dtype"], tuple(entry["shape"]))
        whole = all(type(number) is int and number >= 0 for number in (start, end, *tensor.shape))
        fits = whole and start <= end and end - start == tensor.size_bytes
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, "its header cannot be understood") from error
    if not fits:
        raise _damaged(path, "a tensor's place in it does not match its shape")
    return tensor, end


def _damaged(path: Path, what: str) -> ModelDamaged:
    return ModelDamaged(
        f"The weights file {path.name} is damaged or incomplete: {what}.", hint="Copy or download the file again."
    )
