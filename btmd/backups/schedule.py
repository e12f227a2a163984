"""Backups by themselves: one when it is time and nothing trains, old ones let go after it, and a drill now and then."""

import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import anyio

from btmd.activity import Activity
from btmd.backups.keeper import Backups, Wish
from btmd.command_handler import CommandHandler
from btmd.domain import settings
from btmd.domain.event import Actor
from btmd.domain.settings import SettingChanged, SettingsState
from btmd.domain.units import format_bytes
from btmd.errors import BackupNotFound, BtmdError
from btmd.projections.backup import BackupRow, DrillRow, backups, last_drill
from btmd.store.event_log import Store
from btmd.subscriptions import subscribe

log = logging.getLogger("btmd.backups")

START_WAIT_S = 120.0
"""What was missed while the daemon was away is made up for, but not while everything else starts."""
LOOK_AGAIN_S = 300.0
"""No wait is longer: the clock may be set, and the machine may have slept."""
BUSY_LOOK_S = 60.0
TRY_AGAIN_S = 3600.0
DRILL_AGAIN_S = 6 * 3600.0
_HOUR_US = 3_600_000_000


def elapsed_s() -> float:
    """Seconds that passed since the machine started, asleep or awake, whatever the clock on the wall says."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class BackupSchedule:
    """Looks what is due and does it. ``clock`` gives microseconds since the epoch, ``elapsed`` seconds without leaps.

    ``busy`` names the jobs that train.
    """

    def __init__(
        self,
        *,
        store: Store,
        handler: CommandHandler,
        backups: Backups,
        busy: Callable[[], Collection[str]],
        clock: Callable[[], int],
        daemon: Actor,
        activity: Activity,
        troubles: dict[str, str],
        elapsed: Callable[[], float] = elapsed_s,
    ) -> None:
        self._store, self._handler, self._backups, self._busy = store, handler, backups, busy
        self._clock, self._elapsed, self._daemon, self._troubles = clock, elapsed, daemon, troubles
        self._activity = activity
        self._woken = anyio.Event()
        self._due_since_s: float | None = None
        """Since when a backup waits for a training to end."""
        self._not_before_s = self._drill_not_before_s = 0.0
        """After a failure, when to try again."""
        self._made_s: float | None = None
        self._drilled_s: float | None = None
        """When this process made and proved one: what counts where the clock was set back behind them."""

    async def run(self) -> None:
        """Make and prove backups until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow, self._store.head.seq)
            wait_s = START_WAIT_S
            try:
                await self._backups.known.look_at_start()
            except BtmdError as error:
                log.error("the backup folders cannot be looked at: %s", error.detail)
            while True:
                with anyio.move_on_after(wait_s):
                    await self._woken.wait()
                self._woken = anyio.Event()
                try:
                    wait_s = await self.look()
                except BtmdError as error:
                    log.error("what is due of the backups cannot be seen: %s", error.detail)
                    wait_s = LOOK_AGAIN_S

    async def _follow(self, position: int) -> None:
        async for rows in subscribe(self._store, position):
            happened = [row.event for row in rows if isinstance(row.event, SettingChanged)]
            if any(one.key.startswith("backup.") for one in happened):
                self._not_before_s = self._drill_not_before_s = 0.0
                self._woken.set()

    async def look(self) -> float:
        """Do what is due, each thing once however long it was missed; the seconds until the next look."""
        state, _ = await self._handler.state(settings.STREAM)
        value = (state or SettingsState()).get
        await self._backups.known.look()
        every_us = round(float(value("backup.every_hours")) * _HOUR_US)
        backup_wait_s = await self._wait_for_backup(every_us)
        if backup_wait_s <= 0:
            if self._training(float(value("backup.wait_hours"))):
                return BUSY_LOOK_S
            await self._make(every_us)
            backup_wait_s = await self._wait_for_backup(every_us)
        drill_every_us = round(float(value("backup.drill_every_days")) * 24 * _HOUR_US)
        if not self._busy() and await self._drill_is_due(drill_every_us):
            await self._drill(drill_every_us)
        return min(max(backup_wait_s, 0.05), LOOK_AGAIN_S)

    # --- backups -------------------------------------------------------------------------------

    async def _wait_for_backup(self, every_us: int) -> float:
        """The seconds until one is due; 0 or less where it is."""
        if not every_us:
            return LOOK_AGAIN_S
        tries_in_s = self._not_before_s - self._elapsed()
        left_us = every_us - self._since(await self._newest_us(), self._made_s, every_us)
        return max(tries_in_s, left_us / 1e6)

    async def _newest_us(self) -> int:
        """When the newest sound full backup was made; before the first one, when the log was begun."""
        async with self._store.session() as session:
            found = await backups(session, self._backups.known.own_folder)
        newest = next((row.created_us for row in found if row.kind == "full" and not row.fault), None)
        return newest if newest is not None else await self._store.query(_begun_us)

    def _since(self, moment_us: int, here_s: float | None, when_set_back_us: int) -> int:
        """Microseconds since a moment; the clock may have been set back behind it."""
        since_us = self._clock() - moment_us
        if since_us >= 0:
            return since_us
        return when_set_back_us if here_s is None else round((self._elapsed() - here_s) * 1e6)

    def _training(self, wait_hours: float) -> bool:
        """Whether to wait for a training to end: not for ever."""
        if not self._busy():
            self._due_since_s = None
            return False
        if self._due_since_s is None:
            self._due_since_s = self._elapsed()
        return self._elapsed() - self._due_since_s < wait_hours * 3600

    async def _make(self, every_us: int) -> None:
        try:
            with self._at_work():
                wish = Wish(description="Scheduled backup", cause="schedule")
                await self._backups.create(wish, actor=self._daemon)
        except BtmdError as error:
            # Recorded and shown by `status` already; the next look must not come at once.
            self._not_before_s = self._elapsed() + min(TRY_AGAIN_S, every_us / 1e6)
            log.error("the scheduled backup failed: %s", error.detail)
            return
        self._made_s, self._due_since_s = self._elapsed(), None
        try:
            with self._at_work():
                pruned = await self._backups.prune(actor=self._daemon)
        except BtmdError as error:
            self._troubles["old backups"] = f"Old backups could not be let go: {error.detail}"
            return
        self._troubles.pop("old backups", None)
        if pruned.over_bytes:
            self._troubles["old backups"] = (
                f"The backups take {format_bytes(pruned.over_bytes)} more than backup.max_gb allows,"
                " and what is left cannot be let go."
            )

    # --- drills --------------------------------------------------------------------------------

    async def _drill_is_due(self, every_us: int) -> bool:
        again_us = min(round(DRILL_AGAIN_S * 1e6), every_us)
        async with self._store.session() as session:
            proved, failed = await last_drill(session, proved=True), await last_drill(session, proved=False)
            found = await backups(session)
        self._tell_failed_drill(failed, found)
        if failed is not None and (proved is None or failed.seq > proved.seq):
            tried_us = self._since(failed.at_us, self._drilled_s, again_us)
        else:
            tried_us = again_us
        if not every_us or tried_us < again_us or self._elapsed() < self._drill_not_before_s:
            return False
        return proved is None or self._since(proved.at_us, self._drilled_s, every_us) >= every_us

    def _tell_failed_drill(self, failed: DrillRow | None, found: Sequence[BackupRow]) -> None:
        """Told until that backup is proved, read through and found whole, or gone."""
        at_fault = failed is not None and any(
            row.fault for row in found if (row.folder, row.name) == (failed.folder, failed.name)
        )
        if failed is not None and at_fault:
            self._troubles.setdefault(
                "restore drill", f"The backup {failed.name[:16]} could not be restored: {failed.detail}"
            )
        elif "could not be restored" in self._troubles.get("restore drill", ""):
            del self._troubles["restore drill"]

    async def _drill(self, every_us: int) -> None:
        try:
            row = await self._backups.known.newest_full()
        except BackupNotFound:
            return
        self._drilled_s = self._elapsed()
        self._drill_not_before_s = self._drilled_s + min(DRILL_AGAIN_S, every_us / 1e6)
        try:
            with self._at_work():
                done = await self._backups.drill(row, actor=self._daemon)
        except BtmdError as error:
            self._troubles["restore drill"] = f"The restore drill could not be made: {error.detail}"
            log.error("the restore drill could not be made: %s", error.detail)
            return
        if done.code:
            log.error("the backup %s could not be restored: %s", row.backup_id, done.detail)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """A daemon that ends when nobody needs it waits for this."""
        self._activity.under_way += 1
        try:
            yield
        finally:
            self._activity.under_way -= 1


def _begun_us(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT created_at FROM meta").fetchone()[0])
