"""Appending and reading: what is acknowledged, what is refused, and what a row holds."""

import asyncio
import sqlite3
import stat
import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from btmd.domain.event import Event, event
from btmd.domain.machine import ClockJumped
from btmd.errors import IdempotencyMismatch, StoreFailed
from btmd.store.codec import RawEvent, decode_event
from btmd.store.connection import connect_writer
from btmd.store.errors import DuplicateEvent, EventUndecodable, StoreBusy, VersionConflict
from btmd.store.event_log import IdempotencyKey, StreamAppend
from btmd.store.upcasters import UPCASTERS
from btmd.subscriptions import subscribe
from tests.store.given import ACTOR, START_US, Clocks, append, insert_row, opened, refused, tick


@event("TestMeasured", version=2)
class TestMeasured(Event):
    __test__ = False
    metres: float


async def test_a_row_holds_who_when_and_what(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        appended = await store.append(
            [StreamAppend("operation-a", (refused("x"),))], actor=ACTOR, correlation_id="request-1", causation_id="id-0"
        )
        (row,) = await store.read()
    assert row == appended[0] or row.row() == appended[0].row()
    assert (row.seq, row.epoch, row.stream, row.version, row.type) == (1, 1, "operation-a", 1, "OperationRefused")
    assert (row.recorded_at_us, row.wall_at_us, row.boot_id) == (START_US, START_US, "boot-1")
    assert (row.actor, row.correlation_id, row.causation_id) == (ACTOR, "request-1", "id-0")
    assert row.data == {"operation": "operation", "code": "x", "more": 0}
    assert row.event == refused("x")


async def test_events_and_ticks_share_one_sequence_and_one_chain(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.append(
            [
                StreamAppend("job-aaaaaaaaaa", (refused("1"),)),
                StreamAppend("ticks-aaaaaaaaaa", (tick(1), tick(2))),
                StreamAppend("job-aaaaaaaaaa", (refused("2"),)),
            ],
            actor=ACTOR,
        )
        rows = await store.read()
        assert [(row.seq, row.stream, row.version) for row in rows] == [
            (1, "job-aaaaaaaaaa", 1),
            (2, "ticks-aaaaaaaaaa", 1),
            (3, "ticks-aaaaaaaaaa", 2),
            (4, "job-aaaaaaaaaa", 2),
        ]
        assert [row.prev_hash for row in rows[1:]] == [row.hash for row in rows[:-1]]
        assert store.head.hash == rows[-1].hash
        assert (await store.verify()).checked == 4


async def test_a_tick_belongs_on_a_stream_of_ticks_and_nothing_else_does(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(ValueError, match="does not belong"):
            await append(store, "ticks-a", refused())
        with pytest.raises(ValueError, match="does not belong"):
            await append(store, "job-a", tick(1))


async def test_of_two_that_expect_the_same_version_one_wins(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await append(store, "s", refused("0"))
        outcomes = await asyncio.gather(
            *(append(store, "s", refused(str(number)), expected_version=1) for number in range(8)),
            return_exceptions=True,
        )
        conflicts = [outcome for outcome in outcomes if isinstance(outcome, VersionConflict)]
        assert len(conflicts) == 7
        assert {(error.expected, error.actual) for error in conflicts} == {(1, 2)}
        assert [row.version for row in await store.read_stream("s")] == [1, 2]


async def test_a_refused_append_leaves_no_part_of_itself(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await append(store, "b", refused())
        with pytest.raises(VersionConflict):
            await store.append([StreamAppend("a", (refused(),), 0), StreamAppend("b", (refused(),), 0)], actor=ACTOR)
        assert await store.read_stream("a") == []
        await append(store, "a", refused(), expected_version=0)


async def test_versions_are_known_again_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await append(store, "s", refused(), refused())
        await append(store, "ticks-s", tick(1))
    async with opened(tmp_path) as store:
        with pytest.raises(VersionConflict):
            await append(store, "s", refused(), expected_version=1)
        await append(store, "ticks-s", tick(2), expected_version=1)


async def test_a_given_event_id_is_recorded_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:

        async def spooled(event_id: str) -> None:
            await store.append([StreamAppend("ticks-j", (tick(1),), event_ids=(event_id,))], actor=ACTOR)

        outcomes = await asyncio.gather(spooled("j-1-1"), spooled("j-1-1"), spooled("j-1-2"), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), DuplicateEvent, type(None)]
        with pytest.raises(DuplicateEvent):
            await spooled("j-1-2")
        assert [row.event_id for row in await store.read()] == ["j-1-1", "j-1-2"]


async def test_many_appends_at_once_share_commits(tmp_path: Path) -> None:
    commits = 0

    def connect(path: Path) -> sqlite3.Connection:
        connection = connect_writer(path)

        def traced(statement: str) -> None:
            nonlocal commits
            commits += statement == "COMMIT"

        connection.set_trace_callback(traced)
        return connection

    async with opened(tmp_path, connect=connect) as store:
        await asyncio.gather(*(append(store, f"s-{number}", refused()) for number in range(64)))
        assert commits <= 2
        assert (await store.verify()).checked == 64


async def test_the_writing_connection_has_the_settings_that_durability_rests_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        connection = store._writer.connection
        settings = ("journal_mode", "synchronous", "recursive_triggers", "foreign_keys", "trusted_schema")
        values = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in settings]
        assert values == ["wal", 2, 1, 1, 0]
        assert connection.isolation_level is None
        assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


async def test_recorded_at_never_goes_backwards_and_wall_at_is_the_clock_as_read(tmp_path: Path) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clocks) as store:
        await append(store, "s", refused(), refused())
        clocks.wall_us -= 1_000_000
        clocks.monotonic_us += 500_000
        await append(store, "s", refused())
        rows = await store.read()
    assert [row.recorded_at_us - START_US for row in rows] == [0, 1, 2]
    assert [row.wall_at_us - START_US for row in rows] == [0, 0, -1_000_000]


@pytest.mark.parametrize("jump_us", [3_600_000_000, -3_600_000_000])
async def test_a_jump_of_the_clock_is_an_event_before_the_one_that_noticed_it(tmp_path: Path, jump_us: int) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clocks) as store:
        await append(store, "s", refused())
        clocks.advance(9_000_000_000)
        await append(store, "s", refused())
        clocks.wall_us += jump_us
        await append(store, "s", refused())
        rows = await store.read()
    assert [row.type for row in rows] == ["OperationRefused", "OperationRefused", "ClockJumped", "OperationRefused"]
    assert rows[2].stream == "machine"
    assert rows[2].event == ClockJumped(jump_us)


async def test_a_clock_set_back_while_the_store_was_closed_is_noticed(tmp_path: Path) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clocks) as store:
        await append(store, "s", refused())
    clocks.wall_us -= 60_000_000
    async with opened(tmp_path, clocks) as store:
        await append(store, "s", refused())
        assert [row.type for row in await store.read(1)] == ["ClockJumped", "OperationRefused"]


