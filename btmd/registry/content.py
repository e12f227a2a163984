"""Files kept under the hash of their bytes: uploads that can be taken up again, and rows made from them."""

import hashlib
import logging
import math
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Set
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread

from btmd.data.row_chunks import chunks_folder, is_chunk, is_list, is_plain_rows, read_list
from btmd.errors import BadRequest, Conflict, Damaged, InvalidValue, NotEnoughDisk, TooLarge
from btmd.files.durable import sync_folder

log = logging.getLogger("btmd.contents")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK_BYTES = 1024 * 1024
MOST_UPLOADS = 25_000
"""Of one user that nothing came of yet, whole and not; a folder has 10,000 files at the most."""
UPLOAD_KEPT_S = 24 * 3600
"""How long an upload, whole or interrupted, may wait until something comes of it."""


class UploadMismatch(InvalidValue):
    code, title = "upload_mismatch", "The upload does not match its hash"


class UploadOffset(Conflict):
    code, title = "upload_offset", "The upload goes on from another byte"


class UploadUnderWay(Conflict):
    code, title = "upload_under_way", "This content is being uploaded already"


class ContentStore:
    """``<root>/<first two digits>/<sha256>``; a file stands under its name only when it is whole and synced.

    An upload is known to whoever sent its bytes, and to nobody who only knows their hash.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._partial = root / "partial"
        self._receiving: set[Path] = set()
        self._senders: dict[str, set[int]] = {}
        """Who sent a content, by user id: since the start, which takes away what no dataset came of."""

    def create(self) -> None:
        self._partial.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where this content stands or would stand. Raises BadRequest for what is no SHA-256."""
        if not _is_sha256(sha256):
            raise BadRequest("A content is named by its SHA-256: 64 hexadecimal digits in lower case.")
        return self._root / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def sent_by(self, sha256: str, uid: int) -> bool:
        """Whether this content is here and this user sent it."""
        return uid in self._senders.get(sha256, ()) and self.has(sha256)

    def used_by(self, uid: int, contents: Iterable[str]) -> set[str]:
        """Have uploads no longer wait for a user who has used them; returns those that others sent too."""
        sent = {one: self._senders[one] for one in contents if one in self._senders}
        for senders in sent.values():
            senders.discard(uid)
        return {one for one, senders in sent.items() if senders}

    def sent_bytes(self, uid: int) -> int:
        """What a user sent since the start and is still here as it was sent, whole or not."""
        whole = sum(_size(self.path(sha256)) for sha256, uids in list(self._senders.items()) if uid in uids)
        return whole + sum(_size(one) for one in self._partial.glob(f"*.{uid}"))

    def _uploads(self, uid: int) -> int:
        """How many contents this user sent since the start, and has begun to send, that are still here."""
        whole = sum(uid in uids for uids in list(self._senders.values()))
        return whole + sum(name.endswith(f".{uid}") for name in os.listdir(self._partial))

    def keep(self, sha256: str) -> None:
        """Have an upload wait for as long again."""
        with suppress(FileNotFoundError):
            os.utime(self.path(sha256))

    def received_bytes(self, sha256: str, uid: int) -> int:
        """How much of an unfinished upload by this user is there."""
        return _size(self._unfinished(sha256, uid))

    def _unfinished(self, sha256: str, uid: int) -> Path:
        return self._partial / f"{self.path(sha256).name}.{uid}"

    async def receive(
        self,
        sha256: str,
        chunks: AsyncIterator[bytes],
        *,
        by_uid: int,
        offset: int,
        limit_bytes: int,
        reserve_bytes: int,
    ) -> int:
        """Take the bytes from ``offset`` to the end; returns the whole size.

        What came before an interruption is kept for the next try. Raises UploadOffset when ``offset`` is not where
        the earlier try ended, TooLarge, NotEnoughDisk, UploadMismatch (nothing is kept then).
        """
        target, partial = self.path(sha256), self._unfinished(sha256, by_uid)
        if partial in self._receiving:
            raise UploadUnderWay("This content is being uploaded just now.", hint="Try again in a moment.")
        self._receiving.add(partial)
        try:
            if self.sent_by(sha256, by_uid):
                self.keep(sha256)
                return target.stat().st_size
            if offset == 0 and await anyio.to_thread.run_sync(self._uploads, by_uid) >= MOST_UPLOADS:
                raise Conflict("So many uploads of yours wait to be used.", hint="Add them, or wait until they go.")
            size = await self._receive(sha256, partial, chunks, offset, limit_bytes, reserve_bytes)
            # Also where others sent it before: the bytes are the same ones.
            _place(partial, target)
            self._senders.setdefault(sha256, set()).add(by_uid)
            return size
        finally:
            self._receiving.discard(partial)

    async def _receive(
        self,
        sha256: str,
        partial: Path,
        chunks: AsyncIterator[bytes],
        offset: int,
        limit_bytes: int,
        reserve_bytes: int,
    ) -> int:
        there = _size(partial)
        if offset > there:
            raise UploadOffset(f"{there} bytes are here; the upload has to go on from there, not from {offset}.")
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
            _drop(partial)
            raise
        finally:
            os.close(file)
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

    def is_intact(self, sha256: str) -> bool:
        """Whether this content is here and is what its name says."""
        return self.has(sha256) and _is_named_rightly(self.path(sha256))

    def remove_damaged(self, sha256: str) -> None:
        """Remove the chunks of rows that are not what their names say, so that they can be made anew.

        Raises Damaged for a list that cannot be read.
        """
        for chunk in self.chunks(sha256):
            if self.has(chunk) and not self.is_intact(chunk):
                log.error("a chunk of the rows %s is damaged, and removed", sha256)
                self.remove(chunk)

    def stored_bytes(self, named: Iterable[str]) -> int:
        """What these contents and their chunks take on the disk, each counted once."""
        return sum(self.path(one).stat().st_size for one in self.with_chunks(named) if self.has(one))

    def remove(self, sha256: str) -> int:
        """Remove a content; returns how many bytes that freed."""
        self._senders.pop(sha256, None)
        path = self.path(sha256)
        freed = _size(path)
        _drop(path)
        return freed

    def remove_unfinished(self, named: Set[str]) -> None:
        """Remove what there is of uploads of these contents that were interrupted."""
        for path in self._partial.iterdir():
            if path.name.partition(".")[0] in named:
                self.clear(path)
        sync_folder(self._partial)

    def sync(self, named: Iterable[str]) -> None:
        """Have it on the disk that these are gone."""
        for folder in {self.path(one).parent for one in named}:
            if folder.is_dir():
                sync_folder(folder)

    def remove_lists(self, lists: Iterable[str], needed: Iterable[str]) -> int:
        """Remove rows and the chunks they name but for what is ``needed``; returns how many bytes that freed.

        A list goes after its chunks: without it nobody could tell what is left of them.
        """
        named = set(lists)
        going = self.with_chunks(named) - self.with_chunks(needed)
        freed = sum(self.remove(sha256) for sha256 in sorted(going, key=lambda one: one in named))
        self.remove_unfinished(named)
        self.sync(going)
        return freed

    def working_file(self, name: str) -> Path:
        """A path for a file that is being made; left-overs go at the next start."""
        return self._partial / f"{name}.work"

    def unnamed(self, referenced: set[str]) -> set[str]:
        """The contents that are there and not in ``referenced`` nor chunks of those."""
        return {path.name for path in self._unnamed_files(referenced)}

    def loose_chunks(self, referenced: set[str]) -> set[str]:
        """Pieces of rows that no list in ``referenced`` names, whichever list they were of."""
        return {path.name for path in self._unnamed_files(referenced) if is_chunk(path) and _is_sha256(path.name)}

    def forgotten(self, referenced: set[str], before_s: float) -> set[str]:
        """The contents that nothing in ``referenced`` names, and that nobody touched since."""
        old = (path.name for path in self._removable(referenced) if _changed_s(path) < before_s)
        return {name for name in old if _is_sha256(name)}

    def given_up(self, before_s: float) -> list[Path]:
        """Interrupted uploads, and files half made, that nobody wrote to since."""
        return [path for path in self._partial.iterdir() if _changed_s(path) < before_s]

    def clear(self, path: Path) -> None:
        """Remove what was given up, if nobody took it up again."""
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path not in self._receiving:
            path.unlink(missing_ok=True)

    def sweep(self, referenced: set[str], *, now_s: float | None = None) -> list[str]:
        """At a start: remove contents that nothing names, files half made, and interrupted uploads a day old."""
        removed = self._removable(referenced)
        for path in removed:
            path.unlink()
        oldest = (time.time() if now_s is None else now_s) - UPLOAD_KEPT_S
        for file in self._partial.iterdir():
            if file.is_dir() or file.suffix == ".work" or file.name.startswith(".") or _changed_s(file) < oldest:
                self.clear(file)
        return [path.name for path in removed]

    def _removable(self, referenced: set[str]) -> list[Path]:
        """What nothing in ``referenced`` names; no chunks while a list there is damaged: it may name them."""
        in_doubt = any(map(self._is_damaged_list, referenced))
        return [path for path in self._unnamed_files(referenced) if not (in_doubt and is_chunk(path))]

    def _unnamed_files(self, referenced: set[str]) -> list[Path]:
        needed = self.with_chunks(referenced)
        return [path for path in self._files() if path.name not in needed]

    def _is_damaged_list(self, sha256: str) -> bool:
        path = self.path(sha256)
        if not path.is_file() or is_plain_rows(path):
            return False
        return not is_list(path) or not _is_named_rightly(path)

    def _files(self) -> Iterator[Path]:
        """What stands where contents do, under whatever name."""
        for folder in self._root.iterdir():
            if folder != self._partial and folder.is_dir():
                yield from folder.iterdir()


def _is_sha256(name: str) -> bool:
    return _SHA256.fullmatch(name) is not None


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


def _is_named_rightly(path: Path) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == path.name


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _drop(path: Path) -> None:
    path.unlink(missing_ok=True)


def _changed_s(path: Path) -> float:
    """When it was written, moved or touched last: no copied time can make it older than it is."""
    try:
        return path.stat().st_ctime
    except FileNotFoundError:
        return math.inf


def _place(path: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, exist_ok=True)
    os.replace(path, target)
    sync_folder(target.parent)
