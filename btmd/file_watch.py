"""Being woken when a folder's files change, by the kernel's inotify: no thread, no polling."""

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any

import anyio

_IN_MODIFY, _IN_MOVED_TO, _IN_CREATE = 0x2, 0x80, 0x100
_READ_BYTES = 16 * 1024


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


class FolderWatch:
    """Tells when a file in ``folder`` was written, made or moved in. Raises OSError when the kernel refuses."""

    def __init__(self, folder: Path) -> None:
        libc = _libc()
        self._file = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if self._file < 0:
            raise _failure("the kernel grants no more file watches", folder)
        mask = _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE
        if libc.inotify_add_watch(self._file, os.fsencode(folder), mask) < 0:
            problem = _failure("the folder cannot be watched", folder)
            os.close(self._file)
            raise problem

    async def changed(self) -> None:
        """Return once something has changed since the last call."""
        await anyio.wait_readable(self._file)
        try:
            while len(os.read(self._file, _READ_BYTES)) > _READ_BYTES // 2:
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        anyio.notify_closing(self._file)
        os.close(self._file)


def _failure(what: str, folder: Path) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}", str(folder))
