"""A backup folder: files named by their content's hash, and the key rings of the stores that back up into it.

    manifests/<id>          one backup each
    objects/<aa>/<id>       segments and artefacts, kept once however many backups name them
    rings/<hash>            a copy of each store's key ring
    tmp/                    what is being written
    lock                    one program at a time changes the folder

Names are made from hashes only, so nothing that is read can name a place outside.
"""

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from btmd.backup.key_ring import RingHead, read_head
from btmd.backup.private_files import (
    folder_errors,
    make_private_folder,
    open_private,
    place_file,
    read_private,
    remove_left_overs,
    write_private,
)
from btmd.backup.sealed_file import Sealed, check_whole, seal_into
from btmd.errors import BackupFolderUnusable, BtmdError, Damaged, PartMissing
from btmd.files.durable import sync_folder

LOCK_WAIT_S = 30.0
COPY_BYTES = 1 << 20

_ID = re.compile(r"[0-9a-f]{64}")


class BackupFolder:
    """The files of one backup folder; knows nothing of what is in them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._manifests = path / "manifests"
        self._objects = path / "objects"
        self._rings = path / "rings"
        self._tmp = path / "tmp"

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the folder's lock, make what is missing, clear what a killed program left half written.

        Raises BackupFolderUnusable, BackupFolderFull, Tampered.
        """
        with folder_errors(self.path):
            for folder in (self.path, self._manifests, self._objects, self._rings, self._tmp):
                make_private_folder(folder)
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _lock(lock, self.path)
            with folder_errors(self.path):
                for left_over in self._tmp.iterdir():
                    left_over.unlink()
                remove_left_overs(self._rings)
                yield
        finally:
            os.close(lock)

    def require(self) -> None:
        """Raises BackupFolderUnusable where this is no backup folder."""
        if not self._manifests.is_dir():
            raise BackupFolderUnusable(
                f"{self.path} holds no backups.", hint="Name the folder that has `manifests` and `objects` in it."
            )

    def put_object(self, header: Mapping[str, Any], key: bytes, blocks: Iterable[bytes]) -> Sealed:
        """Seal ``blocks`` into a file of its own; it counts once a manifest names it."""

        def write(file: BinaryIO) -> tuple[str, Sealed]:
            sealed = seal_into(file, header, key, blocks)
            make_private_folder(self._objects / sealed.id[:2])
            return f"{sealed.id[:2]}/{sealed.id}", sealed

        return place_file(self._objects, self._tmp, write)

    def put_manifest(self, header: Mapping[str, Any], key: bytes, body: bytes, names: Sequence[str]) -> Sealed:
        """The last thing that a backup writes: with it, the backup is there."""

        def write(file: BinaryIO) -> tuple[str, Sealed]:
            sealed = seal_into(file, header, key, [body], names)
            return sealed.id, sealed

        return place_file(self._manifests, self._tmp, write)

    def copy_in(self, source: "BackupFolder", name: str, *, is_manifest: bool = False) -> None:
        """Take over a file of another folder, unless it is here and whole. Raises PartMissing, Damaged, Tampered."""
        if self._has_whole(name, is_manifest=is_manifest):
            return
        with source.open(name, is_manifest=is_manifest) as original:
            check_whole(original, name)

        def write(file: BinaryIO) -> tuple[str, None]:
            for block in source.blocks(name, is_manifest=is_manifest):
                file.write(block)
            check_whole(file, name)
            if is_manifest:
                return name, None
            make_private_folder(self._objects / name[:2])
            return f"{name[:2]}/{name}", None

        place_file(self._manifests if is_manifest else self._objects, self._tmp, write)

    def blocks(self, name: str, *, is_manifest: bool = False) -> Iterator[bytes]:
        """The file's bytes as they are. What fails where they are used is not taken for a failure of this folder."""
        with self.open(name, is_manifest=is_manifest) as file:
            while block := file.read(COPY_BYTES):
                yield block

    def _has_whole(self, name: str, *, is_manifest: bool) -> bool:
        try:
            with self.open(name, is_manifest=is_manifest) as file:
                check_whole(file, name)
        except (PartMissing, Damaged):
            return False
        return True

    @contextmanager
    def open(self, name: str, *, is_manifest: bool = False) -> Iterator[BinaryIO]:
        """Raises PartMissing, Tampered for a link, BackupFolderUnusable."""
        path = self._manifests / name if is_manifest else self._objects / name[:2] / name
        with folder_errors(self.path), open_private(path) as file:
            yield file

    def manifest_ids(self) -> list[str]:
        with folder_errors(self.path):
            return sorted(entry.name for entry in os.scandir(self._manifests) if _ID.fullmatch(entry.name))

    def object_sizes(self) -> dict[str, int]:
        """Size in bytes of every object by id."""
        sizes = {}
        with folder_errors(self.path):
            for folder in os.scandir(self._objects):
                if folder.is_dir(follow_symlinks=False):
                    for entry in os.scandir(folder):
                        if _ID.fullmatch(entry.name):
                            sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
        return sizes

    def manifest_size(self, name: str) -> int:
        return (self._manifests / name).lstat().st_size

    def remove_manifest(self, name: str) -> None:
        (self._manifests / name).unlink(missing_ok=True)
        sync_folder(self._manifests)

    def remove_object(self, name: str) -> None:
        (self._objects / name[:2] / name).unlink(missing_ok=True)

    # --- key rings -----------------------------------------------------------------------------

    def place_ring(self, data: bytes) -> None:
        """Put a copy of the ring here, unless a newer one of the same making stands there already.

        One that is damaged is replaced.
        """
        head = read_head(data)
        held = next((one for one, _ in self.readable_rings(head.store_id)[0] if one.signer == head.signer), None)
        if held is None or held.generation < head.generation:
            write_private(self._rings / _ring_name(head), data)

    def ring_copy(self, head: RingHead) -> bytes:
        """The copy of the ring of this making, proved by its checksum only. Raises PartMissing, Damaged, Tampered."""
        with folder_errors(self.path):
            data = read_private(self._rings / _ring_name(head))
        read_head(data)
        return data

    def rings(self, store_id: str | None = None) -> list[tuple[RingHead, bytes]]:
        """Every ring here (of one store) that can be read, with its file's bytes.

        A store has several where its keys were lost and made anew. One that is damaged is passed over: raises Damaged
        only where no other is left.
        """
        found, faults = self.readable_rings(store_id)
        if faults and not found:
            raise faults[-1]
        return found

    def readable_rings(self, store_id: str | None = None) -> tuple[list[tuple[RingHead, bytes]], list[BtmdError]]:
        """As ``rings``, with what is wrong with the files that cannot be read."""
        found: list[tuple[RingHead, bytes]] = []
        faults: list[BtmdError] = []
        with folder_errors(self.path):
            for entry in os.scandir(self._rings) if self._rings.is_dir() else ():
                if entry.name.startswith("."):
                    continue
                try:
                    data = read_private(Path(entry.path))
                    head = read_head(data)
                except BtmdError as error:
                    faults.append(error)
                    continue
                if store_id in (None, head.store_id):
                    found.append((head, data))
        return found, faults


def _ring_name(head: RingHead) -> str:
    return hashlib.sha256(b"btmd ring\n" + head.store_id.encode() + b"\n" + head.signer).hexdigest()[:32]


def _lock(lock: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise BackupFolderUnusable(
                    f"Another program is changing {path}.", hint="Try again when that backup is done."
                ) from None
            time.sleep(0.05)
