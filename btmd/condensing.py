"""Old progress of trainings is condensed while nobody waits for anything; every row can still be read."""

import logging
import time
from collections.abc import Callable, Collection

import anyio

from btmd.command_handler import CommandHandler
from btmd.domain import settings
from btmd.domain.settings import SettingsState
from btmd.domain.units import MIB
from btmd.domain.warning import samples_stream
from btmd.errors import BtmdError
from btmd.projections.job import unfinished_jobs
from btmd.store.condensing import CondenseRule
from btmd.store.event_log import Store

log = logging.getLogger("btmd.condensing")

FIRST_LOOK_S = 60.0
LOOK_AGAIN_S = 600.0
REST_IDLE, REST_BUSY = 4.0, 40.0
"""The rest after a slice, in slices: a backlog takes a fifth of one core, and a fortieth while others work."""
DAY_US = 24 * 3600 * 1_000_000


class Condensing:
    """Condenses slice by slice. ``clock`` gives microseconds since the epoch, ``busy`` the jobs that are at work."""

    def __init__(
        self,
        *,
        store: Store,
        handler: CommandHandler,
        clock: Callable[[], int],
        busy: Callable[[], Collection[str]],
        asked: Callable[[], bool],
        troubles: dict[str, str],
    ) -> None:
        self._store, self._handler, self._clock = store, handler, clock
        self._busy, self._asked, self._troubles = busy, asked, troubles

    async def run(self) -> None:
        """Look from time to time until cancelled; the first look waits until the start is over."""
        await anyio.sleep(FIRST_LOOK_S)
        while True:
            await self.work_off()
            await anyio.sleep(LOOK_AGAIN_S)

    async def work_off(self) -> int:
        """Condense all that may be, with rests; returns how many ticks. A failure is told in ``troubles``."""
        ticks = 0
        try:
            while True:
                began = time.monotonic()
                done = await self._store.condense(await self.rule())
                if done is None:
                    break
                ticks += done.row_count
                others = bool(self._busy()) or self._asked()
                await anyio.sleep((time.monotonic() - began) * (REST_BUSY if others else REST_IDLE))
        except BtmdError as error:
            # Nothing is lost: it is tried again at the next look, and until then the rows stay as they are.
            log.error("old progress cannot be condensed: %s", error.detail)
            self._troubles["condensing"] = f"Old progress cannot be condensed: {error.detail}"
        else:
            self._troubles.pop("condensing", None)
        if ticks:
            log.info("condensed %d progress reports", ticks)
        return ticks

    async def rule(self) -> CondenseRule:
        """What the settings and the jobs allow just now."""
        state, _ = await self._handler.state(settings.STREAM)
        value = (state or SettingsState()).get
        async with self._store.session() as session:
            unfinished = [job.job_id for job in await unfinished_jobs(session)]
        return CondenseRule(
            before_us=self._clock() - int(float(value("log.condense_after_days")) * DAY_US),
            max_bytes=int(float(value("log.max_tick_mb")) * MIB),
            at_work=_tick_streams(self._busy()),
            unfinished=_tick_streams(unfinished),
        )


def _tick_streams(jobs: Collection[str]) -> frozenset[str]:
    """Where the ticks of jobs are: their progress, and samples of the machine beside it."""
    return frozenset(f"ticks-{job_id}" for job_id in jobs) | frozenset(map(samples_stream, jobs))
