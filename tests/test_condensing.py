"""Condensing as the settings ask for it, on a real store."""

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from btmd.command_handler import CommandHandler
from btmd.condensing import DAY_US, Condensing
from btmd.domain.commands import DECIDERS
from btmd.domain.settings import ChangeSettings
from btmd.projections.views import ALL_PROJECTIONS
from btmd.store import condensing as slices
from btmd.store.condensing import log_sizes
from btmd.store.event_log import Store
from tests.store.given import ACTOR, Clocks, append, opened, tick


@dataclass
class Given:
    store: Store
    clocks: Clocks
    condensing: Condensing
    busy: set[str]
    troubles: dict[str, str]

    async def settings(self, **changes: object) -> None:
        command = ChangeSettings({key.replace("__", "."): value for key, value in changes.items()})
        await CommandHandler(self.store, DECIDERS).handle(command, actor=ACTOR)

    async def ticks(self) -> tuple[int, int]:
        """How many stand as rows, and how many were condensed."""
        sizes = await self.store.query(log_sizes)
        return sizes.ticks, sizes.condensed_ticks


@pytest.fixture
async def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Given]:
    monkeypatch.setattr(slices, "MIN_ROWS", 5)
    monkeypatch.setattr(slices, "SLICE_ROWS", 20)
    clocks, busy, troubles = Clocks(), set[str](), dict[str, str]()
    async with opened(tmp_path, clocks, projections=ALL_PROJECTIONS) as store:
        condensing = Condensing(
            store=store,
            handler=CommandHandler(store, DECIDERS),
            clock=lambda: clocks.wall_us,
            busy=lambda: busy,
            asked=lambda: False,
            troubles=troubles,
        )
        yield Given(store, clocks, condensing, busy, troubles)


async def test_ticks_are_condensed_once_they_are_a_week_old(given: Given) -> None:
    await append(given.store, "ticks-aaaaaaaaaa", *(tick(number) for number in range(1, 51)))
    given.clocks.advance(6 * DAY_US)
    assert await given.condensing.work_off() == 0
    given.clocks.advance(2 * DAY_US)
    assert await given.condensing.work_off() == 50
    assert await given.ticks() == (0, 50)
    assert given.troubles == {}


async def test_the_settings_say_after_how_many_days_and_beyond_what_size(given: Given) -> None:
    await append(given.store, "ticks-aaaaaaaaaa", *(tick(number) for number in range(1, 11)))
    await given.settings(log__condense_after_days=3)
    given.clocks.advance(4 * DAY_US)
    assert await given.condensing.work_off() == 10
    await append(given.store, "ticks-bbbbbbbbbb", *(tick(number) for number in range(1, 3001)))
    assert await given.condensing.work_off() == 0
    await given.settings(log__max_tick_mb=1)
    condensed = await given.condensing.work_off()
    sizes = await given.store.query(log_sizes)
    assert condensed > 0
    assert sizes.ticks + condensed == 3000
    assert sizes.ticks_bytes < 1 << 20


async def test_ticks_of_a_job_at_work_stay(given: Given) -> None:
    await append(given.store, "ticks-aaaaaaaaaa", *(tick(number) for number in range(1, 11)))
    given.clocks.advance(30 * DAY_US)
    given.busy.add("aaaaaaaaaa")
    assert await given.condensing.work_off() == 0
    given.busy.clear()
    assert await given.condensing.work_off() == 10


async def test_a_row_that_is_damaged_is_not_sealed_in_and_the_trouble_is_told(given: Given) -> None:
    await append(given.store, "ticks-aaaaaaaaaa", *(tick(number) for number in range(1, 11)))
    given.clocks.advance(30 * DAY_US)
    with sqlite3.connect(given.store.path) as connection:
        (guard,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'ticks_never_updated'").fetchone()
        connection.execute("DROP TRIGGER ticks_never_updated")
        connection.execute("UPDATE ticks SET data = replace(data, '1.5', '1.4') WHERE seq = 7")
        connection.execute(guard)
    connection.close()
    assert await given.condensing.work_off() == 0
    assert "event 7" in given.troubles["condensing"]
    assert (await given.store.verify()).first_bad == 7
    assert await given.ticks() == (10, 0)
