"""Changes, states at a moment, and what cannot be meant."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from btmd import command_handler, history
from btmd.command_handler import CommandHandler
from btmd.domain.commands import DECIDERS
from btmd.domain.settings import ChangeSettings, UndoChange
from btmd.errors import Conflict, InvalidValue, MomentAmbiguous
from btmd.history import ChangeNotFound, History
from tests.store.given import ACTOR, START_US, Clocks, append, opened, refused

HOUR_US = 3600 * 1_000_000
KEYS = ("training.seed", "checkpoints.keep", "jobs.crash_resumes")


class Past:
    """A store with settings that change, and its history."""

    def __init__(self, clocks: Clocks, handler: CommandHandler, found: History) -> None:
        self.clocks, self.handler, self.history = clocks, handler, found

    async def set(self, **changes: int | None) -> int:
        """Change settings by the last part of their names; an hour passes."""
        named = {next(key for key in KEYS if key.endswith(f".{short}")): value for short, value in changes.items()}
        handled = await self.handler.handle(ChangeSettings(named), actor=ACTOR, correlation_id=self.clocks.new_id())
        self.clocks.advance(HOUR_US)
        return handled.events[-1].seq

    async def undo(self, number: int | None = None, *, force: bool = False) -> None:
        undone = await self.history.change(number)
        command = UndoChange(undone.number, undone.before, undone.after, force=force)
        await self.handler.handle(command, actor=ACTOR, correlation_id=self.clocks.new_id())
        self.clocks.advance(HOUR_US)

    async def values(self, seq: int) -> dict[str, object]:
        return dict((await self.history.settings_at(seq)).values)


@asynccontextmanager
async def past(folder: Path) -> AsyncIterator[Past]:
    clocks = Clocks()
    async with opened(folder, clocks) as store:
        yield Past(clocks, CommandHandler(store, DECIDERS), History(store, lambda: clocks.wall_us))


async def test_every_change_can_be_looked_at(tmp_path: Path) -> None:
    async with past(tmp_path) as it:
        first = await it.set(seed=1, keep=5)
        second = await it.set(seed=2)
        third = await it.set(seed=None)
        assert [one.number for one in await it.history.changes()] == [third, second, first]
        assert [one.number for one in await it.history.changes(key="checkpoints.keep")] == [first]
        assert [one.number for one in await it.history.changes(before=third, limit=1)] == [second]
        assert await it.values(0) == {}
        assert await it.values(first) == {"training.seed": 1, "checkpoints.keep": 5}
        assert await it.values(second) == {"training.seed": 2, "checkpoints.keep": 5}
        assert await it.values(third) == {"checkpoints.keep": 5}


async def test_moments_are_found_by_time_and_by_number(tmp_path: Path) -> None:
    async with past(tmp_path) as it:
        first, second = await it.set(seed=1), await it.set(seed=2)
        assert (await it.history.find("90 minutes ago")).seq == first
        assert (await it.history.find("now")).seq == second
        assert (await it.history.find(f" {first} ")).seq == first
        for impossible in ("in an hour", "99", "3 days ago", "2099-01-01"):
            with pytest.raises(InvalidValue):
                await it.history.find(impossible)


async def test_a_time_that_was_twice_is_listed(tmp_path: Path) -> None:
    async with past(tmp_path) as it:
        first = await it.set(seed=1)
        it.clocks.wall_us -= HOUR_US
        second = await it.set(seed=2)
        with pytest.raises(MomentAmbiguous) as caught:
            await it.history.at(START_US + HOUR_US // 2)
        for seq in (first, second):
            assert f"event {seq}," in caught.value.detail
        assert "--seq" in caught.value.hint


async def test_an_undo_can_be_undone(tmp_path: Path) -> None:
    async with past(tmp_path) as it:
        first = await it.set(seed=1, keep=5)
        await it.undo()
        assert (await it.handler.state("settings"))[0].values == {}
        await it.undo()
        assert (await it.handler.state("settings"))[0].values == {"training.seed": 1, "checkpoints.keep": 5}
        await it.set(keep=6)
        with pytest.raises(Conflict):
            await it.undo(first)
        await it.undo(first, force=True)
        assert (await it.handler.state("settings"))[0].values == {}


async def test_what_is_no_change_cannot_be_undone(tmp_path: Path) -> None:
    async with past(tmp_path) as it:
        with pytest.raises(Conflict):
            await it.history.change(None)
        await append(it.handler._store, "machine", refused())
        await it.set(seed=1, keep=5)
        await append(it.handler._store, "machine", refused())
        for number in (1, 4, 5, 0):
            with pytest.raises(ChangeNotFound):
                await it.history.change(number)
        assert (await it.history.change(2)).number == (await it.history.change(3)).number == 3


async def test_old_states_come_from_snapshots_and_changes_from_many_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_handler, "SNAPSHOT_VERSIONS", 10)
    monkeypatch.setattr(history, "PAGE_ROWS", 7)
    async with past(tmp_path) as it:
        numbers = [await it.set(seed=n, keep=1 + n % 90) for n in range(1, 60)]
        assert [one.number for one in reversed(await it.history.changes())] == numbers
        for n, number in enumerate(numbers, 1):
            assert await it.values(number) == {"training.seed": n, "checkpoints.keep": 1 + n % 90}
        assert (await it.history.change(numbers[3])).after == {"training.seed": 4, "checkpoints.keep": 5}
        reads = await it.handler._store.query(
            lambda one: history.state_rows(one, "settings", history._state_version(history.SETTINGS), numbers[50])
        )
        assert reads[0] is not None
        assert len(reads[1]) < 10
