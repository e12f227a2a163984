"""Backups by themselves: when they are due, what holds them up, and what is told when they fail."""

import errno
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from btmd.activity import Activity
from btmd.backups.child import BackupChild
from btmd.backups.keeper import Backups, Wish
from btmd.backups.known import KnownBackups
from btmd.backups.schedule import LOOK_AGAIN_S, BackupSchedule
from btmd.command_handler import CommandHandler
from btmd.config import Config
from btmd.domain.backup import BackupCreated, BackupDeleted, BackupFailed, BackupFaulty, DrillFailed, DrillPassed
from btmd.domain.commands import DECIDERS
from btmd.domain.event import Event
from btmd.domain.settings import ChangeSettings
from btmd.errors import BackupFolderUnusable, BackupNotFound, BtmdError
from btmd.projections.backup import BackupRow
from btmd.projections.views import ALL_PROJECTIONS
from btmd.registry.content import ContentStore
from btmd.store.event_log import Store
from tests.fixtures.daemon import PATIENCE_S, ThreadedDaemon, config_of
from tests.fixtures.short_folder import short_folder
from tests.store.given import ACTOR, Clocks, opened

HOUR_US = 3_600_000_000


class Scheduled:
    """A schedule over a real store and real backups, with clocks that the test moves."""

    def __init__(self, state_dir: Path, clocks: Clocks) -> None:
        self.config = Config(state_dir, state_dir / "config", state_dir / "sock")
        self.clocks = clocks
        self.busy: set[str] = set()
        self.troubles: dict[str, str] = {}
        self.passed_s = 1000.0

    async def begin(self, store: Store, **values: object) -> None:
        self.store = store
        self.handler = CommandHandler(store, DECIDERS)
        contents = ContentStore(self.config.content_dir)
        contents.create()
        for folder in (self.config.jobs_dir, self.config.cache_dir):
            folder.mkdir(exist_ok=True)
        child = BackupChild(self.config, store.store_id, lambda: self.clocks.wall_us)
        known = KnownBackups(
            own_folder=str(self.config.backups_dir),
            store=store,
            handler=self.handler,
            child=child,
            daemon=ACTOR,
            troubles=self.troubles,
        )
        backups = Backups(
            config=self.config,
            store=store,
            handler=self.handler,
            contents=contents,
            known=known,
            child=child,
            daemon=ACTOR,
            troubles=self.troubles,
        )
        self.child, self.backups = child, backups
        self.schedule = BackupSchedule(
            store=store,
            handler=self.handler,
            backups=backups,
            busy=lambda: self.busy,
            clock=lambda: self.clocks.wall_us,
            daemon=ACTOR,
            activity=Activity(),
            troubles=self.troubles,
            elapsed=lambda: self.passed_s,
        )
        changes = {"backup.drill_every_days": 0, **{key.replace("__", "."): value for key, value in values.items()}}
        await self.handler.handle(ChangeSettings(changes), actor=ACTOR, correlation_id="c")

    def pass_hours(self, hours: float) -> None:
        self.clocks.advance(round(hours * HOUR_US))
        self.passed_s += hours * 3600

    async def happened(self, *kinds: type[Event]) -> list[Event]:
        return [row.event for row in await self.store.read() if isinstance(row.event, kinds)]

    async def count(self) -> int:
        return len(await self.happened(BackupCreated))


@asynccontextmanager
async def scheduled(folder: Path, **values: object) -> AsyncIterator[Scheduled]:
    clocks = Clocks()
    async with opened(folder, clocks, projections=ALL_PROJECTIONS) as store:
        found = Scheduled(folder, clocks)
        await found.begin(store, **values)
        yield found


async def test_one_when_it_is_time_however_many_were_missed(tmp_path: Path) -> None:
    async with scheduled(tmp_path, backup__keep_last=1, backup__keep_daily=0, backup__keep_weekly=0) as here:
        await here.handler.handle(ChangeSettings({"backup.keep_monthly": 0}), actor=ACTOR, correlation_id="c2")
        assert await here.schedule.look() == LOOK_AGAIN_S
        here.pass_hours(23.99)
        assert 0 < await here.schedule.look() < 60
        assert await here.count() == 0
        here.pass_hours(0.02)
        assert await here.schedule.look() == LOOK_AGAIN_S
        (made,) = await here.happened(BackupCreated)
        assert isinstance(made, BackupCreated)
        assert (made.backup.cause, made.backup.kind) == ("schedule", "full")
        # Ten days asleep or switched off: one backup, and the one before goes by the settings.
        here.pass_hours(240)
        await here.schedule.look()
        await here.schedule.look()
        assert await here.count() == 2
        (gone,) = await here.happened(BackupDeleted)
        assert isinstance(gone, BackupDeleted)
        assert (gone.name, gone.cause) == (made.backup.name, "prune")


