"""What a stream was at an event, and which event a moment means."""

from pathlib import Path

import pytest

from btmd.store.event_log import Store
from btmd.store.past import Position, newest_rows, positions_at, state_rows, streams_of, version_at
from tests.store.given import START_US, Clocks, append, opened, refused, tick

HOUR_US = 3600 * 1_000_000


async def at(store: Store, hours: float) -> list[int]:
    found: list[Position] = await store.query(lambda one: positions_at(one, START_US + round(hours * HOUR_US)))
    return [position.seq for position in found]


async def test_a_moment_is_the_newest_event_at_it(tmp_path: Path) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clocks) as store:
        assert await at(store, 1) == []
        for _ in range(20):
            await append(store, "machine", refused())
            await append(store, "ticks-a", tick(1))
            clocks.advance(HOUR_US)
        assert await at(store, -0.1) == []
        # Odd numbers are events, even ones ticks, which no moment needs.
        assert [await at(store, hours) for hours in (0, 0.5, 1, 7.9, 19, 99)] == [[1], [1], [3], [15], [39], [39]]


async def test_a_clock_that_was_set_back_gives_several_events(tmp_path: Path) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clocks) as store:
        for _ in range(10):
            await append(store, "machine", refused())
            clocks.advance(HOUR_US)
        clocks.wall_us -= 5 * HOUR_US
        for _ in range(10):
            await append(store, "machine", refused())
            clocks.advance(HOUR_US)
        # Ten hours, the jump's own event (11) at hour 5, ten more.
        assert await at(store, 2) == [3]
        assert await at(store, 6.5) == [7, 13]
        # Up to the jump the old clock went on after its last event.
        assert await at(store, 9.9) == [10, 16]
        assert await at(store, 10.5) == [17]


async def test_a_moment_that_a_clock_set_forward_skipped_is_the_last_before_it(tmp_path: Path) -> None:
    clocks = Clocks()
    async with opened(tmp_path, clocks) as store:
        await append(store, "machine", refused())
        clocks.wall_us += 24 * HOUR_US
        await append(store, "machine", refused())
        assert await at(store, 12) == [1]
        assert await at(store, 25) == [3]


async def test_a_stream_is_read_up_to_an_event_from_its_newest_snapshot(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for number in range(30):
            await append(store, "machine", refused(str(number)))
            await append(store, "settings-other", refused())
        assert [
            await store.query(lambda one, s=seq: version_at(one, "machine", s)) for seq in (0, 1, 2, 3, 59, 99)
        ] == [*(0, 1, 1, 2, 30, 30)]
        state, rows = await store.query(lambda one: state_rows(one, "machine", 7, 10))
        assert (state, [row.version for row in rows]) == (None, [1, 2, 3, 4, 5])
        assert [row.version for row in await store.query(lambda one: newest_rows(one, "machine", 3, 10))] == [9, 8, 7]
        assert await store.query(lambda one: streams_of(one, "settings-")) == ["settings-other"]


@pytest.mark.parametrize("prefix", ["model-", "dataset-"])
async def test_streams_of_others_are_not_taken_for_those_of_a_prefix(tmp_path: Path, prefix: str) -> None:
    async with opened(tmp_path) as store:
        for stream in ("model", "model-a", "model-b", "model.c", "modem-a", "dataset-a", "dataset-b"):
            await append(store, stream, refused())
        assert await store.query(lambda one: streams_of(one, prefix)) == [f"{prefix}a", f"{prefix}b"]