async def test_rows_are_found_by_stream_type_and_time(tmp_path: Path) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clocks) as store:
        for number in range(10):
            await append(store, f"s-{number % 2}", refused(str(number)))
            await append(store, "ticks-s", tick(number))
            clocks.advance(1_000_000)

        async def found(**filters: object) -> list[int]:
            return [row.seq for row in await store.read(**filters)]  # type: ignore[arg-type]

        assert await found(streams=["s-0"]) == [1, 5, 9, 13, 17]
        assert await found(streams=["s-0", "ticks-s"], limit=3) == [1, 2, 4]
        assert await found(types=["TrainingProgressed"], after=14) == [16, 18, 20]
        assert await found(since_us=START_US + 8_000_000) == [17, 18, 19, 20]
        assert await found(since_us=START_US + 7_500_000, types=["OperationRefused"]) == [17, 19]
        assert await found(since_us=START_US - 5) == list(range(1, 21))
        assert await found(since_us=START_US + 60_000_000) == []
        assert await found(after=3, upto=6) == [4, 5, 6]


async def test_an_idempotency_key_answers_the_same_again(tmp_path: Path) -> None:
    key = IdempotencyKey(1000, "key", "hash-of-request")
    clocks = Clocks()
    async with opened(tmp_path, clocks) as store:

        async def ask(idempotency: IdempotencyKey) -> tuple[list[int], bytes | None, bool]:
            done = await store.commit(
                [StreamAppend("s", (refused(), refused()))],
                actor=ACTOR,
                idempotency=idempotency,
                response=lambda rows: f"made {rows[0].seq}".encode(),
            )
            return [row.seq for row in done.events], done.response, done.repeated

        together = list(await asyncio.gather(ask(key), ask(key)))
        assert together == [([1, 2], b"made 1", False), ([1, 2], b"made 1", True)]
        assert await ask(key) == ([1, 2], b"made 1", True)
        assert await ask(IdempotencyKey(1001, "key", "another request")) == ([3, 4], b"made 3", False)
        with pytest.raises(IdempotencyMismatch):
            await ask(IdempotencyKey(1000, "key", "another request"))
    async with opened(tmp_path, clocks) as store:
        earlier = await store.earlier(key)
        assert earlier is not None
        assert (earlier.response, [row.seq for row in earlier.events]) == (b"made 1", [1, 2])
        clocks.advance(25 * 3600 * 1_000_000)
        assert await store.earlier(key) is None
        assert await store.commit([StreamAppend("s", (refused(),))], actor=ACTOR, idempotency=key)
        assert store.head.seq == 5


