"""Backups of a log whose ticks were condensed hold the same rows, and what is made from them is the same log."""

import asyncio
from pathlib import Path

import pytest

from btmd.backup.recover import rebuild_backup
from btmd.store import condensing
from btmd.store.condensing import CondenseRule
from btmd.store.event_log import Store
from tests.backup.logs import NOW_US, Place, append, changed_by_hand, raw_rows

EVERYTHING = CondenseRule(before_us=2**62, max_bytes=0)


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condensing, "SLICE_ROWS", 50)
    monkeypatch.setattr(condensing, "MIN_ROWS", 5)


def condense(path: Path, slices: int) -> None:
    async def run() -> None:
        store = await Store.open(
            path,
            clock=lambda: NOW_US + 10**13,
            boot_id="0" * 32,
            new_id=lambda: f"{store.head.seq:032x}",
            monotonic_clock=lambda: 0,
        )
        for _ in range(slices):
            assert await store.condense(EVERYTHING) is not None
        await store.close()

    asyncio.run(run())


def plain_ticks(path: Path) -> int:
    with changed_by_hand(path) as connection:
        count: int = connection.execute("SELECT count(*) FROM ticks").fetchone()[0]
        return count


def test_backups_before_between_and_after_condensing_are_one_chain(place: Place, tmp_path: Path) -> None:
    place.backup()
    before, ticks = raw_rows(place.database), plain_ticks(place.database)
    condense(place.database, 2)
    assert plain_ticks(place.database) == ticks - 100
    assert raw_rows(place.database)[: len(before)] == before
    between = place.backup()
    assert (between.new_events, len(between.manifest.segments)) == (2, 2)
    append(place.database, 30, seed=3)
    condense(place.database, 1)
    last = place.backup()
    assert len(last.manifest.segments) == 3
    assert place.repository.verify(last.name, place.ring).state == "matches"
    full = Place(tmp_path / "other", place.database)
    assert full.backup().manifest.state_hash == last.manifest.state_hash


def test_a_database_made_from_a_backup_has_the_same_rows_and_can_be_condensed_again(
    place: Place, tmp_path: Path
) -> None:
    condense(place.database, 2)
    made = place.backup()
    aside = tmp_path / "aside.db"
    rebuild_backup(place.repository.folder, made.manifest, place.ring, aside, new_epoch=5, now_us=NOW_US)
    rows = raw_rows(aside)
    assert rows == raw_rows(place.database)
    condense(aside, 2)
    assert raw_rows(aside)[: len(rows)] == rows
