"""A file that a person and the daemon both write: read without following links, replaced without losing a save."""

import ctypes
import errno
import fcntl
import os
import signal
import stat
from functools import cache
from pathlib import Path
from typing import Any

from msgspec import Struct

from btmd.errors import InvalidValue
from btmd.files.durable import sync_folder

ENCODING = "utf-8-sig"
"""UTF-8; the mark that some editors put before the text is taken, and not written back."""
LARGEST_BYTES = 1024 * 1024
LARGEST_OWN_BYTES = 256 * 1024 * 1024
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


class FileWrong(InvalidValue):
    """What stands in a file is not usable; ``line`` counts from 1, None where no line is to blame."""

    code, title = "file_wrong", "The file cannot be used"

    def __init__(self, detail: str, line: int | None = None) -> None:
        super().__init__(detail, hint="What was there before stays in force.")
        self.line = line


class Content(Struct, frozen=True):
    """A file's bytes and whose it is."""

    data: bytes
    uid: int
    gid: int
    mode: int


def read_content(path: Path, at_most_bytes: int = LARGEST_BYTES) -> Content | None:
    """What stands in the file, None where there is none. Raises FileWrong for no plain file, OSError."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise FileWrong(f"{path} is a link; links are not followed.") from None
        raise
    with os.fdopen(file, "rb") as opened:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode) or about.st_size > at_most_bytes:
            raise FileWrong(f"{path} is no file of at most {at_most_bytes // 1024} kB.")
        return Content(opened.read(at_most_bytes + 1), about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode))


def read_own(path: Path) -> bytes | None:
    """What the daemon left for itself; None for no file, and for what is in its place but cannot be one of ours."""
    try:
        content = read_content(path, LARGEST_OWN_BYTES)
    except (FileWrong, OSError):
        return None
    return None if content is None else content.data


def replace_content(path: Path, expected: Content | None, data: bytes) -> bool:
    """Put ``data`` in the place of ``expected`` (None: of no file); False where something else stands there by now.

    The two are exchanged and what comes out is looked at, so that a save between look and write is not lost.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    aside.unlink(missing_ok=True)
    mode = 0o600 if expected is None else expected.mode
    file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(file, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(file)
        if expected is None:
            try:
                os.link(aside, path)
            except FileExistsError:
                return False
        elif not _exchange(aside, path, expected, data):
            return False
        sync_folder(path.parent)
        return True
    finally:
        aside.unlink(missing_ok=True)


def _exchange(aside: Path, path: Path, expected: Content, data: bytes) -> bool:
    if not _swap(aside, path):
        # A file system that cannot exchange: look as late as possible.
        found = read_content(path)
        if found is None or found.data != expected.data:
            return False
        os.replace(aside, path)
        return True
    if _rests(aside, expected.data):
        return True
    _swap(aside, path)
    if not _holds(aside, data):
        # Somebody saved onto what was ours for a moment; theirs is the newest.
        _swap(aside, path)
    return False


def _rests(path: Path, data: bytes) -> bool:
    """Whether the file holds ``data`` and nobody has it open to write something else."""
    return _holds(path, data) and not _is_open_for_writing(path) and _holds(path, data)


def _is_open_for_writing(path: Path) -> bool:
    """What the kernel says, which grants no lease then; False where it cannot tell, as for a file of somebody else."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # The usual signal for a lease that somebody waits for ends a process; this one is ignored.
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as problem:
        return problem.errno == errno.EAGAIN
    finally:
        os.close(file)
    return False


def _holds(path: Path, data: bytes) -> bool:
    return not path.is_symlink() and path.is_file() and path.read_bytes() == data


def _swap(one: Path, other: Path) -> bool:
    """Exchange two files; False where the file system cannot. Raises OSError."""
    exchange = _renameat2()
    if exchange is None:
        return False
    if exchange(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(number, os.strerror(number), str(other))


@cache
def _renameat2() -> Any:
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def remove_content(path: Path, expected: Content) -> bool:
    """Take the file away if it still holds what is ``expected``; False where something else stands there by now."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return False
    if not _rests(aside, expected.data):
        _put_back(aside, path)
        return False
    aside.unlink()
    sync_folder(path.parent)
    return True


def _put_back(aside: Path, path: Path) -> None:
    """Give ``path`` back what stood there, unless something newer was saved meanwhile."""
    try:
        os.link(aside, path, follow_symlinks=False)
    except FileExistsError:
        pass
    except OSError:
        # A folder, or a file system without links.
        os.rename(aside, path)
        return
    aside.unlink()
