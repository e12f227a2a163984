"""The state folder: ours alone, writable, and used by one daemon at a time."""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from btmd.errors import AlreadyRunning, BtmdError, StateFolderReadOnly, StoreFull


def claim(folder: Path, lock_path: Path) -> int:
    """Make the folder if it is missing and lock it; returns the lock's descriptor, held until it is closed.

    Raises AlreadyRunning, StateFolderReadOnly, StoreFull.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.getuid():
            folder.chmod(0o700)
        file = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as problem:
        raise refused(folder, problem) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(file, 32, 0).decode("ascii", "replace").strip()
        os.close(file)
        who = f"the process {pid}" if pid.isdigit() else "another process"
        raise AlreadyRunning(
            f"{folder} is used by {who}.", hint="Stop that daemon first, or choose another folder with --state-dir."
        ) from None
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        # A folder that can be locked may still take no new file.
        probe = folder / ".writable"
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        probe.unlink()
    except OSError as problem:
        os.close(file)
        raise refused(folder, problem) from None
    return file


def close_to_others(folder: Path, whole: Sequence[Path]) -> list[Path]:
    """Take what others than the owner may do from what lies in ``folder``, and from all below the folders ``whole``.

    Returns what was mended. What is not ours is left, links are not followed. Raises OSError.
    """
    mended = []
    for path in _entries(folder, whole):
        try:
            file = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            # A trainer or a backup that goes on without the daemon may clear up meanwhile.
            continue
        try:
            about = os.fstat(file)
            plain = stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)
            mode = stat.S_IMODE(about.st_mode)
            if plain and about.st_uid == os.getuid() and mode & 0o077:
                os.chmod(f"/proc/self/fd/{file}", mode & 0o700)
                mended.append(path)
        finally:
            os.close(file)
    return mended


def _entries(folder: Path, whole: Sequence[Path]) -> Iterator[Path]:
    for one in os.scandir(folder):
        yield Path(one.path)
    for tree in whole:
        if tree.is_symlink():
            continue
        for above, folders, files in os.walk(tree):
            yield from (Path(above, name) for name in (*folders, *files))


def make_folder(path: Path) -> Path | None:
    """Make a folder for us alone; a file in its place is moved aside, and where to is returned.

    Raises StateFolderReadOnly, StoreFull.
    """
    moved: Path | None = None
    try:
        if not path.is_dir() and os.path.lexists(path):
            moved = path.with_name(f"{path.name}.aside-{time.time_ns()}")
            os.rename(path, moved)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as problem:
        raise refused(path.parent, problem) from None
    return moved


def refused(folder: Path, problem: OSError) -> BtmdError:
    """The refusal that says what is wrong with the folder."""
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"There is no room left where {folder} lies.", hint="Free some room, then start btmd again.")
    return StateFolderReadOnly(
        f"{folder} cannot be written: {os.strerror(problem.errno or 0).lower()}.",
        hint="Make it writable for this user, or choose another folder with --state-dir.",
    )
