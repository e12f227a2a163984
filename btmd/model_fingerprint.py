"""What a model folder is recognised by: configuration, tokenizer, and the headers and sizes of its weights.

A change of a weight that leaves the size alone is not seen here: only `btmctl models verify` reads every byte.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

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
_LONGEST_HEADER_BYTES: Final = 100_000_000


def fingerprint(folder: Path, headers: Mapping[str, tuple[bytes, int]]) -> str:
    """SHA-256 of the folder's small files and of ``headers``: raw bytes and file size by the weight file's name."""
    digest = hashlib.sha256()
    for name in _FINGERPRINTED:
        path = folder / name
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    for name, (raw, size_bytes) in sorted(headers.items()):
        digest.update(f"{name}\0{size_bytes}\0".encode() + raw)
    return digest.hexdigest()


def fingerprint_now(folder: Path) -> str:
    """The folder's fingerprint as its files are now; nothing is checked. Raises OSError, ValueError."""
    return fingerprint(folder, {name: _raw_header(folder / name) for name in _weight_files(folder)})


def _weight_files(folder: Path) -> list[str]:
    if not (folder / _INDEX).is_file():
        return ["model.safetensors"]
    try:
        names = set(json.loads((folder / _INDEX).read_bytes())["weight_map"].values())
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{_INDEX} cannot be read") from error
    if not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise ValueError(f"{_INDEX} names files outside the folder")
    return sorted(names)


def _raw_header(path: Path) -> tuple[bytes, int]:
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return file.read(min(length, size_bytes, _LONGEST_HEADER_BYTES)), size_bytes
