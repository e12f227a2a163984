"""Condensed ticks: nobody who reads the log can tell them from the others."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from btmd.domain.event_log import TicksCondensed
from btmd.errors import Damaged
from btmd.store.errors import SegmentDamaged, SegmentTampered
from btmd.store.event_log import Recorded, Store
from btmd.store.segments import FIRST_PREV_HASH, Segment, pack, unpack
from tests.store.given import START_US, Clocks, append, opened, refused, tick


def raw(rows: list[Recorded]) -> list[tuple[object, ...]]:
    return [row.row() for row in rows]


async def condense(store: Store, first_seq: int, last_seq: int, prev_hash: bytes, *, let_go: bool = True) -> Segment:
    rows = [row for row in await store.read(first_seq - 1, upto=last_seq) if row.stream.startswith("ticks-")]
    segment = pack(rows, prev_hash)
    announced = TicksCondensed(segment.first_seq, segment.last_seq, segment.row_count, segment.hash.hex())
    (event,) = await append(store, "log", announced)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*msgspec.structs.astuple(segment)[:3], event.seq, *msgspec.structs.astuple(segment)[3:]),
        )
        if let_go:
            connection.execute("DELETE FROM ticks WHERE seq BETWEEN ? AND ?", (segment.first_seq, segment.last_seq))
    return segment


async def fill(store: Store, clocks: Clocks) -> None:
    """Events at every third place, between ticks of two jobs."""
    for number in range(1, 31):
        if number % 3:
            await append(store, f"ticks-{'ab'[number % 2]}", tick(number))
        else:
            await append(store, "s", refused(str(number)))
        clocks.advance(1_000_000)


async def test_reading_is_the_same_before_and_after_condensing(tmp_path: Path) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clocks) as store:
        await fill(store, clocks)
        questions: list[dict[str, object]] = [
            {"upto": 30},
            {"upto": 30, "limit": 1},
            {"upto": 30, "limit": 5, "after": 3},
            {"upto": 30, "limit": 7, "after": 9},
            {"upto": 17, "after": 8},
            {"upto": 30, "streams": ["ticks-a"]},
            {"upto": 30, "streams": ["ticks-b", "s"], "limit": 4, "after": 2},
            {"upto": 30, "streams": ["ticks-b"], "limit": 3},
            {"upto": 30, "types": ["TrainingProgressed"], "limit": 12},
            {"upto": 30, "types": ["OperationRefused"], "limit": 4},
            {"upto": 30, "since_us": START_US + 6_000_000, "limit": 9},
            {"upto": 30, "since_us": START_US + 13_500_000},
        ]
        before = [raw(await store.read(**question)) for question in questions]  # type: ignore[arg-type]
        streams = [raw(await store.read_stream(name, version)) for name in ("ticks-a", "s") for version in (0, 4)]
        first = await condense(store, 1, 8, FIRST_PREV_HASH)
        second = await condense(store, 10, 19, first.hash)
        await condense(store, 20, 26, second.hash, let_go=False)
        assert [raw(await store.read(**question)) for question in questions] == before  # type: ignore[arg-type]
        assert [
            raw(await store.read_stream(name, version)) for name in ("ticks-a", "s") for version in (0, 4)
        ] == streams
        result = await store.verify()
        assert (result.ok, result.checked) == (True, 33)
        for from_seq in (2, 8, 9, 15, 27):
            assert (await store.verify(from_seq)).ok


async def test_a_stream_whose_ticks_are_all_condensed_goes_on_at_the_next_version(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await append(store, "ticks-a", tick(1), tick(2))
        await condense(store, 1, 2, FIRST_PREV_HASH)
    async with opened(tmp_path) as store:
        (row,) = await append(store, "ticks-a", tick(3))
        assert row.version == 3
        assert [row.version for row in await store.read_stream("ticks-a")] == [1, 2, 3]
        assert (await store.verify()).ok


async def test_a_segment_is_lossless_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        rows = await append(store, "ticks-a", *(tick(number) for number in range(50)))
    segment = pack(rows, bytes(range(32)))
    assert raw(unpack(segment)) == raw(rows)
    assert len(segment.body) < sum(len(row.data_json) for row in rows)
    body = bytearray(segment.body)
    body[len(body) // 2] ^= 1
    for damaged in (
        msgspec.structs.replace(segment, body=bytes(body)),
        msgspec.structs.replace(segment, encoding="columns-zstd-9"),
    ):
        with pytest.raises(SegmentDamaged):
            unpack(damaged)
    for foreign in (
        msgspec.structs.replace(segment, prev_hash=bytes(32)),
        msgspec.structs.replace(segment, last_seq=segment.last_seq + 1),
        msgspec.structs.replace(segment, body=pack(rows[:-1]).body),
    ):
        with pytest.raises(SegmentTampered):
            unpack(foreign)
    wrong = msgspec.structs.replace(rows[7], data_json=rows[7].data_json.replace("1.5", "1.4", 1))
    with pytest.raises(Damaged, match=f"event {wrong.seq}"):
        pack([*rows[:7], wrong, *rows[8:]])


async def test_any_question_finds_the_rows_that_a_look_at_every_row_would(tmp_path: Path) -> None:
    clocks, chance = Clocks(), random.Random(3)
    async with opened(tmp_path, clocks) as store:
        await fill(store, clocks)
        await fill(store, clocks)
        first = await condense(store, 2, 17, FIRST_PREV_HASH)
        await condense(store, 20, 41, first.hash, let_go=False)
        everything = await store.read()
        names, kinds = ["ticks-a", "ticks-b", "s", "log", "none"], ["TrainingProgressed", "OperationRefused", "X"]
        for _ in range(400):
            after, limit = chance.randint(0, 63), chance.choice((1, 2, 5, 20, 100))
            upto = chance.choice((None, chance.randint(0, 63)))
            streams = chance.choice((None, chance.sample(names, chance.randint(0, 3))))
            types = chance.choice((None, chance.sample(kinds, chance.randint(0, 2))))
            since_us = chance.choice((None, START_US + chance.randint(-1, 61) * 1_000_000))
            expected = [
                row.seq
                for row in everything
                if row.seq > after
                and (upto is None or row.seq <= upto)
                and (streams is None or row.stream in streams)
                and (types is None or row.type in types)
                and (since_us is None or row.recorded_at_us >= since_us)
            ][:limit]
            found = await store.read(after, limit=limit, upto=upto, streams=streams, types=types, since_us=since_us)
            assert [row.seq for row in found] == expected, (after, limit, upto, streams, types, since_us)
