"""Following a folder and the log at once: whatever changes on either side, both are brought together again."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path

import anyio

from btmd.files.folder_watch import FolderWatch
from btmd.store.event_log import Store
from btmd.subscriptions import subscribe

log = logging.getLogger("btmd.files")

LOOK_AGAIN_S = 10.0


class FolderFollower:
    """Calls ``sync`` at the start and after every change in ``folder``, which it makes, or event of ``types``.

    ``sync`` says whether all is settled; if not, it is called again after a while. ``troubles`` is told, under the name
    ``about``, while the folder cannot be watched.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        types: frozenset[str],
        sync: Callable[[], Awaitable[bool]],
        *,
        about: str,
        troubles: MutableMapping[str, str],
    ) -> None:
        self._store, self._folder, self._types, self._sync = store, folder, types, sync
        self._about, self._troubles = about, troubles
        self._wake = anyio.Event()
        self._went_away = False
        self._turn = anyio.Lock()

    def wake(self) -> None:
        self._wake.set()

    async def bring_together(self) -> bool:
        """Do at once what a change would lead to; whether all is settled."""
        async with self._turn:
            return await self._sync()

    @property
    def is_away(self) -> bool:
        """Whether the folder went away since ``went_away`` was asked last."""
        return self._went_away

    def went_away(self) -> bool:
        """Whether the folder went away since this was asked last, even if another is there by now."""
        went, self._went_away = self._went_away, False
        return went

    async def run(self) -> None:
        """Follow both sides until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow_log, self._store.head.seq)
            # Before the folder is watched: it is the sync that makes one where there is none.
            settled = await self.bring_together()
            tasks.start_soon(self._follow_folder)
            while True:
                with anyio.move_on_after(None if settled else LOOK_AGAIN_S):
                    await self._wake.wait()
                self._wake = anyio.Event()
                settled = await self.bring_together()

    async def _follow_log(self, position: int) -> None:
        async for rows in subscribe(self._store, position):
            if any(row.type in self._types for row in rows):
                self.wake()

    async def _follow_folder(self) -> None:
        while True:
            try:
                await self._watch()
            except OSError as problem:
                text = f"{self._folder} is not watched for now: {problem.strerror}. It is looked at every"
                text = f"{text} {LOOK_AGAIN_S:g} s."
                if self._troubles.get(self._about) != text:
                    log.warning("%s", text)
                self._troubles[self._about] = text
                with anyio.move_on_after(LOOK_AGAIN_S):
                    await self._until_there_again(problem)
                self.wake()

    async def _watch(self) -> None:
        watch = FolderWatch(self._folder)
        self._troubles.pop(self._about, None)
        # What happened before the watch was there is not told by it.
        self.wake()
        try:
            while True:
                await watch.changed()
                self.wake()
        except FileNotFoundError:
            self._went_away = True
            raise
        finally:
            watch.close()

    async def _until_there_again(self, problem: OSError) -> None:
        """Return when the folder, or one on the way to it, is made: by a person, or by a later sync."""
        if not isinstance(problem, (FileNotFoundError, NotADirectoryError)):
            await anyio.sleep_forever()
        above = self._folder.parent
        while not above.is_dir():
            above = above.parent
        below = self._folder.relative_to(above).parts[0]
        try:
            watch = FolderWatch(above, only=below)
        except (FileNotFoundError, NotADirectoryError):
            # It went too, between the two looks.
            return
        except OSError:
            await anyio.sleep_forever()
        try:
            # Made before the watch was there, it is not told by it.
            if not (above / below).is_dir():
                await watch.changed()
        except FileNotFoundError:
            # The folder above went too: the next look begins further up.
            return
        finally:
            watch.close()
