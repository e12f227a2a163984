"""Whose turn it is: one training at a time, interrupted ones first, the rest in order."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import anyio

from btmd.command_handler import CommandHandler
from btmd.domain import settings
from btmd.domain.job_events import (
    AttemptLost,
    JobCancelled,
    JobFailed,
    JobPaused,
    JobSubmitted,
    ResumeRequested,
    StopRequested,
)
from btmd.domain.settings import SettingChanged, SettingsState
from btmd.domain.units import GIB, format_bytes
from btmd.projections.job import waiting_jobs
from btmd.store.event_log import Store
from btmd.subscriptions import subscribe

log = logging.getLogger("btmd.scheduler")

_TURN_CHANGES = frozenset(
    one.TYPE
    for one in (
        JobSubmitted,
        ResumeRequested,
        StopRequested,
        AttemptLost,
        JobPaused,
        JobCancelled,
        JobFailed,
        SettingChanged,
    )
)
LOOK_AGAIN_S = 20.0
"""How often a job that waits for room looks whether there is some."""


class Scheduler:
    """Starts waiting jobs through ``start`` while nothing is ``busy``."""

    def __init__(
        self,
        *,
        store: Store,
        handler: CommandHandler,
        state_dir: Path,
        start: Callable[[str], None],
        busy: Callable[[], frozenset[str]],
    ) -> None:
        self._store, self._handler = store, handler
        self._state_dir = state_dir
        self._start, self._busy = start, busy
        self._turn = anyio.Event()
        self.waiting_for: dict[str, str] = {}
        """By job: what it waits for, in words."""

    def wake(self) -> None:
        """Something changed that may give a job its turn."""
        self._turn.set()

    async def run(self) -> None:
        """Give turns until cancelled."""
        position = self._store.head.seq
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen, position)
            while True:
                self._turn = anyio.Event()
                room = await self._give_turn()
                with anyio.move_on_after(None if room else LOOK_AGAIN_S):
                    await self._turn.wait()

    async def _listen(self, position: int) -> None:
        async for batch in subscribe(self._store, position):
            if any(recorded.type in _TURN_CHANGES for recorded in batch):
                self.wake()

    async def _give_turn(self) -> bool:
        """Start the next job if it can be; False when one waits for room on the disk."""
        async with self._store.session() as session:
            waiting = [row.job_id for row in await waiting_jobs(session)]
        busy = self._busy()
        waiting = [job_id for job_id in waiting if job_id not in busy]
        self.waiting_for.clear()
        if not waiting:
            return True
        if busy:
            self.waiting_for.update(dict.fromkeys(waiting, "another training to end"))
            return True
        missing = await self._missing_room()
        if missing:
            self.waiting_for.update(dict.fromkeys(waiting, missing))
            log.warning("job %s waits for %s", waiting[0], missing)
            return False
        self._start(waiting[0])
        self.waiting_for.update(dict.fromkeys(waiting[1:], "another training to end"))
        return True

    async def _missing_room(self) -> str:
        """What is missing on the disk, in words; empty when the reserve is there."""
        state, _ = await self._handler.state(settings.STREAM)
        reserve_bytes = float((state or SettingsState()).get("disk.reserve_gb")) * GIB
        space = os.statvfs(self._state_dir)
        free_bytes = space.f_bavail * space.f_frsize
        if free_bytes >= reserve_bytes:
            return ""
        return f"room on the disk: {format_bytes(free_bytes)} free, {format_bytes(reserve_bytes)} kept in reserve"
