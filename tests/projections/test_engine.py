"""Projections: up to date in the events' own transaction, stopped by their own bug only, rebuilt aside."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from btmd.store.event_log import Recorded, Store
from tests.store.given import append, file_names, opened, refused, tick


class Counted:
    """Counts rows by stream; ``fails_at`` raises for the row with that code."""

    def __init__(self, name: str = "counted", code_version: int = 1, fails_at: str | None = None) -> None:
        self.name = name
        self.code_version = code_version
        self.tables: tuple[str, ...] = (f"view_{name}",)
        self.fails_at = fails_at

    def create(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"CREATE TABLE view_{self.name} (stream TEXT PRIMARY KEY, rows INTEGER, last_seq INTEGER)")

    def apply(self, connection: sqlite3.Connection, recorded: Recorded) -> None:
        connection.execute(
            f"INSERT INTO view_{self.name} VALUES (?1, 1, ?2)"
            " ON CONFLICT (stream) DO UPDATE SET rows = rows + 1, last_seq = ?2",
            (recorded.stream, recorded.seq),
        )
        if recorded.type == "OperationRefused" and recorded.data["code"] == self.fails_at:
            raise RuntimeError("a bug")

    def apply_all(self, connection: sqlite3.Connection, rows: Sequence[Recorded]) -> None:
        for row in rows:
            self.apply(connection, row)


class Renamed(Counted):
    """A later version of ``Counted`` that keeps its rows in another table."""

    def __init__(self) -> None:
        super().__init__(code_version=2)
        self.tables = ("view_renamed",)

    def create(self, connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE view_renamed (stream TEXT PRIMARY KEY)")

    def apply(self, connection: sqlite3.Connection, recorded: Recorded) -> None:
        connection.execute("INSERT OR IGNORE INTO view_renamed VALUES (?)", (recorded.stream,))


async def rows_of(store: Store, table: str) -> list[tuple[object, ...]]:
    return await store._read(lambda connection: connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall())


def status(store: Store, name: str = "counted") -> tuple[int, str | None]:
    return next((one["position"], one["error"]) for one in store.health()["projections"] if one["name"] == name)


async def test_a_view_is_up_to_date_when_the_append_is_answered(tmp_path: Path) -> None:
    async with opened(tmp_path, projections=[Counted()]) as store:
        await append(store, "a", refused())
        await append(store, "ticks-a", tick(1), tick(2))
        assert await rows_of(store, "view_counted") == [("a", 1, 1), ("ticks-a", 2, 3)]
        assert status(store) == (3, None)
    async with opened(tmp_path, projections=[Counted()]) as store:
        assert status(store) == (3, None)


async def test_a_view_with_a_bug_stops_there_and_blocks_nobody(tmp_path: Path) -> None:
    projections = [Counted("good"), Counted(fails_at="bad"), Counted("other")]
    async with opened(tmp_path, projections=projections) as store:
        codes = ["1", "2", "bad", "4", "5"]
        # One commit: the rows before the bad one are kept, those after it are not applied.
        await asyncio.gather(*(append(store, "a", refused(code)) for code in codes))
        await append(store, "a", refused("6"))
        assert await rows_of(store, "view_counted") == [("a", 2, 2)]
        position, error = status(store)
        assert position == 2
        assert error is not None
        assert "RuntimeError: a bug" in error
        for name in ("good", "other"):
            assert await rows_of(store, f"view_{name}") == [("a", 6, 6)]
            assert status(store, name) == (6, None)
        assert (await store.verify()).checked == 6


async def test_a_stopped_view_is_rebuilt_at_the_next_start_and_kept_if_the_bug_is_still_there(tmp_path: Path) -> None:
    async with opened(tmp_path, projections=[Counted(fails_at="bad")]) as store:
        await append(store, "a", refused("1"))
        await append(store, "a", refused("bad"))
    async with opened(tmp_path, projections=[Counted(fails_at="bad")]) as store:
        assert status(store)[0] == 1
        assert status(store)[1] is not None
        assert await rows_of(store, "view_counted") == [("a", 1, 1)]
        await append(store, "a", refused("3"))
    async with opened(tmp_path, projections=[Counted()]) as store:
        assert status(store) == (3, None)
        assert await rows_of(store, "view_counted") == [("a", 3, 3)]
    assert file_names(tmp_path) == {"btmd.db"}


async def test_a_new_version_and_a_new_view_are_made_from_the_whole_log(tmp_path: Path) -> None:
    async with opened(tmp_path, projections=[Counted()]) as store:
        await append(store, "a", refused())
        await append(store, "b", refused())
    async with opened(tmp_path, projections=[Renamed(), Counted("later")]) as store:
        assert await rows_of(store, "view_renamed") == [("a",), ("b",)]
        assert await rows_of(store, "view_later") == [("a", 1, 1), ("b", 1, 2)]
        tables = await rows_of(store, "sqlite_master")
        assert not any("view_counted" in row for row in tables)
        await append(store, "c", refused())
        assert status(store) == (3, None)


async def test_a_view_that_fell_behind_while_it_was_not_listed_is_rebuilt(tmp_path: Path) -> None:
    async with opened(tmp_path, projections=[Counted()]) as store:
        await append(store, "a", refused())
    async with opened(tmp_path) as store:
        await append(store, "a", refused())
    async with opened(tmp_path, projections=[Counted()]) as store:
        assert await rows_of(store, "view_counted") == [("a", 2, 2)]


async def test_a_rebuild_keeps_the_old_view_readable_and_misses_nothing_appended_meanwhile(tmp_path: Path) -> None:
    counted = Counted()
    async with opened(tmp_path, projections=[counted]) as store:
        await append(store, "a", *(refused() for _ in range(3000)))
        seen: list[object] = []
        appended = 3000
        original: Callable[..., None] = counted.apply
        applied = 0

        def watched(connection: sqlite3.Connection, recorded: Recorded) -> None:
            nonlocal applied
            applied += 1
            original(connection, recorded)

        counted.apply = watched  # type: ignore[method-assign]
        rebuilding = asyncio.ensure_future(store.rebuild_projections(["counted"]))
        while not rebuilding.done():
            await append(store, "a", refused())
            appended += 1
            ((_, count, last_seq),) = await rows_of(store, "view_counted")
            seen.append(count == last_seq == appended)
        assert await rebuilding == {"counted": None}
        assert seen
        assert all(seen)
        assert applied >= 3000 + len(seen)
        await append(store, "a", refused())
        assert await rows_of(store, "view_counted") == [("a", appended + 1, appended + 1)]


async def test_a_rebuild_that_fails_says_why_and_leaves_the_view_as_it_was(tmp_path: Path) -> None:
    counted = Counted()
    async with opened(tmp_path, projections=[counted, Counted("other")]) as store:
        await append(store, "a", refused("x"), refused("y"))
        counted.fails_at = "y"
        result = await store.rebuild_projections()
        assert result == {"counted": "RuntimeError: a bug", "other": None}
        assert await rows_of(store, "view_counted") == [("a", 2, 2)]
        counted.fails_at = None
        await append(store, "a", refused("z"))
        assert status(store) == (3, None)
    assert file_names(tmp_path) == {"btmd.db"}


async def test_two_rebuilds_asked_for_at_once_take_turns(tmp_path: Path) -> None:
    async with opened(tmp_path, projections=[Counted()]) as store:
        await append(store, "a", *(refused() for _ in range(1500)))
        results = await asyncio.gather(*(store.rebuild_projections() for _ in range(3)))
        assert results == [{"counted": None}] * 3
        assert await rows_of(store, "view_counted") == [("a", 1500, 1500)]