async def test_a_training_is_not_disturbed_but_not_waited_for_for_ever(tmp_path: Path) -> None:
    async with scheduled(tmp_path, backup__wait_hours=2) as here:
        here.busy.add("job")
        here.pass_hours(100)
        await here.schedule.look()
        here.pass_hours(1.9)
        assert await here.schedule.look() <= 60
        assert await here.count() == 0
        here.pass_hours(0.2)
        await here.schedule.look()
        assert await here.count() == 1


async def test_a_failure_is_told_and_tried_again_later(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as here:
        here.pass_hours(25)
        here.config.backups_dir.write_text("a file stands in the way")
        await here.schedule.look()
        await here.schedule.look()
        assert len(await here.happened(BackupFailed)) == 1
        assert "backup" in here.troubles
        here.config.backups_dir.unlink()
        here.pass_hours(0.9)
        await here.schedule.look()
        assert await here.count() == 0
        here.pass_hours(0.2)
        await here.schedule.look()
        assert (await here.count(), here.troubles) == (1, {})


async def test_a_clock_that_was_set_back_neither_stops_nor_floods_it(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as here:
        here.pass_hours(25)
        await here.schedule.look()
        here.clocks.wall_us -= 10 * 365 * 24 * HOUR_US
        for _ in range(3):
            here.pass_hours(11)
            await here.schedule.look()
        assert await here.count() == 2


async def test_a_drill_proves_the_newest_now_and_then(tmp_path: Path) -> None:
    async with scheduled(tmp_path, backup__drill_every_days=7) as here:
        await here.schedule.look()
        assert await here.happened(DrillPassed) == []
        here.pass_hours(25)
        await here.schedule.look()
        assert len(await here.happened(DrillPassed)) == 1
        here.pass_hours(25)
        await here.schedule.look()
        assert (await here.count(), len(await here.happened(DrillPassed))) == (2, 1)
        here.pass_hours(6 * 24)
        await here.schedule.look()
        assert len(await here.happened(DrillPassed)) == 2


async def test_a_backup_that_cannot_be_restored_is_told_and_the_next_one_does_not_build_on_it(tmp_path: Path) -> None:
    async with scheduled(tmp_path, backup__drill_every_days=7) as here:
        here.pass_hours(25)
        await here.schedule.look()
        for part in (here.config.backups_dir / "objects").glob("*/*"):
            part.write_bytes(part.read_bytes()[:-1] + b"!")
        await here.handler.handle(ChangeSettings({"backup.every_hours": 8000}), actor=ACTOR, correlation_id="c3")
        here.pass_hours(8 * 24)
        await here.schedule.look()
        assert "could not be restored" in here.troubles["restore drill"]
        here.pass_hours(1)
        await here.schedule.look()
        assert len(await here.happened(DrillFailed)) == 1
        await here.handler.handle(ChangeSettings({"backup.every_hours": 24}), actor=ACTOR, correlation_id="c4")
        here.pass_hours(6)
        await here.schedule.look()
        assert (await here.count(), len(await here.happened(DrillPassed)), here.troubles) == (2, 2, {})


async def test_nothing_is_made_where_nobody_wants_it(tmp_path: Path) -> None:
    async with scheduled(tmp_path, backup__every_hours=0, backup__drill_every_days=1) as here:
        here.pass_hours(1000)
        assert await here.schedule.look() == LOOK_AGAIN_S
        assert (await here.count(), here.config.backups_dir.exists()) == (0, False)


async def test_where_no_process_can_be_started_it_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_args: object, **_options: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    async with scheduled(tmp_path) as here:
        here.pass_hours(25)
        with monkeypatch.context() as patched:
            patched.setattr(anyio, "open_process", refused)
            await here.schedule.look()
        assert len(await here.happened(BackupFailed)) == 1
        here.pass_hours(1.1)
        await here.schedule.look()
        assert (await here.count(), here.troubles) == (1, {})


async def made(here: Scheduled, count: int) -> list[BackupRow]:
    """So many backups, the newest first."""
    for _ in range(count):
        here.pass_hours(25)
        assert await here.backups.create(Wish(), actor=ACTOR) is not None
    return [row for row, _ in await here.backups.known.listed()]


@asynccontextmanager
async def waiting(here: Scheduled, *works: Callable[[], Awaitable[object]]) -> AsyncIterator[list[object]]:
    """``works`` wait, in this order, while another has the turn, until the block ends; then what came of each."""
    came: list[object] = []

    async def do(work: Callable[[], Awaitable[object]]) -> None:
        try:
            came.append(await work())
        except BtmdError as error:
            came.append(type(error))

    async with anyio.create_task_group() as tasks, here.child.turn:
        for number, work in enumerate(works, 1):
            tasks.start_soon(do, work)
            while here.child.turn.statistics().tasks_waiting < number:
                await anyio.lowlevel.checkpoint()
        yield came


async def test_what_is_let_go_is_chosen_by_the_settings_of_the_moment_it_goes(tmp_path: Path) -> None:
    few = {"backup__keep_last": 1, "backup__keep_daily": 0, "backup__keep_weekly": 0, "backup__keep_monthly": 0}
    async with scheduled(tmp_path, **few) as here:
        await made(here, 2)
        async with waiting(here, lambda: here.backups.prune(actor=ACTOR)):
            await here.handler.handle(ChangeSettings({"backup.keep_last": 7}), actor=ACTOR, correlation_id="c2")
        assert await here.happened(BackupDeleted) == []


async def test_a_backup_that_is_deleted_before_its_turn_is_not_told_as_damaged(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as here:
        newer, older = await made(here, 2)
        async with waiting(
            here,
            lambda: here.backups.delete(older, actor=ACTOR),
            lambda: here.backups.drill(older, actor=ACTOR),
            lambda: here.backups.verify([older], actor=ACTOR),
            lambda: here.backups.bring_back(older, ()),
            lambda: here.backups.delete(older, actor=ACTOR),
            lambda: here.backups.verify([newer, older], actor=ACTOR),
        ) as came:
            pass
        freed_bytes, *others, checked = came
        assert isinstance(freed_bytes, int)
        assert others == [BackupNotFound] * 4
        assert isinstance(checked, list)
        assert [row.name for row, _ in checked] == [newer.name]
        assert (len(await here.happened(BackupDeleted)), await here.happened(DrillFailed, BackupFaulty)) == (1, [])
        assert here.troubles == {}


async def test_a_drill_that_failed_is_not_told_once_its_backup_is_deleted(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as here:
        (row,) = await made(here, 1)
        for part in (here.config.backups_dir / "objects").glob("*/*"):
            part.write_bytes(part.read_bytes()[:-1] + b"!")
        async with waiting(
            here, lambda: here.backups.drill(row, actor=ACTOR), lambda: here.backups.delete(row, actor=ACTOR)
        ):
            pass
        assert len(await here.happened(DrillFailed)) == 1
        assert here.troubles == {}


async def test_a_disk_that_is_taken_away_before_its_turn_makes_no_backup_a_damaged_one(tmp_path: Path) -> None:
    async with scheduled(tmp_path) as here:
        (row,) = await made(here, 1)
        async with waiting(
            here,
            lambda: here.backups.drill(row, actor=ACTOR),
            lambda: here.backups.verify([row], actor=ACTOR),
            lambda: here.backups.bring_back(row, ()),
        ) as came:
            here.config.backups_dir.rename(tmp_path / "away")
        assert came == [BackupFolderUnusable] * 3
        assert await here.happened(DrillFailed, BackupFaulty) == []


async def test_a_disk_that_is_taken_away_in_the_middle_makes_no_backup_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = BackupChild.ask

    async def taken_away(self: BackupChild, request: Any, kind: Any, *more: Any) -> Any:
        (tmp_path / "backups" / "manifests").rename(tmp_path / "away")
        try:
            return await ask(self, request, kind, *more)
        finally:
            (tmp_path / "away").rename(tmp_path / "backups" / "manifests")
            (tmp_path / "backups").rename(tmp_path / "backups.away")

    async with scheduled(tmp_path) as here:
        (row,) = await made(here, 1)
        monkeypatch.setattr(BackupChild, "ask", taken_away)
        works = (
            lambda: here.backups.drill(row, actor=ACTOR),
            lambda: here.backups.verify([row], actor=ACTOR),
            lambda: here.backups.bring_back(row, ()),
        )
        for work in works:
            with pytest.raises(BackupFolderUnusable):
                await work()
            (tmp_path / "backups.away").rename(tmp_path / "backups")
        assert await here.happened(DrillFailed, BackupFaulty) == []


async def test_a_backup_that_is_deleted_before_it_was_read_through_lets_nothing_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scheduled(tmp_path) as here:
        create = here.backups.create

        async def deleted_at_once(*args: Any, **options: Any) -> Any:
            created = await create(*args, **options)
            (row,) = [row for row, _ in await here.backups.known.listed()]
            await here.backups.delete(row, actor=ACTOR)
            return created

        monkeypatch.setattr(here.backups, "create", deleted_at_once)
        with pytest.raises(BackupNotFound):
            await here.backups.create_before("a test", actor=ACTOR)


def test_the_daemon_makes_them_in_shortened_time() -> None:
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as daemon:
        client = daemon.client
        client.patch("/settings", {"changes": {"backup.every_hours": 0.0001}}).ok()
        end = time.monotonic() + PATIENCE_S
        while "schedule" not in {one["cause"] for one in client.get("/backups").ok()}:
            assert time.monotonic() < end
            time.sleep(0.05)
        client.patch("/settings", {"changes": {"backup.every_hours": 0}}).ok()
        while not client.get("/status").ok()["last_proved_restore_at"]:
            assert time.monotonic() < end
            time.sleep(0.05)
