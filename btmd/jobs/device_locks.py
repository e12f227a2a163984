"""One training on a device, whichever daemon of whichever user started it.

A lock is a flock on an empty file in a folder that all users of the machine share. The daemon takes it, and the trainer
inherits the descriptor: the lock is held as long as the trainer lives, also without the daemon, and nothing is left
of it when the trainer is gone. The files stay; they hold nothing.
"""

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from btmd.domain.hardware import Gpu

SHARED = (Path("/run/lock"), Path("/dev/shm"), Path("/tmp"))
CPU = "cpu"
ATTEMPTS = 5
HELD = Path("/proc/locks")
"""The kernel's list: a lock a line, such as ``1: FLOCK ADVISORY WRITE 4711 fd:01:131 0 EOF`` (proc_locks(5))."""

Holder = tuple[int, int | None]
"""The process that took a lock, and its user's number where that may be seen."""


def lock_name(device: str, gpus: Sequence[Gpu]) -> str:
    """What a device is called in the name of its lock: a GPU by the number its maker gave it, which never changes."""
    if device == CPU:
        return CPU
    gpu = next((one for one in gpus if device == f"cuda:{one.index}"), None)
    return "gpu-" + re.sub(r"[^\w-]", "_", gpu.uuid or str(gpu.index) if gpu is not None else device)


def shared_folder(candidates: Sequence[Path] = SHARED) -> Path:
    """The first folder in which everybody may make files and nobody may remove another one's.

    Which one it is depends on the machine alone, so that the daemons of all users meet there.
    """
    for folder in candidates:
        try:
            found = folder.lstat()
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_mode & 0o1777 == 0o1777:
            return folder
    return candidates[-1]


class DeviceLocks:
    """The locks of this machine's devices, in ``folder``."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or shared_folder()

    def path(self, name: str) -> Path:
        return self.folder / f"btmd-{name}.lock"

    def holder(self, name: str) -> Holder | None:
        """Who took the lock; None where it is not known.

        A trainer that has outlived its daemon holds the lock under the daemon's number.
        """
        try:
            found = self.path(name).stat()
            held = HELD.read_text()
        except OSError:
            return None
        file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        for words in map(str.split, held.splitlines()):
            # Whoever waits for a lock stands below it, with an arrow before the kind.
            if len(words) > 5 and words[1] == "FLOCK" and words[5] == file and words[4].isdigit() and int(words[4]):
                pid = int(words[4])
                try:
                    return pid, os.stat(f"/proc/{pid}").st_uid
                except OSError:
                    return pid, None
        return None

    def take(self, name: str) -> int | None:
        """A descriptor that holds the lock; None while another training does. Raises OSError."""
        path = self.path(name)
        for _ in range(ATTEMPTS):
            file = _opened(path)
            if file is None:
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Somebody may have tidied up in between: a lock on a file that no name leads to keeps nobody out.
                if os.path.samestat(os.fstat(file), os.lstat(path)):
                    return file
            except BlockingIOError:
                os.close(file)
                return None
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(file)
                raise
            os.close(file)
        raise OSError(errno.EAGAIN, "it is removed again and again", str(path))


def _opened(path: Path) -> int | None:
    """The lock's file, made if it is missing; None when another one made it meanwhile. Raises OSError."""
    try:
        # Reading is enough for a lock, and the only thing that another user's file allows. Without O_CREAT, which the
        # kernel refuses for files of others in a shared folder (fs.protected_regular).
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        _make(path)
        return None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is no plain file", str(path))
    return file


def _make(path: Path) -> None:
    """An empty file that everybody may open, there at once with these rights. Raises OSError."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(file, 0o444)
        with suppress(FileExistsError):
            os.link(aside, path)
    finally:
        os.close(file)
        os.unlink(aside)
