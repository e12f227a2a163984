"""Following a folder and the log at once: whatever changes on either side, both are brought together again."""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from btmd.file_watch import FolderWatch
from btmd.store.event_log import Store
from btmd.subscriptions import subscribe

log = logging.getLogger("btmd.files")

LOOK_AGAIN_S = 10.0


class FolderFollower:
    """Calls ``sync`` at the start and after every change in ``folder``, which it makes, or event of ``types``.

    ``sync`` says whether all is settled; if not, it is called again after a while.
    """

    def __init__(self, store: Store, folder: Path, types: frozenset[str], sync: Callable[[], Awaitable[bool]]) -> None:
        self._store, self._folder, self._types, self._sync = store, folder, types, sync
        self._wake = anyio.Event()

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Follow both sides until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow_log, self._store.head.seq)
            # Before the folder is watched: it is the sync that makes one where there is none.
            settled = await self._sync()
            tasks.start_soon(self._follow_folder)
            while True:
                with anyio.move_on_after(None if settled else LOOK_AGAIN_S):
                    await self._wake.wait()
                self._wake = anyio.Event()
                settled = await self._sync()

    async def _follow_log(self, position: int) -> None:
        async for rows in subscribe(self._store, position):
            if any(row.type in self._types for row in rows):
                self.wake()

    async def _follow_folder(self) -> None:
        told = ""
        while True:
            try:
                await self._watch()
            except OSError as problem:
                # Made again by a later sync, or by a person.
                if told != str(problem):
                    told = str(problem)
                    log.warning("%s is not watched for now: %s", self._folder, problem.strerror)
                await anyio.sleep(LOOK_AGAIN_S)
                self.wake()

    async def _watch(self) -> None:
        watch = FolderWatch(self._folder)
        # What happened before the watch was there is not told by it.
        self.wake()
        try:
            while True:
                await watch.changed()
                self.wake()
        finally:
            watch.close()
