"""Condensing as the daemon does it: nobody who reads the log can tell when it happened."""

import asyncio
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btmd.domain.event_log import TicksCondensed
from btmd.projections.spool import SPOOL_VIEW
from btmd.store import condensing
from btmd.store.audit import audit_log
from btmd.store.condensing import CondenseRule, log_sizes
from btmd.store.errors import VersionConflict
from btmd.store.event_log import Recorded, Store
from btmd.subscriptions import subscribe
from tests.store.given import START_US, Clocks, append, opened, refused, tick

ANY = CondenseRule(before_us=2**62, max_bytes=0)


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condensing, "SLICE_ROWS", 12)
    monkeypatch.setattr(condensing, "MIN_ROWS", 3)


def raw(rows: list[Recorded]) -> list[tuple[object, ...]]:
    return [row.row() for row in rows]


def plain_ticks(store: Store) -> list[int]:
    with closing(sqlite3.connect(store.path)) as connection:
        return [row[0] for row in connection.execute("SELECT seq FROM ticks ORDER BY seq")]


async def condense_all(store: Store, rule: CondenseRule = ANY) -> int:
    count = 0
    while (done := await store.condense(rule)) is not None:
        count += done.row_count
    return count


def but(rule: CondenseRule, **changes: Any) -> CondenseRule:
    return msgspec.structs.replace(rule, **changes)


async def test_condensing_goes_slice_by_slice_and_every_read_gives_the_same_rows(tmp_path: Path) -> None:
    async with opened(tmp_path, projections=(SPOOL_VIEW,)) as store:
        await append(store, "s", refused())
        for number in range(1, 31):
            await append(store, f"ticks-{'ab'[number % 2]}", tick(number))
        before, stream = raw(await store.read()), raw(await store.read_stream("ticks-a", 3))
        first = await store.condense(ANY)
        assert first is not None
        assert (first.first_seq, first.last_seq, first.row_count) == (2, 13, 12)
        assert await condense_all(store) == 18
        assert plain_ticks(store) == []
        after = await store.read()
        assert raw(after)[: len(before)] == before
        assert [row.type for row in after[len(before) :]] == [TicksCondensed.TYPE] * 3
        assert raw(await store.read_stream("ticks-a", 3)) == stream
        for limit in (1, 7, 100):
            assert raw(await store.read_stream("ticks-a", 3, limit=limit)) == stream[:limit]
        assert (await store.verify()).ok
        assert await store.query(lambda connection: audit_log(connection, store.head).verdict) == "ok"
        assert (await store.rebuild_projections()) == {"spool_positions": None}
        assert store.health()["projections"][0]["position"] == store.head.seq


async def test_who_follows_the_log_from_any_position_misses_nothing(tmp_path: Path) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clocks) as store:
        for number in range(1, 41):
            await append(store, "s" if number % 5 == 0 else "ticks-a", refused() if number % 5 == 0 else tick(number))
        await condense_all(store)
        log = raw(await store.read())
    async with opened(tmp_path, clocks) as store:
        for after in (0, 1, 12, 25, 39, 41):
            found: list[Recorded] = []
            async for rows in subscribe(store, after, limit=7):
                found += rows
                if found[-1].seq == store.head.seq:
                    break
            assert raw(found) == log[after:]


