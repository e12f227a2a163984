"""Checkpoints that are whole or absent: written aside, synced, hashed in a manifest, then renamed.

Tensors are safetensors, the rest JSON; nothing is ever unpickled.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from btmd.errors import Damaged
from btmd.files.durable import sync_folder
from btmd.trainer.state import TensorFiles

_ASIDE = ".tmp-"
_PASSED_OVER = "passed-over-"
_FACTS = "facts.json"
_MANIFEST = "manifest.json"
_DTYPE_NAMES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class WrittenFile(msgspec.Struct, frozen=True):
    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What a checkpoint consists of."""

    format: int
    name: str
    files: dict[str, WrittenFile]


class SignedManifest(msgspec.Struct, frozen=True):
    """``sha256`` is over the manifest's own bytes, so that a change to it is noticed too."""

    manifest: msgspec.Raw
    sha256: str


class Checkpoints:
    """The checkpoints of one job."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        """Oldest first."""
        return sorted(path.name for path in self._root.glob("step-*") if path.is_dir())

    def remove_left_overs(self) -> None:
        """Clear away what a crash left half written."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._root.glob(f"{_ASIDE}*"):
            shutil.rmtree(path)

    def save(self, name: str, tensors: TensorFiles, facts: bytes) -> int:
        """Write a checkpoint and return its size in bytes; raises OSError, and then nothing of it is left."""
        aside = self._root / f"{_ASIDE}{name}"
        try:
            aside.mkdir(mode=0o700)
            files = {
                f"{part}.safetensors": _write_tensors(aside / f"{part}.safetensors", held)
                for part, held in tensors.items()
            }
            files[_FACTS] = _write_bytes(aside / _FACTS, facts)
            manifest = msgspec.json.encode(Manifest(1, name, files))
            signed = SignedManifest(msgspec.Raw(manifest), hashlib.sha256(manifest).hexdigest())
            files[_MANIFEST] = _write_bytes(aside / _MANIFEST, msgspec.json.encode(signed))
            sync_folder(aside)
            # One of the same name is there only after an older one had to be used: this is the newer work.
            self.remove(name)
            os.rename(aside, self._root / name)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        sync_folder(self._root)
        return sum(file.size_bytes for file in files.values())

    def load(self, name: str, *, only: str = "") -> tuple[TensorFiles, bytes]:
        """Read a checkpoint after checking every byte of it; raises Damaged. ``only`` names the one file of tensors
        that is wanted: all of them together are three times the weights.
        """
        folder = self._root / name
        manifest = _read_manifest(folder, name)
        for file, written in manifest.files.items():
            _check(folder / file, written)
        try:
            tensors = {
                file.removesuffix(".safetensors"): load_file(folder / file)
                for file in manifest.files
                if file.endswith(".safetensors") and only in ("", file.removesuffix(".safetensors"))
            }
        except SafetensorError as error:
            raise Damaged(f"The checkpoint {name} cannot be read: {error}") from error
        return tensors, (folder / _FACTS).read_bytes()

    def facts(self, name: str) -> bytes:
        """The part that is not tensors, without a look at those; raises Damaged."""
        folder = self._root / name
        _check(folder / _FACTS, _read_manifest(folder, name).files[_FACTS])
        return (folder / _FACTS).read_bytes()

    def set_aside(self, name: str) -> None:
        """Let a checkpoint be used no more; it goes when the next one has been saved."""
        doomed = self._root / f"{_PASSED_OVER}{name}"
        shutil.rmtree(doomed, ignore_errors=True)
        os.rename(self._root / name, doomed)

    def remove(self, name: str) -> None:
        """Take a checkpoint away in one rename, so that no half of it is ever taken for one."""
        doomed = self._root / f"{_ASIDE}doomed-{name}"
        try:
            os.rename(self._root / name, doomed)
        except FileNotFoundError:
            return
        shutil.rmtree(doomed)

    def prune(self, *, keep_newest: int, keep: str | None) -> list[str]:
        """Remove all but the newest ``keep_newest`` (at least 1) and ``keep``, and all that was set aside; returns
        what went of the former.
        """
        for path in self._root.glob(f"{_PASSED_OVER}*"):
            shutil.rmtree(path)
        names = self.names()
        doomed = [name for name in names[: -max(1, keep_newest)] if name != keep]
        for name in doomed:
            self.remove(name)
        return doomed


def _read_manifest(folder: Path, name: str) -> Manifest:
    try:
        signed = msgspec.json.decode((folder / _MANIFEST).read_bytes(), type=SignedManifest)
        if hashlib.sha256(bytes(signed.manifest)).hexdigest() != signed.sha256:
            raise Damaged(f"The checkpoint {name} is damaged: its list of files was altered.")
        manifest = msgspec.json.decode(signed.manifest, type=Manifest)
    except (FileNotFoundError, msgspec.DecodeError) as error:
        raise Damaged(f"The checkpoint {name} is damaged: its list of files is missing or cut.") from error
    if manifest.format != 1 or manifest.name != name or _FACTS not in manifest.files:
        raise Damaged(f"The checkpoint {name} is of an unknown form.")
    return manifest


def _check(path: Path, written: WrittenFile) -> None:
    try:
        size_bytes = path.stat().st_size
        if size_bytes != written.size_bytes:
            raise Damaged(f"{path.name} has {size_bytes} bytes instead of {written.size_bytes}.")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != written.sha256:
                raise Damaged(f"{path.name} was altered after it was written.")
    except FileNotFoundError as error:
        raise Damaged(f"{path.name} is missing.") from error


def _write_bytes(path: Path, data: bytes) -> WrittenFile:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return WrittenFile(len(data), hashlib.sha256(data).hexdigest())


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> WrittenFile:
    """Write a safetensors file tensor by tensor, hashing on the way: no second copy in memory, no second read."""
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _DTYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    digest = hashlib.sha256()
    with path.open("xb") as file:
        for data in (len(encoded).to_bytes(8, "little"), encoded):
            digest.update(data)
            file.write(data)
        for tensor in tensors.values():
            flat = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy()
            digest.update(flat.data)
            file.write(flat.data)
        file.flush()
        os.fsync(file.fileno())
    return WrittenFile(8 + len(encoded) + end, digest.hexdigest())
