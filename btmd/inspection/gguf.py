"""Converts a single GGUF file to a model folder with bf16 safetensors, piece by piece: memory stays flat."""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from gguf.quants import dequantize
from msgspec import Struct

from btmd.errors import Conflict, ModelDamaged, NotEnoughDisk, WrongArchitecture
from btmd.inspection.facts import ConversionFacts
from btmd.inspection.gguf_header import GgufHeader, GgufTensor, read_gguf_header
from btmd.inspection.gguf_names import (
    ROPE_FACTORS,
    check_family,
    configuration,
    hugging_face_names,
    rows_interleaved,
)
from btmd.inspection.gguf_tokenizer import write_tokenizer
from btmd.inspection.model import CONVERSION_NOTE, inspect_model
from btmd.inspection.requests import aside

_PIECE_ELEMENTS: Final = 2 * 1024 * 1024
_SPARE_BYTES: Final = 64 * 1024 * 1024
_UNQUANTISED: Final = frozenset({"F64", "F32", "F16", "BF16"})

Progress = Callable[[float, str], None]
Floats = npt.NDArray[np.float32]


def convert_gguf(source: Path, folder: Path, *, progress: Progress) -> ConversionFacts:
    """Write ``folder`` from the GGUF file ``source``; it appears whole or not at all.

    Raises FileMissing, ModelRefused in one of its kinds, NotEnoughDisk, or Conflict when the folder is there already.
    """
    header = read_gguf_header(source)
    family = check_family(header)
    named = hugging_face_names(header)
    if folder.exists():
        raise Conflict("This model was converted before.", hint="Remove it first to convert it anew.")
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_room(folder.parent, 2 * sum(tensor.elements for tensor in named.values()))
    part = Path(aside(str(folder)))
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    try:
        config = configuration(header, _rope_factors(source, header))
        _write_json(part / "config.json", config)
        progress(0.01, "Converting the tokenizer")
        warnings = write_tokenizer(header.values, source, part, config["max_position_embeddings"])
        heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
        plan = _Plan.make(family, named, heads)
        sha256 = _write_weights(source, part / "model.safetensors", plan, progress)
        quantised = quantisation(header)
        note = {
            "converted_from": source.name,
            "source_sha256": sha256,
            "quantised": quantised,
            "license": header.values.get("general.license"),
            "name": header.values.get("general.name"),
            "warnings": warnings,
        }
        _write_json(part / CONVERSION_NOTE, note)
        progress(0.98, "Checking the result")
        inspect_model(part, tokenizer_folder=None, progress=lambda _share, _text: None)
        _sync(part)
        part.replace(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    facts = inspect_model(folder, tokenizer_folder=None, progress=lambda _share, _text: None)
    return ConversionFacts(
        folder=str(folder),
        source_sha256=sha256,
        source_size_bytes=header.size_bytes,
        quantised=quantised,
        tensors=len(named),
        model=facts,
    )


def read_tensors(source: Path) -> Iterator[tuple[str, Floats]]:
    """Every tensor of a GGUF file in fp32, one at a time, as transformers names and orders it.

    Raises as `convert_gguf` does.
    """
    header = read_gguf_header(source)
    family = check_family(header)
    config = read_configuration(source)
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    with source.open("rb") as file:
        for name, tensor in hugging_face_names(header).items():
            rows = 1 if len(tensor.shape) == 1 else tensor.shape[0]
            values = _read_rows(file.fileno(), tensor, 0, rows).reshape(tensor.shape)
            if rows_interleaved(family, name):
                values = _reordered(values, tensor.shape[0] // heads["q_proj" if "q_proj" in name else "k_proj"])
            yield name, values


def read_configuration(source: Path) -> dict[str, Any]:
    """The config.json that a GGUF file's values come to."""
    header = read_gguf_header(source)
    check_family(header)
    return configuration(header, _rope_factors(source, header))


def _check_room(folder: Path, weights_bytes: int) -> None:
    needed, free = weights_bytes + _SPARE_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        raise NotEnoughDisk(
            f"The converted model takes {needed / 1e9:.1f} GB, and only {free / 1e9:.1f} GB are free.",
            hint="Free some room, or put the state folder on a larger disk (BTMD_STATE_DIR).",
        )


def quantisation(header: GgufHeader) -> str | None:
    """The kind most weights are kept in, None when that is a plain number."""
    sizes: Counter[str] = Counter()
    for tensor in header.tensors:
        sizes[tensor.kind.name] += tensor.elements
    most = sizes.most_common(1)[0][0]
    return None if most in _UNQUANTISED else most


def _rope_factors(source: Path, header: GgufHeader) -> list[float] | None:
    for tensor in header.tensors:
        if tensor.name == ROPE_FACTORS:
            with source.open("rb") as file:
                values = _read_rows(file.fileno(), tensor, 0, 1)
            return [float(value) for value in values.reshape(-1)]
    return None


class _Piece(Struct, frozen=True):
    """Some rows of one tensor, and the byte of the new file they begin at."""

    tensor: GgufTensor
    first_row: int
    rows: int
    heads_size: int | None
    """Rows of one head, where their order within it has to be put back."""
    at: int


class _Plan(Struct, frozen=True):
    """The new file before it is written: its header, and the pieces that fill it."""

    head: bytes
    pieces: tuple[_Piece, ...]
    size_bytes: int

    @classmethod
    def make(cls, family: str, named: Mapping[str, GgufTensor], heads: Mapping[str, int]) -> "_Plan":
        entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        starts = {}
        for name, tensor in named.items():
            starts[name] = end
            end += 2 * tensor.elements
            entries[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [starts[name], end]}
        encoded = json.dumps(entries, separators=(",", ":")).encode()
        encoded += b" " * (-len(encoded) % 8)
        head = len(encoded).to_bytes(8, "little") + encoded
        pieces: list[_Piece] = []
        for name, tensor in named.items():
            head_size = None
            if rows_interleaved(family, name):
                head_size = tensor.shape[0] // heads["q_proj" if "q_proj" in name else "k_proj"]
            pieces += _pieces(tensor, head_size, len(head) + starts[name])
        return cls(head, tuple(pieces), len(head) + end)


def _pieces(tensor: GgufTensor, head_size: int | None, start: int) -> Iterator[_Piece]:
    if len(tensor.shape) == 1:
        # Biases and norms are small: whole.
        yield _Piece(tensor, 0, 1, head_size, start)
        return
    rows, length = tensor.shape[0], tensor.elements // tensor.shape[0]
    unit = head_size or 1
    step = max(unit, _PIECE_ELEMENTS // length // unit * unit)
    for first in range(0, rows, step):
        yield _Piece(tensor, first, min(step, rows - first), head_size, start + 2 * first * length)


def _write_weights(source: Path, target: Path, plan: _Plan, progress: Progress) -> str:
    """Write all pieces, a few at a time; returns the source's SHA-256."""
    workers = max(1, min(4, len(os.sched_getaffinity(0))))
    done = 0
    total = sum(piece.rows * (piece.tensor.elements // piece.tensor.shape[0]) for piece in plan.pieces)
    with source.open("rb") as file, target.open("wb") as out, ThreadPoolExecutor(workers + 1) as pool:
        os.truncate(out.fileno(), plan.size_bytes)
        os.pwrite(out.fileno(), plan.head, 0)
        digest = pool.submit(_sha256, source)
        waiting = {pool.submit(_convert, piece, file.fileno(), out.fileno()) for piece in plan.pieces}
        try:
            while waiting:
                finished, waiting = wait(waiting, timeout=0.5, return_when=FIRST_EXCEPTION)
                done += sum(future.result() for future in finished)
                progress(0.02 + 0.95 * min(1.0, done / total), "Converting the weights")
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        sha256 = digest.result()
        os.fsync(out.fileno())
    return sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _convert(piece: _Piece, source: int, target: int) -> int:
    values = _read_rows(source, piece.tensor, piece.first_row, piece.rows)
    if piece.heads_size is not None:
        values = _reordered(values.reshape(-1) if len(piece.tensor.shape) == 1 else values, piece.heads_size)
    if not np.isfinite(values).all():
        raise ModelDamaged(
            f"The tensor '{piece.tensor.name}' holds values that are no numbers.", hint="Copy or download it again."
        )
    data = memoryview(_as_bfloat16(values).tobytes())
    at = piece.at
    while data:
        written = os.pwrite(target, data, at)
        data, at = data[written:], at + written
    return int(values.size)


def _read_rows(source: int, tensor: GgufTensor, first: int, rows: int) -> Floats:
    count = 1 if len(tensor.shape) == 1 else tensor.shape[0]
    row_bytes = tensor.size_bytes // count
    data = os.pread(source, rows * row_bytes, tensor.offset + first * row_bytes)
    if len(data) < rows * row_bytes:
        raise ModelDamaged("The GGUF file became shorter while it was read.", hint="Copy it again, then add it.")
    raw = np.frombuffer(data, np.uint8).reshape(rows, row_bytes)
    try:
        # Damaged scales overflow; that is noticed by the values.
        with np.errstate(all="ignore"):
            values: Floats = dequantize(raw, tensor.kind)
    except NotImplementedError as error:
        raise WrongArchitecture(
            f"The quantisation {tensor.kind.name} cannot be converted.",
            hint="Use a GGUF in F16, Q8_0, Q6_K, Q5_K_M or Q4_K_M.",
        ) from error
    return values


def _reordered(values: Floats, head_size: int) -> Floats:
    """Puts the rows of each head back: GGUF keeps the two halves of a rotary pair next to each other."""
    heads = values.reshape(-1, head_size // 2, 2, *values.shape[1:])
    return np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(values.shape)


def _as_bfloat16(values: Floats) -> npt.NDArray[np.uint16]:
    """The upper halves of the floats, rounded to nearest, ties to even, as torch rounds."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits + (((bits >> 16) & 1) + 0x7FFF)
    return (rounded >> 16).astype(np.uint16)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def _sync(folder: Path) -> None:
    """Everything in the folder, and its own list of names, onto the disk."""
    for path in [*(child for child in folder.iterdir() if child.is_file()), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
