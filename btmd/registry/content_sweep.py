"""Uploads that nothing came of, and whatever else no dataset needs: looked for once an hour."""

import logging
import time
from collections.abc import Awaitable, Callable

import anyio

from btmd.errors import BtmdError
from btmd.registry.content import UPLOAD_KEPT_S
from btmd.registry.contents_in_use import ContentsInUse

log = logging.getLogger("btmd.contents")

SWEEP_EVERY_S = 3600.0


class ContentSweep:
    """Sweeps while no backup is made. ``registered`` reads from the log which contents datasets have."""

    def __init__(
        self, *, in_use: ContentsInUse, registered: Callable[[], Awaitable[set[str]]], backup_turn: anyio.Lock
    ) -> None:
        self._in_use, self._registered, self._backup_turn = in_use, registered, backup_turn

    async def run(self) -> None:
        """Sweep from time to time until cancelled; a start has swept already."""
        while True:
            await anyio.sleep(SWEEP_EVERY_S)
            try:
                removed = await self.sweep()
            except (BtmdError, OSError) as error:
                log.error("contents that nothing names stay until the next sweep: %s", error)
                continue
            if removed:
                log.info("removed %d files that nothing needs", removed)

    async def sweep(self) -> int:
        """Remove what nothing needs and nobody touched for UPLOAD_KEPT_S; returns how many files.

        Raises StoreFailed, OSError.
        """
        async with self._backup_turn:
            return await self._in_use.sweep(time.time() - UPLOAD_KEPT_S, await self._registered())
