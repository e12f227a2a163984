"""Whether the socket lets others in: only while somebody else was granted something."""

import logging
import os
import stat
from collections.abc import MutableMapping
from pathlib import Path

import anyio
import anyio.to_thread

from btmd.command_handler import CommandHandler
from btmd.domain.access import STREAM, AccessGranted, AccessRevoked, AccessState
from btmd.store.event_log import Store
from btmd.subscriptions import subscribe

log = logging.getLogger("btmd.api")

ONLY_OURS, FOR_ALL = 0o600, 0o666
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_CHANGES = frozenset({AccessGranted.TYPE, AccessRevoked.TYPE})


class Door:
    """Keeps the mode of our socket as the grants have it; who may do what is decided for every request anyway.

    ``troubles`` is told where others were granted something and cannot reach the socket, itself or through its folders.
    One that is not ``ours``, as the service manager has made it, keeps the mode that its maker gave it.
    """

    def __init__(
        self,
        store: Store,
        handler: CommandHandler,
        socket_path: Path,
        troubles: MutableMapping[str, str],
        *,
        ours: bool = True,
    ) -> None:
        self._store, self._handler, self._path, self._troubles = store, handler, socket_path, troubles
        self._ours = ours

    async def run(self) -> None:
        """Follow the grants until cancelled."""
        position = self._store.head.seq
        await self._set()
        async for rows in subscribe(self._store, position):
            if any(row.type in _CHANGES for row in rows):
                await self._set()

    async def _set(self) -> None:
        state, _ = await self._handler.state(STREAM)
        trouble = await anyio.to_thread.run_sync(self._open_or_close, bool((state or AccessState()).grants))
        if trouble:
            log.warning("%s", trouble)
            self._troubles["socket"] = trouble
        else:
            self._troubles.pop("socket", None)

    def _open_or_close(self, granted: bool) -> str:
        """What is wrong with it then, in words."""
        path = self._path
        try:
            if self._ours:
                path.chmod(FOR_ALL if granted else ONLY_OURS)
            elif granted and not path.stat().st_mode & stat.S_IWOTH:
                return (
                    f"Others were granted a role and may not connect to {path}: a socket unit has made it. "
                    "SocketMode=0666 in its drop-in (`systemctl edit btmd.socket`) lets them."
                )
            folder = path.parent.stat()
            closed = _closed_to_others(path) if granted else None
        except OSError as problem:
            return f"Who may connect to {path} cannot be set: {problem.strerror}."
        if folder.st_uid not in (os.getuid(), 0) or (
            folder.st_mode & _OTHERS_WRITE and not folder.st_mode & stat.S_ISVTX
        ):
            return (
                f"Others may write to the folder of {path} and could put a socket of theirs in its place, and be told "
                f"what is meant for this daemon. `chmod go-w {path.parent}` ends that."
            )
        if closed is not None:
            return (
                f"Others were granted a role and cannot reach {path}: the folder {closed} is closed to them. "
                "`btmd --socket PATH` puts it where they can."
            )
        return ""


def _closed_to_others(path: Path) -> Path | None:
    """The first folder on the way that others may not pass through."""
    for folder in reversed(path.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None
