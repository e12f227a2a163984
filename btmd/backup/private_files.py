"""Files that only their owner may read: written aside and renamed, never through a link that somebody planted."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from btmd.errors import BackupFolderFull, BackupFolderUnusable, PartMissing, Tampered
from btmd.files.durable import sync_folder

Result = TypeVar("Result")

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def folder_errors(folder: Path) -> Iterator[None]:
    """Failures of the file system under ``folder`` as BackupFolderFull or BackupFolderUnusable."""
    try:
        yield
    except OSError as problem:
        if problem.errno in _NO_ROOM:
            raise BackupFolderFull(
                f"The disk with {folder} is full; what was there before is unchanged.",
                hint="Make room, or delete old backups: `btmctl backup prune`.",
            ) from problem
        reason = problem.strerror or type(problem).__name__
        raise BackupFolderUnusable(
            f"{folder} cannot be used: {reason}. What was there before is unchanged.",
            hint="Check that the folder is there, is on a disk that can be written, and belongs to the daemon's user.",
        ) from problem


def make_private_folder(folder: Path) -> None:
    """Make ``folder`` and its parents, 0700, durable. Raises Tampered where a link stands in its place."""
    if folder.is_dir() and not folder.is_symlink():
        return
    if folder.is_symlink():
        raise _is_link(folder)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def place_file(folder: Path, tmp: Path, write: Callable[[BinaryIO], tuple[str, Result]]) -> Result:
    """Let ``write`` fill a new file in ``tmp`` and tell its name; it then stands in ``folder``, synced, 0600.

    A file of that name that is there already is replaced: the name is that of the content.
    """
    aside = tmp / f"{os.getpid()}-{os.urandom(8).hex()}"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(aside, flags, 0o600), "w+b") as file:
            name, result = write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, folder / name)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder((folder / name).parent)
    return result


def write_private(path: Path, data: bytes) -> None:
    """``path`` holds the old bytes or ``data``, never a part; 0600."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    aside.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(aside, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_left_overs(folder: Path) -> None:
    """Take away what a killed :func:`write_private` left in ``folder``; call it where nobody else writes there."""
    for left_over in folder.glob(".*.new"):
        left_over.unlink(missing_ok=True)


@contextmanager
def open_private(path: Path) -> Iterator[BinaryIO]:
    """Open for reading. Raises PartMissing, and Tampered where anything but a plain file stands there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise PartMissing(
            f"{path.name} is missing in {path.parent}.", hint="Look for a copy of the backup folder."
        ) from None
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise _is_link(path) from None
        raise
    # Looked at first: a folder cannot even be made a file object.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Tampered(f"{path} is not a plain file; it was not read.", hint="Remove it, then look who put it there.")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def read_private(path: Path) -> bytes:
    """All bytes of a file; raises as :func:`open_private`."""
    with open_private(path) as file:
        return file.read()


def _is_link(path: Path) -> Tampered:
    return Tampered(
        f"A link stands in place of {path}; it was not followed.", hint="Remove it, then look who put it there."
    )
