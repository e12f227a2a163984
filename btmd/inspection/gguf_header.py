"""Reads the header of a GGUF file and checks that all its tensors' bytes are there, before anything else is done.

Versions 2 and 3, little endian. Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from msgspec import Struct

from btmd.errors import FileMissing, ModelDamaged, NotAModel

_SCALARS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING: Final = 8
_ARRAY: Final = 9
_MOST_ENTRIES: Final = 1_000_000
_LARGEST_VALUE_BYTES: Final = 256 * 1024 * 1024
"""Of one text or one array of numbers; the largest real ones are a vocabulary's."""
_LARGEST_ALIGNMENT: Final = 1 << 20


class GgufTensor(Struct, frozen=True):
    """One tensor: its kind of numbers, its shape (rows first, as in numpy), and where its bytes lie in the file."""

    name: str
    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int
    size_bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


class GgufHeader(Struct, frozen=True):
    """Everything a GGUF file says about itself."""

    values: Mapping[str, Any]
    tensors: tuple[GgufTensor, ...]
    size_bytes: int


def read_gguf_header(path: Path) -> GgufHeader:
    """Read the header. Raises FileMissing, NotAModel for another kind of file, ModelDamaged for one that is cut off."""
    if not path.is_file():
        raise FileMissing(f"There is no file '{path.name}'.", hint="Check the path; relative ones start where you are.")
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise NotAModel(f"'{path.name}' is not a GGUF file.", hint="Give a model folder or a file in GGUF.")
        try:
            header = _read(_Reader(file, size_bytes), size_bytes)
        except (EOFError, struct.error, UnicodeDecodeError, KeyError, ValueError, OverflowError) as error:
            raise ModelDamaged(
                f"The header of '{path.name}' is damaged or cut off.", hint="Copy or download the file again."
            ) from error
    ends = [tensor.offset + tensor.size_bytes for tensor in header.tensors]
    if max(ends, default=0) > size_bytes:
        raise ModelDamaged(
            f"'{path.name}' is cut off: it has {size_bytes:,} of {max(ends):,} bytes.",
            hint="Copy or download the file again.",
        )
    return header


class _Reader:
    """Reads little-endian values, never more than the file can hold."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file = file
        self._size_bytes = size_bytes

    def take(self, count: int) -> bytes:
        if count > min(self._size_bytes, _LARGEST_VALUE_BYTES):
            raise EOFError
        data = self._file.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def number(self, form: str) -> Any:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return value

    def text(self) -> str:
        return self.take(self.number("<Q")).decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.number(_SCALARS[kind])
        kind, count = self.number("<I"), self.number("<Q")
        if kind in _SCALARS:
            form = _SCALARS[kind][1]
            size = struct.calcsize("<" + form)
            return list(struct.unpack(f"<{count}{form}", self.take(count * size)))
        # An array of arrays has no meaning in a model; depth without end would.
        if kind != _STRING or count > min(self._size_bytes, _LARGEST_VALUE_BYTES) // 8:
            raise ValueError("an array of what is no number and no text")
        return [self.text() for _ in range(count)]

    @property
    def position(self) -> int:
        return self._file.tell()


def _read(reader: _Reader, size_bytes: int) -> GgufHeader:
    version = reader.number("<I")
    if version not in (2, 3):
        shown = f"of GGUF version {version}" if version < 1000 else "a GGUF of a big-endian machine"
        raise NotAModel(
            f"The file is {shown}, which is not read.",
            hint="Use a file in GGUF version 2 or 3, little endian.",
        )
    tensor_count, value_count = reader.number("<Q"), reader.number("<Q")
    if max(tensor_count, value_count) > _MOST_ENTRIES:
        raise ValueError("too many entries")
    values = {}
    for _ in range(value_count):
        key = reader.text()
        values[key] = reader.value(reader.number("<I"))
    infos = [_tensor_info(reader) for _ in range(tensor_count)]
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= _LARGEST_ALIGNMENT:
        raise ValueError("no alignment")
    start = -(-reader.position // alignment) * alignment
    tensors = tuple(_tensor(name, kind, shape, start + offset) for name, kind, shape, offset in infos)
    return GgufHeader(values, tensors, size_bytes)


def _tensor_info(reader: _Reader) -> tuple[str, int, tuple[int, ...], int]:
    name = reader.text()
    sides = reader.number("<I")
    if sides > 8:
        raise ValueError("too many dimensions")
    shape = tuple(reader.number("<Q") for _ in range(sides))[::-1]
    return name, reader.number("<I"), shape, reader.number("<Q")


def _tensor(name: str, number: int, shape: tuple[int, ...], offset: int) -> GgufTensor:
    kind = GGMLQuantizationType(number)
    block, block_bytes = GGML_QUANT_SIZES[kind]
    if not shape or shape[-1] % block:
        raise ValueError("a row is not made of whole blocks")
    return GgufTensor(name, kind, shape, offset, math.prod(shape) // block * block_bytes)
