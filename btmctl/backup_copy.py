"""A backup into a folder of the person's own, where the daemon runs as another user and may not write there.

What comes is the form of any backup folder: objects, key rings, and the manifest last, with which the copy counts.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from btmctl.client import Document
from btmctl.errors import Refused, UsageError
from btmctl.session import Session
from btmctl.told_paths import require_inside

_DIGEST_BYTES = 32
_RING_MAGIC = b"btmdKR\x00\x01"
_SPARE_BYTES = 1024 * 1024


def copy_backup(backup_id: str, folder: str, session: Session) -> Document:
    """Bring what the folder lacks of a backup; tells how many files and bytes were new. Raises Refused, UsageError."""
    listed = session.client.get(f"/backups/{backup_id}/files")
    require_inside(str(one["path"]) for one in listed["files"])
    try:
        with _changing(folder):
            lacking = [one for one in listed["files"] if not _is_here(folder, one)]
            _require_room(folder, sum(one["size_bytes"] for one in lacking))
            new = _bring(listed["backup_id"], lacking, folder, session)
    except OSError as problem:
        raise Refused(
            f"{folder} could not be written.",
            f"{problem.strerror or problem}. What was there before is unchanged.",
            "--to OTHER",
            code="backup_folder_unusable",
        ) from None
    session.output.end_progress()
    return {"backup_path": os.path.join(folder, listed["files"][-1]["path"]), "new_mb": round(new / 1e6, 6)}


def require_folder(folder: str) -> None:
    """A stick that is not there must not become a folder on the disk it should protect from. Raises UsageError."""
    parent = folder if os.path.isdir(folder) else os.path.dirname(folder)
    if not os.path.isdir(parent):
        raise UsageError(f"There is no folder {parent}.", "The backup was to go there.", "Is the disk or stick there?")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"{parent} cannot be written to.", "You may not write there.", "--to OTHER")


@contextmanager
def _changing(folder: str) -> Iterator[None]:
    """Make the folder what it has to be, and be the only program that changes it."""
    for name in ("", "manifests", "objects", "rings", "tmp"):
        os.makedirs(os.path.join(folder, name), mode=0o700, exist_ok=True)
    lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(
                f"Another program is changing {folder}.",
                "Two at once could spoil it.",
                "Try again when that backup is done.",
                code="backup_folder_unusable",
            ) from None
        yield
    finally:
        os.close(lock)


def _is_here(folder: str, one: Document) -> bool:
    """Whether the file is there and whole; key rings are looked at again each time."""
    path = os.path.join(folder, one["path"])
    if one["path"].startswith("rings/") or not os.path.isfile(path) or os.path.islink(path):
        return False
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        left = os.fstat(file.fileno()).st_size - _DIGEST_BYTES
        if left != one["size_bytes"] - _DIGEST_BYTES:
            return False
        while left > 0 and (block := file.read(min(left, _SPARE_BYTES))):
            digest.update(block)
            left -= len(block)
        return _is_sealed_right(digest.digest(), file.read(), one["path"])


def _is_sealed_right(digest: bytes, held: bytes, path: str) -> bool:
    """A file ends with the SHA-256 of all before, and is called by it."""
    return digest == held and digest.hex() == os.path.basename(path)


def _require_room(folder: str, size_bytes: int) -> None:
    space = os.statvfs(folder)
    free = space.f_bavail * space.f_frsize
    if free < size_bytes + _SPARE_BYTES:
        raise Refused(
            "There is not enough room for the backup.",
            f"It takes {size_bytes / 1e6:.1f} MB more, and {free / 1e6:.1f} MB are free at {folder}.",
            "--to OTHER",
            code="backup_folder_full",
        )


def _bring(backup_id: str, files: list[Document], folder: str, session: Session) -> int:
    total = sum(one["size_bytes"] for one in files) or 1
    done = 0
    for one in files:
        target, aside = os.path.join(folder, one["path"]), os.path.join(folder, "tmp", f"{os.getpid()}.copy")
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        digest, held = hashlib.sha256(), b""
        try:
            with open(os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
                for piece in session.client.download(f"/backups/{backup_id}/files/{one['path']}"):
                    file.write(piece)
                    held += piece
                    digest.update(held[:-_DIGEST_BYTES])
                    held = held[-_DIGEST_BYTES:]
                    done += len(piece)
                    session.output.progress(min(1.0, done / total), f"Writing {folder}")
                file.flush()
                os.fsync(file.fileno())
            place(aside, target, digest.digest(), held)
        finally:
            if os.path.exists(aside):
                os.unlink(aside)
    return done


def place(aside: str, target: str, digest: bytes, held: bytes) -> None:
    """Move a file that has arrived to where it belongs; ``held`` are its last bytes. Raises Refused, OSError."""
    is_ring = os.path.basename(os.path.dirname(target)) == "rings"
    if digest != held or not (is_ring or _is_sealed_right(digest, held, target)):
        raise Refused(
            "What arrived is not what was sealed.",
            f"{os.path.basename(target)} has another hash.",
            "btmctl backup verify reads the daemon's own files through.",
            code="damaged",
        )
    if is_ring and _generation(target) > _generation(aside):
        # A copy that is newer than the daemon's may open more.
        return
    os.replace(aside, target)
    folder = os.open(os.path.dirname(target), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _generation(path: str) -> int:
    """How often the ring was changed when it was copied; -1 for what is no ring, or not there."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        at = len(_RING_MAGIC) + 4
        end = at + int.from_bytes(data[len(_RING_MAGIC) : at], "big")
        whole = data.startswith(_RING_MAGIC) and hashlib.sha256(data[:-_DIGEST_BYTES]).digest() == data[-_DIGEST_BYTES:]
        return int(json.loads(data[at:end])["generation"]) if whole else -1
    except (OSError, ValueError, KeyError, TypeError):
        return -1