async def test_an_answer_without_events_is_kept_too(tmp_path: Path) -> None:
    key = IdempotencyKey(1000, "key", "request")
    async with opened(tmp_path) as store:
        await store.commit([], actor=ACTOR, idempotency=key, response=b"nothing to do")
        again = await store.commit([], actor=ACTOR, idempotency=key, response=b"other")
        assert (again.response, again.events, again.repeated) == (b"nothing to do", [], True)


async def test_a_callable_that_fails_fails_its_own_append_only(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:

        def broken(rows: object) -> bytes:
            raise ZeroDivisionError

        outcomes = await asyncio.gather(
            store.append([StreamAppend("s", (refused(),))], actor=ACTOR, response=broken),
            append(store, "s", refused()),
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], ZeroDivisionError)
        assert (await store.verify()).checked == 1


async def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(EventUndecodable):
            await append(store, "s", TestMeasured(float("nan")))
        assert store.head.seq == 0


async def test_old_versions_are_lifted_and_unknown_types_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(UPCASTERS, ("TestMeasured", 1), lambda data: {"metres": data["feet"] * 0.3048})
    async with opened(tmp_path) as store:
        insert_row(store.path, "s", "TestMeasured", 1, '{"feet":10}')
        insert_row(store.path, "s", "NeverHeardOf", 3, '{"a":[1]}')
        insert_row(store.path, "s", "TestMeasured", 9, '{"b":1}')
        rows = await store.read()
    assert (rows[0].schema_version, rows[0].event, rows[0].data) == (1, TestMeasured(3.048), {"feet": 10})
    assert rows[1].event == RawEvent("NeverHeardOf", 3, {"a": [1]})
    assert rows[2].event == RawEvent("TestMeasured", 9, {"b": 1})


def test_an_event_that_does_not_fit_its_type_says_so() -> None:
    with pytest.raises(EventUndecodable):
        decode_event("TestMeasured", 2, '{"feet":1}')
    with pytest.raises(EventUndecodable, match="no upcaster"):
        decode_event("TestMeasured", 1, '{"feet":1}')


