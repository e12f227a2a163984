"""What a model folder is recognised by: configuration, tokenizer, and the headers and sizes of its weights.

A change of a weight that leaves the size alone is not seen here: only `btmctl models verify` reads every byte.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final

SLOW_TOKENIZERS: Final = (
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
    "tekken.json",
)
"""Files of the older kinds of tokenizers."""
_FINGERPRINTED: Final = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    *SLOW_TOKENIZERS,
)
_INDEX: Final = "model.safetensors.index.json"
LARGEST_INDEX_BYTES: Final = 32 * 1024 * 1024
_LONGEST_HEADER_BYTES: Final = 100_000_000
_BLOCK_BYTES: Final = 1024 * 1024


def fingerprint(folder: Path, headers: Mapping[str, tuple[bytes, int]]) -> str:
    """SHA-256 of the folder's small files and of ``headers``: raw bytes and file size by the weight file's name."""
    digest = _of_small_files(folder)
    for name, (raw, size_bytes) in sorted(headers.items()):
        digest.update(f"{name}\0{size_bytes}\0".encode() + raw)
    return digest.hexdigest()


def fingerprint_now(folder: Path) -> str:
    """The folder's fingerprint as its files are now; nothing is checked. Raises OSError, ValueError.

    Nothing is kept in memory: a header may have a hundred megabytes, and a model a thousand of them.
    """
    digest = _of_small_files(folder)
    for name in _weight_files(folder):
        path = folder / name
        size_bytes = path.stat().st_size
        digest.update(f"{name}\0{size_bytes}\0".encode())
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            _add(digest, file, min(length, size_bytes, _LONGEST_HEADER_BYTES))
    return digest.hexdigest()


def _of_small_files(folder: Path) -> "hashlib._Hash":
    digest = hashlib.sha256()
    for name in _FINGERPRINTED:
        path = folder / name
        if path.is_file():
            size_bytes = path.stat().st_size
            digest.update(f"{name}\0{size_bytes}\0".encode())
            with path.open("rb") as file:
                _add(digest, file, size_bytes)
    return digest


def _add(digest: "hashlib._Hash", file: BinaryIO, left: int) -> None:
    while left > 0 and (block := file.read(min(left, _BLOCK_BYTES))):
        digest.update(block)
        left -= len(block)


def _weight_files(folder: Path) -> list[str]:
    index = folder / _INDEX
    if not index.is_file():
        return ["model.safetensors"]
    if index.stat().st_size > LARGEST_INDEX_BYTES:
        raise ValueError(f"{_INDEX} is larger than any")
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{_INDEX} cannot be read") from error
    if not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise ValueError(f"{_INDEX} names files outside the folder")
    return sorted(names)
