"""Reads every byte of a model folder: the only way to notice a weight that changed in place."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from btmd.errors import FileMissing, NotAModel
from btmd.inspection.facts import FileHashes

_BLOCK_BYTES: Final = 4 * 1024 * 1024
_MOST_FILES: Final = 2000

Progress = Callable[[float, str], None]


def hash_files(folder: Path, progress: Progress) -> FileHashes:
    """SHA-256 of the files that stand in the folder itself, hidden ones left out; links are followed.

    Raises FileMissing, or NotAModel for a folder with too many files to be one.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise FileMissing(
            f"The folder {folder} cannot be read.", hint="Put it back, or add the model again."
        ) from error
    if len(paths) > _MOST_FILES:
        raise NotAModel(f"The folder holds {len(paths):,} files; a model has a few dozen.", hint="Add another folder.")
    total = sum(path.stat().st_size for path in paths)
    done = 0
    hashes: dict[str, str] = {}
    for path in paths:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                done += len(block)
                progress(min(1.0, done / max(1, total)), f"Reading {path.name}")
        hashes[path.name] = digest.hexdigest()
    return FileHashes(files=hashes, size_bytes=done)
