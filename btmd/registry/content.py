"""Files kept under the hash of their bytes: uploads that can be taken up again, and rows made from them."""

import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import anyio
import anyio.to_thread

from btmd.data.row_chunks import chunks_folder, is_list, read_list
from btmd.errors import BadRequest, Conflict, Damaged, InvalidValue, NotEnoughDisk, TooLarge
from btmd.files.durable import sync_folder

log = logging.getLogger("btmd.contents")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK_BYTES = 1024 * 1024
PARTIAL_KEPT_S = 24 * 3600
"""How long an interrupted upload may wait to be taken up again."""


class UploadMismatch(InvalidValue):
    code, title = "upload_mismatch", "The upload does not match its hash"


class UploadOffset(Conflict):
    code, title = "upload_offset", "The upload goes on from another byte"


class UploadUnderWay(Conflict):
    code, title = "upload_under_way", "This content is being uploaded already"


class ContentStore:
    """``<root>/<first two digits>/<sha256>``; a file stands under its name only when it is whole and synced."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._partial = root / "partial"
        self._receiving: set[str] = set()

    def create(self) -> None:
        self._partial.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where this content stands or would stand. Raises BadRequest for what is no SHA-256."""
        if not _SHA256.fullmatch(sha256):
            raise BadRequest("A content is named by its SHA-256: 64 hexadecimal digits in lower case.")
        return self._root / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def received_bytes(self, sha256: str) -> int:
        """How much of an unfinished upload is there."""
        self.path(sha256)
        try:
            return (self._partial / sha256).stat().st_size
        except FileNotFoundError:
            return 0

    async def receive(
        self, sha256: str, chunks: AsyncIterator[bytes], *, offset: int, limit_bytes: int, reserve_bytes: int
    ) -> int:
        """Take the bytes from ``offset`` to the end; returns the whole size.

        What came before an interruption is kept for the next try. Raises UploadOffset when ``offset`` is not where
        the earlier try ended, TooLarge, NotEnoughDisk, UploadMismatch (nothing is kept then).
        """
        target = self.path(sha256)
        if sha256 in self._receiving:
            raise UploadUnderWay("Somebody is uploading this content just now.", hint="Try again in a moment.")
        self._receiving.add(sha256)
        try:
            if target.is_file():
                return target.stat().st_size
            return await self._receive(sha256, target, chunks, offset, limit_bytes, reserve_bytes)
        finally:
            self._receiving.discard(sha256)

    async def _receive(
        self, sha256: str, target: Path, chunks: AsyncIterator[bytes], offset: int, limit_bytes: int, reserve_bytes: int
    ) -> int:
        there = self.received_bytes(sha256)
        if offset > there:
            raise UploadOffset(f"{there} bytes are here; the upload has to go on from there, not from {offset}.")
        partial = self._partial / sha256
        file = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(file, offset)
            digest = await anyio.to_thread.run_sync(_hash_so_far, file)
            size, block = offset, bytearray()
            try:
                async for chunk in chunks:
                    block += chunk
                    if size + len(block) > limit_bytes:
                        raise TooLarge(
                            f"The file is larger than the {limit_bytes / 1024**3:g} GB that may be added.",
                            hint="`btmctl config set uploads.max_gb=...` raises the limit.",
                        )
                    if len(block) >= _BLOCK_BYTES:
                        await anyio.to_thread.run_sync(_write_block, file, bytes(block), digest, reserve_bytes)
                        size += len(block)
                        block.clear()
            finally:
                # Also when the client went away: the next try goes on from here.
                _write_block(file, bytes(block), digest, reserve_bytes)
            size += len(block)
            if digest.hexdigest() != sha256:
                raise UploadMismatch(
                    "The bytes that arrived do not have the hash they were announced with.",
                    hint="The file may have changed meanwhile; add it again.",
                )
            await anyio.to_thread.run_sync(os.fsync, file)
        except (TooLarge, UploadMismatch, NotEnoughDisk):
            partial.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)
        _place(partial, target)
        return size

    def adopt(self, path: Path, sha256: str) -> Path:
        """Move a finished file of our own making in; returns where it stands."""
        target = self.path(sha256)
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        # In place of one that is there: that may be damaged.
        _place(path, target)
        return target

    def adopt_rows(self, path: Path, sha256: str) -> None:
        """Move rows that a writer finished in: the chunks first, so that a list never stands without them."""
        beside = chunks_folder(path)
        for chunk in {one.sha256 for one in read_list(path)}:
            target = self.path(chunk)
            if not target.is_file():
                _place(beside / chunk, target)
        self.adopt(path, sha256)
        shutil.rmtree(beside)

    def chunks(self, sha256: str) -> set[str]:
        """The contents that a list of rows names; none for any other content. Raises Damaged."""
        path = self.path(sha256)
        return {one.sha256 for one in read_list(path)} if is_list(path) else set()

    def with_chunks(self, named: Iterable[str]) -> set[str]:
        """The same contents and those that lists among them name; a list that cannot be read names none."""
        found = set(named)
        for sha256 in tuple(found):
            try:
                found |= self.chunks(sha256)
            except Damaged as error:
                log.error("the list of rows %s: %s", sha256, error.detail)
        return found

    def whole(self, sha256: str) -> bool:
        """Whether this content is here, with all chunks if it is a list of them."""
        try:
            return self.has(sha256) and all(self.has(one) for one in self.chunks(sha256))
        except Damaged:
            return False

    def remove_damaged(self, sha256: str) -> None:
        """Remove the chunks of rows that are not what their names say, so that they can be made anew.

        Raises Damaged for a list that cannot be read.
        """
        for chunk in self.chunks(sha256):
            path = self.path(chunk)
            with path.open("rb") as file:
                is_damaged = hashlib.file_digest(file, "sha256").hexdigest() != chunk
            if is_damaged:
                log.error("a chunk of the rows %s is damaged, and removed", sha256)
                path.unlink(missing_ok=True)

    def stored_bytes(self, named: Iterable[str]) -> int:
        """What these contents and their chunks take on the disk, each counted once."""
        return sum(self.path(one).stat().st_size for one in self.with_chunks(named) if self.has(one))

    def remove(self, sha256: str) -> None:
        self.path(sha256).unlink(missing_ok=True)

    def remove_lists(self, lists: Iterable[str], needed: Iterable[str]) -> int:
        """Remove rows and the chunks they name but for what is ``needed``; returns how many bytes that freed.

        A list goes after its chunks: without it nobody could tell what is left of them.
        """
        named, freed = set(lists), 0
        going = self.with_chunks(named) - self.with_chunks(needed)
        for sha256 in sorted(going, key=lambda one: one in named):
            path = self.path(sha256)
            (self._partial / sha256).unlink(missing_ok=True)
            if path.is_file():
                freed += path.stat().st_size
                path.unlink(missing_ok=True)
        for folder in {self.path(one).parent for one in going}:
            if folder.is_dir():
                sync_folder(folder)
        return freed

    def working_file(self, name: str) -> Path:
        """A path for a file that is being made; left-overs go at the next start."""
        return self._partial / f"{name}.work"

    def unnamed(self, referenced: set[str]) -> set[str]:
        """The contents that are there and not in ``referenced`` nor chunks of those."""
        folders = [folder for folder in self._root.iterdir() if folder != self._partial and folder.is_dir()]
        return {file.name for folder in folders for file in folder.iterdir()} - self.with_chunks(referenced)

    def sweep(self, referenced: set[str], *, now_s: float | None = None) -> list[str]:
        """Remove contents that nothing names, files half made, and interrupted uploads that are a day old."""
        removed, needed = [], self.with_chunks(referenced)
        for folder in self._root.iterdir():
            if folder == self._partial or not folder.is_dir():
                continue
            for file in folder.iterdir():
                if file.name not in needed:
                    file.unlink()
                    removed.append(file.name)
        oldest = (time.time() if now_s is None else now_s) - PARTIAL_KEPT_S
        for file in self._partial.iterdir():
            if file.is_dir():
                shutil.rmtree(file)
            elif file.suffix == ".work" or file.name.startswith(".") or file.stat().st_mtime < oldest:
                file.unlink()
        return removed


def _hash_so_far(file: int) -> "hashlib._Hash":
    digest = hashlib.sha256()
    os.lseek(file, 0, os.SEEK_SET)
    while block := os.read(file, _BLOCK_BYTES):
        digest.update(block)
    return digest


def _write_block(file: int, block: bytes, digest: "hashlib._Hash", reserve_bytes: int) -> None:
    space = os.fstatvfs(file)
    if space.f_bavail * space.f_frsize < reserve_bytes + len(block):
        raise NotEnoughDisk(
            "The disk has no room left for this file.",
            hint="Free some room, or lower the reserve: `btmctl config set disk.reserve_gb=...`.",
        )
    done = 0
    while done < len(block):
        done += os.write(file, block[done:])
    digest.update(block)


def _place(path: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, exist_ok=True)
    os.replace(path, target)
    sync_folder(target.parent)