async def test_a_writer_that_is_kept_out_says_so_and_goes_on_afterwards(tmp_path: Path) -> None:
    def impatient(path: Path) -> sqlite3.Connection:
        connection = connect_writer(path)
        connection.execute("PRAGMA busy_timeout=0")
        return connection

    async with opened(tmp_path, connect=impatient) as store:
        other = sqlite3.connect(store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy):
            await append(store, "s", refused())
        other.execute("ROLLBACK")
        other.close()
        await append(store, "s", refused())


async def test_a_row_of_another_program_is_noticed_and_the_append_repeated_right(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await append(store, "s", refused())
        insert_row(store.path, "s", "OperationRefused", 1, '{"operation":"foreign","code":"x"}')
        await asyncio.gather(append(store, "s", refused()), append(store, "s", refused()))
        insert_row(store.path, "s", "OperationRefused", 1, '{"operation":"foreign","code":"x"}')
        await append(store, "s", refused())
        assert (await store.verify()).checked == 6
        followed = [row.seq for row in await anext(subscribe(store, 0))]
        assert followed == [1, 2, 3, 4, 5, 6]


async def test_sessions_read_and_cannot_write(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await append(store, "s", refused())
        async with store.session() as session:
            connection = await session.connection()
            assert (await connection.execute(text("SELECT count(*) FROM log"))).scalar_one() == 1
            with pytest.raises(OperationalError, match="readonly"):
                await connection.execute(text("DELETE FROM snapshots"))


async def test_a_closed_store_writes_what_was_asked_and_refuses_the_rest(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        asked = [asyncio.ensure_future(append(store, "s", refused())) for _ in range(5)]
        await asyncio.sleep(0)
        await store.close()
        assert [len(rows) for rows in await asyncio.gather(*asked)] == [1] * 5
        with pytest.raises(StoreFailed):
            await append(store, "s", refused())
        with pytest.raises(StoreFailed):
            await store.read()
        with pytest.raises(StoreFailed):
            await store.session().__aenter__()
    assert not (tmp_path / "btmd.db-wal").exists()


async def test_a_caller_that_gives_up_does_not_disturb_the_others(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        given_up = asyncio.ensure_future(append(store, "s", refused()))
        others = [asyncio.ensure_future(append(store, "s", refused())) for _ in range(3)]
        await asyncio.sleep(0)
        given_up.cancel()
        assert [len(rows) for rows in await asyncio.gather(*others)] == [1] * 3
        await store.round_trip()


async def test_health_tells_position_and_size(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await append(store, "s", refused())
        health = store.health()
    assert (health["writer"], health["error"], health["head_seq"], health["waiting"]) == ("running", None, 1, 0)
    assert health["wal_size_bytes"] > 0


async def test_who_reads_while_the_log_is_opened_again_waits_for_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await append(store, "operation-a", refused())
        store._writer.failure = StoreFailed("The disk failed.")
        reads, go_on = threading.Event(), threading.Event()
        found: list[int] = []

        def slowly(connection: sqlite3.Connection) -> None:
            reads.set()
            assert go_on.wait(60)

        async def read() -> None:
            found.append(len(await store.read()))

        async def look() -> None:
            async with store.session() as session:
                found.append((await session.exec(text("SELECT count(*) FROM events"))).one()[0])  # type: ignore[call-overload]

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.query, slowly)
            await anyio.to_thread.run_sync(reads.wait, 60)
            tasks.start_soon(store.reopen)
            while not store._readers._pool._shutdown:
                await anyio.lowlevel.checkpoint()
            tasks.start_soon(read)
            tasks.start_soon(look)
            await anyio.lowlevel.checkpoint()
            go_on.set()
        assert found == [1, 1]
        await append(store, "operation-a", refused())


async def test_what_was_asked_for_just_before_the_log_is_opened_again_is_answered(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        asked = store._submit(lambda connection: None)
        store._writer.failure = StoreFailed("The disk failed.")
        await store.reopen()
        assert asked.done()
        assert isinstance(asked.exception(), StoreFailed)
