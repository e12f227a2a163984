"""Following the log: every row once, in order, whatever happens at the same time."""

import asyncio
from pathlib import Path

import pytest

from btmd.store import event_log
from btmd.subscriptions import subscribe
from tests.store.given import append, opened, refused


async def test_rows_before_and_after_the_start_come_once_and_in_order(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        seen: dict[int, list[int]] = {after: [] for after in (0, 7, 150)}

        async def follow(after: int) -> None:
            async for rows in subscribe(store, after, limit=10):
                seen[after] += [row.seq for row in rows]
                if rows[-1].seq == 240:
                    return

        await append(store, "s", *(refused() for _ in range(40)))
        followers = [asyncio.ensure_future(follow(after)) for after in seen]
        await asyncio.gather(*(append(store, f"s-{number}", refused(), refused()) for number in range(100)))
        await asyncio.gather(*followers)
    assert seen == {after: list(range(after + 1, 241)) for after in seen}


async def test_a_slow_follower_holds_nobody_and_misses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "RECENT_ROWS", 8)
    async with opened(tmp_path) as store:
        following = subscribe(store, 0, limit=5)
        await append(store, "s", refused())
        first = await anext(following)
        for _ in range(60):
            await append(store, "s", refused())
        assert store.recent(1, 5) is None, "older rows are not kept in memory"
        rest = [row.seq for _ in range(12) for row in await anext(following)]
        assert [row.seq for row in first] + rest == list(range(1, 62))
        await following.aclose()  # type: ignore[attr-defined]


async def test_a_follower_waits_without_asking_and_wakes_at_the_commit(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        following = subscribe(store, 0)
        waiting = asyncio.ensure_future(anext(following))
        await store.round_trip()
        assert not waiting.done()
        await append(store, "s", refused())
        assert [row.seq for row in await waiting] == [1]
        ended = asyncio.ensure_future(anext(following, None))
        await asyncio.sleep(0)
        await store.close()
        assert await ended is None
