"""One line for the service manager (STATUS=): the training that runs, in words, and how many others there are."""

from collections.abc import Callable, Mapping

import anyio

from btmd.jobs.job_progress import job_progress
from btmd.jobs.turns import Wait
from btmd.projections.job import running_jobs
from btmd.projections.queue import places
from btmd.store.event_log import Store
from btmd.subscriptions import subscribe

EVERY_S = 10.0
"""The least time between two looks: `systemctl status` is read by people."""


class UnitStatus:
    """``tell`` is given a new line when it differs; ``waits`` says what waiting jobs wait for; ``clock`` is in us."""

    def __init__(
        self, store: Store, waits: Mapping[str, Wait], clock: Callable[[], int], tell: Callable[[str], None]
    ) -> None:
        self._store, self._waits, self._clock, self._tell = store, waits, clock, tell
        self._changed = anyio.Event()
        self._told = ""

    async def run(self) -> None:
        """Follow the log until cancelled; nothing is read while nothing happens to a job."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow, self._store.head.seq)
            while True:
                self._changed = anyio.Event()
                line = await self.line()
                if line != self._told:
                    self._told = line
                    self._tell(line)
                await self._changed.wait()
                await anyio.sleep(EVERY_S)

    async def line(self) -> str:
        """What is going on now."""
        async with self._store.session() as session:
            running = await running_jobs(session)
            waiting = [one.job_id for one in await places(session) if one.waiting]
        if not running:
            if not waiting:
                return "Nothing to train."
            why = self._waits.get(waiting[0])
            told = f"Nothing trains; {len(waiting)} waiting."
            return told if why is None else f"{told} {waiting[0]}: {why.text}"
        first = running[0]
        at = await job_progress(self._store, first, self._clock())
        others = [f"{len(running) - 1} more running"] if len(running) > 1 else []
        others += [f"{len(waiting)} waiting"] if waiting else []
        told = f"{first.name or first.job_id}: {at.progress_percentage:g} %. {at.status_message}"
        return f"{told} ({', '.join(others)})" if others else told

    async def _follow(self, position: int) -> None:
        async for rows in subscribe(self._store, position):
            if any(row.stream.startswith(("job-", "ticks-")) for row in rows):
                self._changed.set()
