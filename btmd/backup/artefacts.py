"""Files that go along with a backup: contents of datasets, adapters, answers. Each is kept once, by its content."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec
import zstandard

from btmd.backup.folder import BackupFolder
from btmd.backup.manifests import ArtefactKind, StoredArtefact
from btmd.backup.private_files import folder_errors, open_private, place_file
from btmd.backup.sealed_file import Sealed, open_sealed
from btmd.errors import Damaged, InvalidValue, Tampered

BLOCK_BYTES = 1 << 20
_LEVEL = 3
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


class Artefact(msgspec.Struct, frozen=True):
    """A file to back up. ``dataset_id`` (of a dataset's contents, and of answers made from it) chooses the key."""

    kind: ArtefactKind
    owner: str
    name: str
    path: Path
    content_sha256: str
    size_bytes: int
    dataset_id: str | None = None


def require_plain_names(artefact: Artefact | StoredArtefact) -> None:
    """Names become folders and files when a backup is brought back. Raises InvalidValue."""
    for name in (artefact.owner, artefact.name):
        if not _PLAIN_NAME.fullmatch(name) or ".." in name:
            raise InvalidValue(f"{name!r} cannot be the name of a file in a backup.")


def store_artefact(folder: BackupFolder, artefact: Artefact, *, key_id: str, key: bytes) -> Sealed:
    """Compress and seal the file; returns the object.

    Raises PartMissing where the file is gone, and Damaged where it is not what it was registered as.
    """
    require_plain_names(artefact)
    header = {"kind": "artefact", "format": 1, "key_id": key_id}
    with open_private(artefact.path) as source:
        return folder.put_object(header, key, _compressed(source, artefact))


def read_artefact(folder: BackupFolder, stored: StoredArtefact, keys: Mapping[str, bytes]) -> Iterator[bytes]:
    """The file's bytes, block after block; the end is reached only if all of it was right.

    Raises PartMissing, Damaged, Tampered, WrongKey.
    """
    digest = hashlib.sha256()
    with folder.open(stored.object_id) as file:
        prologue, blocks = open_sealed(file, stored.object_id, keys)
        if prologue.header.get("kind") != "artefact":
            raise _another(stored)
        unpack = zstandard.ZstdDecompressor().decompressobj()
        try:
            for block in blocks:
                plain = unpack.decompress(block)
                digest.update(plain)
                yield plain
        except zstandard.ZstdError as error:
            raise Damaged(f"{stored.name} cannot be unpacked.", hint="Use another backup.") from error
    if digest.hexdigest() != stored.content_sha256:
        raise _another(stored)


def bring_back(
    folder: BackupFolder, stored: StoredArtefact, keys: Mapping[str, bytes], target: Path, tmp: Path
) -> Path:
    """Write the file to ``target/<its name>``; it stands there only when it was right to the last byte."""
    require_plain_names(stored)

    def write(file: BinaryIO) -> tuple[str, None]:
        for block in read_artefact(folder, stored, keys):
            file.write(block)
        return stored.name, None

    with folder_errors(target):
        place_file(target, tmp, write)
    return target / stored.name


def _compressed(source: BinaryIO, artefact: Artefact) -> Iterator[bytes]:
    pack = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj()
    digest = hashlib.sha256()
    while block := source.read(BLOCK_BYTES):
        digest.update(block)
        yield pack.compress(block)
    if digest.hexdigest() != artefact.content_sha256:
        raise Damaged(
            f"{artefact.name} of {artefact.owner} is not what it was when it was registered; it was not backed up.",
            hint="`btmctl doctor` looks at the state folder.",
        )
    yield pack.flush()


def _another(stored: StoredArtefact) -> Tampered:
    return Tampered(
        f"{stored.name} of {stored.owner} was tampered with: the backup holds something else in its place.",
        hint="Use another copy of the backup folder. Nothing was changed.",
    )
