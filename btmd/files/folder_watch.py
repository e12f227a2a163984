"""Being woken when a folder's files change, by the kernel's inotify: no thread, no polling."""

import ctypes
import os
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import anyio

_IN_MODIFY, _IN_MOVED_FROM, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE = 0x2, 0x40, 0x80, 0x100, 0x200
_IN_DELETE_SELF, _IN_MOVE_SELF, _IN_IGNORED, _IN_ONLYDIR = 0x400, 0x800, 0x8000, 0x1000000
_ENDED = _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_IGNORED
_HEADER = struct.Struct("iIII")
_READ_BYTES = 16 * 1024


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


class FolderWatch:
    """Tells when a file in ``folder`` was written, made, moved or removed; hidden files are nobody's business.

    With ``only`` it tells of what has that name. Raises OSError when the kernel refuses.
    """

    def __init__(self, folder: Path, only: str | None = None) -> None:
        self._folder = folder
        self._only = None if only is None else os.fsencode(only)
        libc = _libc()
        self._file = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if self._file < 0:
            raise _failure("the kernel grants no more file watches", folder)
        mask = _IN_MODIFY | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE
        mask |= _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
        if libc.inotify_add_watch(self._file, os.fsencode(folder), mask) < 0:
            problem = _failure("the folder cannot be watched", folder)
            os.close(self._file)
            raise problem
        # Moved along with the folder above, this one would be followed to where it went. That one may not be ours to
        # read, which costs no more than this.
        libc.inotify_add_watch(self._file, os.fsencode(folder.parent), _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR)

    async def changed(self) -> None:
        """Return once something has changed since the last call. Raises FileNotFoundError when the folder went away."""
        while True:
            await anyio.wait_readable(self._file)
            happened = list(self._happened())
            if any(mask & _ENDED for mask, _ in happened):
                raise FileNotFoundError(2, "the folder is not there any more", str(self._folder))
            if any(self._is_of_interest(name) for _, name in happened):
                return

    def _is_of_interest(self, name: bytes) -> bool:
        return not name.startswith(b".") if self._only is None else name == self._only

    def _happened(self) -> Iterator[tuple[int, bytes]]:
        while True:
            try:
                data = os.read(self._file, _READ_BYTES)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                _, mask, _, length = _HEADER.unpack_from(data, at)
                name = data[at + _HEADER.size : at + _HEADER.size + length].rstrip(b"\0")
                yield mask, name
                at += _HEADER.size + length

    def close(self) -> None:
        anyio.notify_closing(self._file)
        os.close(self._file)


def _failure(what: str, folder: Path) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}", str(folder))