async def test_the_event_tells_of_what_was_condensed(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await append(store, "ticks-a", tick(1), tick(2))
        await append(store, "ticks-b", tick(1))
        await store.condense(ANY)
        (row,) = await store.read_stream("log")
        event = row.event
        assert isinstance(event, TicksCondensed)
        assert (event.first_seq, event.last_seq, event.row_count) == (1, 3, 3)
        assert event.streams == (("ticks-a", 1, 2), ("ticks-b", 1, 1))
        assert event.types == ("TrainingProgressed",)
        assert row.actor.name == "daemon"


async def test_versions_go_on_and_conflicts_are_found_after_everything_was_condensed(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await append(store, "ticks-a", *(tick(number) for number in range(1, 6)))
        await condense_all(store)
    async with opened(tmp_path, Clocks(wall_us=START_US + 10)) as store:
        with pytest.raises(VersionConflict):
            await append(store, "ticks-a", tick(6), expected_version=0)
        (row,) = await append(store, "ticks-a", tick(6), expected_version=5)
        assert row.version == 6


async def test_only_old_ticks_go_unless_there_are_too_many(tmp_path: Path) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clocks) as store:
        await append(store, "ticks-a", *(tick(number) for number in range(1, 5)))
        clocks.advance(1_000_000)
        await append(store, "ticks-b", *(tick(number) for number in range(1, 5)))
        roomy = CondenseRule(before_us=START_US, max_bytes=1 << 30)
        assert await store.condense(roomy) is None
        assert await condense_all(store, but(roomy, before_us=START_US + 500_000)) == 4
        crowded = but(roomy, max_bytes=10)
        assert await store.condense(but(crowded, unfinished=frozenset({"ticks-b"}))) is None
        assert await condense_all(store, crowded) == 4


async def test_ticks_of_a_job_at_work_stay_however_old_they_are(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await append(store, "ticks-a", *(tick(number) for number in range(1, 5)))
        await append(store, "ticks-b", *(tick(number) for number in range(1, 5)))
        assert await condense_all(store, but(ANY, at_work=frozenset({"ticks-b"}))) == 4
        assert plain_ticks(store) == [5, 6, 7, 8]


async def test_damage_and_forgery_in_a_segment_are_named(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await append(store, "s", refused())
        await append(store, "ticks-a", *(tick(number) for number in range(1, 13)))
        await append(store, "ticks-a", *(tick(number) for number in range(13, 25)))
        await condense_all(store)

        def found() -> tuple[str, int | None]:
            with closing(sqlite3.connect(store.path)) as connection:
                audit = audit_log(connection, store.head)
            return audit.verdict, audit.first_bad

        def change(sql: str, *values: object) -> None:
            with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
                guards = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
                for name, _ in guards:
                    connection.execute(f"DROP TRIGGER {name}")
                connection.execute(sql, values)
                for _, guard in guards:
                    connection.execute(guard)

        assert found() == ("ok", None)
        with closing(sqlite3.connect(store.path)) as connection:
            (first, first_hash), (second, second_hash) = connection.execute(
                "SELECT body, hash FROM segments ORDER BY first_seq"
            )
        change("UPDATE segments SET body = ? WHERE first_seq = 14", second[:40] + b"?" + second[41:])
        assert found() == ("damaged", 14)
        change("UPDATE segments SET body = ? WHERE first_seq = 14", first)
        assert found() == ("tampered", 14)
        change("UPDATE segments SET body = ?, prev_hash = zeroblob(32) WHERE first_seq = 14", second)
        assert found()[0] == "tampered"
        change("UPDATE segments SET prev_hash = ?, hash = ? WHERE first_seq = 14", first_hash, second_hash)
        assert found() == ("ok", None)
        change("DELETE FROM segments WHERE first_seq = 14")
        assert found()[0] == "tampered"


async def test_what_the_log_takes_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await append(store, "ticks-a", *(tick(number) for number in range(1, 13)))
        before = await store.query(log_sizes)
        assert (before.ticks, before.condensed_ticks, before.segments_bytes) == (12, 0, 0)
        done = await store.condense(ANY)
        assert done is not None
        after = await store.query(log_sizes)
        assert (after.ticks, after.ticks_bytes, after.condensed_ticks, after.segments) == (0, 0, 12, 1)
        assert after.segments_bytes == done.size_bytes < before.ticks_bytes


STEPS = st.one_of(
    st.tuples(st.just("ticks"), st.sampled_from("abc"), st.integers(1, 9)),
    st.tuples(st.just("event"), st.sampled_from("st"), st.integers(1, 3)),
    st.tuples(st.just("condense"), st.frozensets(st.sampled_from(["ticks-a", "ticks-b"])), st.integers(0, 40)),
    st.tuples(st.just("reopen"), st.none(), st.none()),
)
QUESTIONS = st.fixed_dictionaries(
    {"after": st.integers(0, 60), "limit": st.integers(1, 30)},
    optional={
        "upto": st.integers(0, 60),
        "streams": st.lists(st.sampled_from(["ticks-a", "ticks-b", "s", "log", "none"]), max_size=3),
        "types": st.lists(st.sampled_from(["TrainingProgressed", "OperationRefused", "X"]), max_size=2),
        "since_us": st.integers(START_US - 1, START_US + 30),
    },
)


def expected(log: list[Recorded], question: dict[str, Any]) -> list[tuple[object, ...]]:
    """What a look at every row would find."""
    return [
        row.row()
        for row in log
        if row.seq > question["after"]
        and row.seq <= question.get("upto", 2**62)
        and ("streams" not in question or row.stream in question["streams"])
        and ("types" not in question or row.type in question["types"])
        and row.recorded_at_us >= question.get("since_us", 0)
    ][: question["limit"]]


async def carry_out(store: Store, clocks: Clocks, log: list[Recorded], step: tuple[str, Any, Any]) -> None:
    match step:
        case "ticks", name, count:
            log += await append(store, f"ticks-{name}", *(tick(number) for number in range(count)))
        case "event", name, count:
            log += await append(store, name, *(refused(str(number)) for number in range(count)))
        case "condense", at_work, age_us:
            rule = but(ANY, at_work=at_work, before_us=clocks.wall_us - age_us, max_bytes=1 << 30)
            if await store.condense(rule) is not None:
                log += await store.read(log[-1].seq)
    clocks.advance(1)


@settings(max_examples=25)
@given(steps=st.lists(STEPS, min_size=4, max_size=25), questions=st.lists(QUESTIONS, min_size=1, max_size=6))
def test_any_mixture_of_appending_and_condensing_reads_as_the_same_log(
    steps: list[tuple[str, Any, Any]], questions: list[dict[str, Any]]
) -> None:
    async def run(folder: Path) -> None:
        clocks, log = Clocks(), list[Recorded]()
        for number, part in enumerate(parted(steps)):
            async with opened(folder, clocks) as store:
                for step in part:
                    await carry_out(store, clocks, log, step)
                assert raw(await store.read()) == raw(log), number
                for question in questions:
                    assert raw(await store.read(**question)) == expected(log, question)
                for stream in ("ticks-a", "ticks-b", "log"):
                    rows = [row for row in log if row.stream == stream]
                    assert raw(await store.read_stream(stream, 2)) == raw(rows[2:])
                assert (await store.verify()).ok

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(Path(name)))


def parted(steps: list[tuple[str, Any, Any]]) -> list[list[tuple[str, Any, Any]]]:
    """The steps between one opening and the next."""
    parts: list[list[tuple[str, Any, Any]]] = [[]]
    for step in steps:
        if step[0] == "reopen":
            parts.append([])
        else:
            parts[-1].append(step)
    return parts
