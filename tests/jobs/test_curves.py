"""The course of a job from its log: read whole once, and after that only what is new."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from btmd.domain.job_events import AttemptStarted, TrainingShapeKnown
from btmd.jobs import curves as reading
from btmd.jobs.curves import CurveReading
from btmd.monitoring.curves import Curves
from btmd.projections import job as view
from btmd.projections.views import ALL_PROJECTIONS
from btmd.store.event_log import Store
from tests.fixtures import job_histories as history
from tests.store.given import opened


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(tmp_path, projections=ALL_PROJECTIONS) as store:
        await history.write(store, "aa", history.submitted("aa"), *history.started("aa"))
        yield store


async def _ticks(store: Store, first: int, last: int) -> None:
    await history.write(store, "aa", *(history.tick("aa", step) for step in range(first, last + 1)))


async def _read(curves: CurveReading, store: Store, points: int = 10) -> Curves:
    async with store.session() as session:
        row = await view.job(session, "aa")
    assert row is not None
    return await curves.curves(store, row, points)


def _same(found: Curves, expected: Curves) -> None:
    """But for the order in which a mean was added up."""
    for one, other in zip(found.curves, expected.curves, strict=True):
        assert one.mean == pytest.approx(other.mean)
    assert _without_means(found) == _without_means(expected)


def _without_means(curves: Curves) -> Curves:
    return replace(curves, curves=tuple(replace(one, mean=()) for one in curves.curves))


def _rows_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each read of ticks has brought."""
    found: list[int] = []
    read = store.read

    async def counted(*arguments: Any, **values: Any) -> Any:
        page = await read(*arguments, **values)
        found.append(len(page))
        return page

    monkeypatch.setattr(store, "read", counted)
    return found


async def test_of_a_training_that_goes_on_only_what_is_new_is_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = CurveReading()
    await _ticks(store, 1, 30)
    await _read(kept, store)
    await _ticks(store, 31, 75)
    found = _rows_read(store, monkeypatch)
    later = await _read(kept, store)
    assert sum(found) == 45
    _same(later, await _read(CurveReading(), store))
    assert (later.curves[0].values, later.curves[0].step[-1]) == (75, 75)
    assert 5 <= len(later.curves[0].step) <= 10
    found.clear()
    assert await _read(kept, store) == later
    assert sum(found) == 0


async def test_steps_done_again_are_read_again(store: Store) -> None:
    kept = CurveReading()
    await _ticks(store, 1, 30)
    await _read(kept, store)
    shape = {"total_steps": 100, "total_epochs": 2, "resumed_from_step": 20}
    await history.write(store, "aa", AttemptStarted("aa", 2, "boot-1", "crash"), TrainingShapeKnown("aa", 2, 1, shape))
    found = await _read(kept, store)
    assert (found.curves[0].values, found.resumed_at) == (20, (20,))
    _same(found, await _read(CurveReading(), store))


async def test_few_are_kept_and_none_that_are_large(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = CurveReading()
    await _ticks(store, 1, 30)
    found = _rows_read(store, monkeypatch)
    for points in (10, 11, 12, 10, reading.KEPT_POINTS + 1, reading.KEPT_POINTS + 1):
        await _read(kept, store, points)
    assert sum(found) == 6 * 30
    for points in (10, 12, 10, 12):
        await _read(kept, store, points)
    assert sum(found) == 6 * 30


async def test_two_that_look_at_once_see_each_step_once(store: Store) -> None:
    kept, seen = CurveReading(), []

    async def look() -> None:
        seen.append(await _read(kept, store))

    await _ticks(store, 1, 30)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(look)
    assert [one.curves[0].values for one in seen] == [30] * 3
