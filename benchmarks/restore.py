"""Restoring a random moment of a large log against one of a small log, and rebuilding all views from a large log."""

import argparse
import asyncio
import os
import random
import secrets
import shutil
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from benchmarks.condensing import tick
from benchmarks.results import Figure, Topic, record
from btmd.command_handler import SNAPSHOT_VERSIONS, CommandHandler, state_version
from btmd.domain import settings
from btmd.domain.commands import DECIDERS, SETTINGS
from btmd.domain.dataset import ConsentGranted, DatasetAdded
from btmd.domain.event import Actor, Event
from btmd.domain.job_events import AttemptStarted, HeldOutLossMeasured, JobCancelled, JobSubmitted
from btmd.domain.machine import OperationRefused
from btmd.domain.restore import COMPONENTS, Manner
from btmd.domain.settings import SettingsState
from btmd.domain.settings_schema import SCHEMA, Setting, Value
from btmd.history import History
from btmd.projections.views import ALL_PROJECTIONS
from btmd.registry.content import ContentStore
from btmd.registry.contents_in_use import ContentsInUse
from btmd.restoring.restore import Restoring
from btmd.store.event_log import SnapshotOf, Store, StreamAppend

SMALL, LARGE = 10_000, 1_000_000
DATASETS = 100
COMMIT_EVENTS = 500
JOB_EVENTS = 5000
EVERY_US = 200_000
START_US = 1_700_000_000_000_000
ACTOR = Actor(1000, 1000, 1, (1000,), "ada")
CACHE = Path(__file__).parents[1] / ".proof"


@dataclass
class FilledUpTo:
    """The clock of a log that is being filled: it goes on with every event that was made up."""

    events: int = 0

    def __call__(self) -> int:
        return START_US + self.events * EVERY_US


def made_up(chance: random.Random, values: dict[str, Value], count: int) -> Iterator[tuple[str, Event]]:
    """Events as years of use leave them: most are progress, one in ten is a change of a setting."""
    changeable = [one for one in SCHEMA if isinstance(one.default, int | float) and one.maximum is not None]
    for number in range(count):
        drawn = chance.random()
        job_id = f"j{number // JOB_EVENTS:09d}"
        if number % JOB_EVENTS == 0:
            yield from one_after_another(job_id, f"j{number // JOB_EVENTS - 1:09d}" if number else "")
        elif number % max(2, count // (2 * DATASETS)) == 1:
            yield from registration(number // max(2, count // (2 * DATASETS)))
        elif drawn < 0.1:
            setting = chance.choice(changeable)
            for change in settings.changes(values, {setting.key: any_value(setting, chance)}, ""):
                values[change.key] = change.after if change.after is not None else setting.default
                yield settings.STREAM, change
        elif drawn < 0.15:
            yield "machine", OperationRefused("POST /start", "not_permitted")
        elif drawn < 0.16:
            yield f"job-{job_id}", HeldOutLossMeasured(job_id, 1, number, number, 1.5, 4000, "during", 2.0)
        else:
            yield f"ticks-{job_id}", tick(number + 1, 1, chance, job_id)


def one_after_another(job_id: str, before: str) -> Iterator[tuple[str, Event]]:
    """The end of the job before, and the beginning of the next."""
    if before:
        yield f"job-{before}", JobCancelled(before)
    yield f"job-{job_id}", JobSubmitted(job_id, job_id, 1000, "m", "rows-1", "v", "quick_test", {}, {}, {})
    yield f"job-{job_id}", AttemptStarted(job_id, 1, "boot", "first")


def registration(number: int) -> Iterator[tuple[str, Event]]:
    dataset_id = f"rows-{number % DATASETS}"
    stream = f"dataset-{dataset_id}"
    if number < DATASETS:
        yield stream, DatasetAdded(dataset_id, dataset_id, 1000, "rows.jsonl")
    else:
        yield stream, ConsentGranted(dataset_id, "study", ("train",), 1000)


def any_value(setting: Setting, chance: random.Random) -> Value:
    assert setting.minimum is not None
    assert setting.maximum is not None
    if isinstance(setting.default, float):
        return round(chance.uniform(setting.minimum, min(setting.maximum, setting.minimum + 50)), 3)
    return chance.randint(int(setting.minimum), int(min(setting.maximum, setting.minimum + 50)))


async def fill(path: Path, count: int) -> None:
    """A database with ``count`` events, through the store and all projections of the product."""
    chance, clock = random.Random(count), FilledUpTo()
    values: dict[str, Value] = {}
    version = 0
    store = await open_store(path, clock)
    pending: list[tuple[str, Event]] = []
    events = made_up(chance, values, count)
    while pending := [event for _, event in zip(range(COMMIT_EVENTS), events, strict=False)]:
        clock.events += len(pending)
        before, version = version, version + sum(stream == settings.STREAM for stream, _ in pending)
        snapshots = ()
        if before // SNAPSHOT_VERSIONS != version // SNAPSHOT_VERSIONS:
            state = msgspec.json.encode(SettingsState(dict(values))).decode()
            snapshots = (SnapshotOf(settings.STREAM, version, state_version(SETTINGS), state),)
        appends = [StreamAppend(stream, (event,)) for stream, event in pending]
        await store.commit(appends, actor=ACTOR, correlation_id=secrets.token_hex(8), snapshots=snapshots)
    await store.close()


async def open_store(path: Path, clock: FilledUpTo) -> Store:
    return await Store.open(
        path,
        clock=clock,
        monotonic_clock=clock,
        boot_id="benchmark",
        new_id=lambda: secrets.token_hex(16),
        projections=ALL_PROJECTIONS,
    )


def cached(count: int) -> Path:
    """A filled database, made once for each schema and state of the code's snapshots."""
    folder = CACHE / f"restore-{count}-{state_version(SETTINGS)}"
    if not folder.is_dir():
        aside = folder.with_name(folder.name + ".tmp")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        asyncio.run(fill(aside / "btmd.db", count))
        aside.rename(folder)
    return folder / "btmd.db"


@dataclass
class Side:
    """One log and what restores it."""

    store: Store
    history: History
    restoring: Restoring
    events: int

    async def restore_ms(self, chance: random.Random) -> float:
        """Find a random moment as a person types it, preview, and apply."""
        manner = Manner(COMPONENTS, "replace", None)
        while True:
            moment_us = START_US + chance.randrange(self.events // 20, self.events) * EVERY_US
            text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment_us)).isoformat()
            began = time.perf_counter()
            found = await self.history.find(text)
            prepared = await self.restoring.prepare(found.seq, manner, ACTOR.uid)
            done = await self.restoring.restore(found.seq, manner, actor=ACTOR, expected_head=prepared.head_seq)
            taken_ms = (time.perf_counter() - began) * 1000
            # Now and then the moment is so near to that of the round before that nothing differs.
            if done.rows:
                return taken_ms


@asynccontextmanager
async def side(database: Path, folder: Path, count: int) -> AsyncIterator[Side]:
    path = folder / f"{count}" / "btmd.db"
    path.parent.mkdir()
    shutil.copy(database, path)
    store = await open_store(path, FilledUpTo(count + 1))
    handler = CommandHandler(store, DECIDERS)
    history = History(store, FilledUpTo(count + 1))
    contents = ContentStore(path.parent / "contents")
    try:
        in_use = ContentsInUse(store, contents)
        restoring = Restoring(store, handler, history, contents, in_use, lambda: secrets.token_hex(16))
        yield Side(store, history, restoring, count)
    finally:
        await store.close()


async def measure_restores(folder: Path, rounds: int) -> tuple[list[float], list[float], float]:
    """Milliseconds in the small and in the large log, in turns, and the first one of a fresh start in the large."""
    small, large = [], []
    chance = random.Random(5)
    async with side(cached(SMALL), folder, SMALL) as one, side(cached(LARGE), folder, LARGE) as other:
        first = await other.restore_ms(chance)
        await one.restore_ms(chance)
        for _ in range(rounds):
            small.append(await one.restore_ms(chance))
            large.append(await other.restore_ms(chance))
    return small, large, first


async def measure_rebuild(folder: Path) -> float:
    """Seconds for all views of the large log."""
    async with side(cached(LARGE), folder, LARGE) as one:
        began = time.perf_counter()
        failed = {name: error for name, error in (await one.store.rebuild_projections()).items() if error}
        assert not failed, failed
        return time.perf_counter() - began


def measure_select() -> float:
    """Seconds for a bare SELECT of the large log's rows."""
    with closing(sqlite3.connect(f"file:{cached(LARGE)}?mode=ro", uri=True)) as connection:
        began = time.perf_counter()
        for _ in connection.execute("SELECT * FROM log ORDER BY seq"):
            pass
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--rebuilds", type=int, default=2)
    arguments = parser.parse_args()
    place = os.environ.get("BENCHMARK_FOLDER", CACHE)
    CACHE.mkdir(exist_ok=True)
    # Made here, where no event loop runs yet.
    for count in (SMALL, LARGE):
        cached(count)
    with tempfile.TemporaryDirectory(dir=place) as name:
        small, large, first = asyncio.run(measure_restores(Path(name), arguments.rounds))
    selects, rebuilds = [], []
    for _ in range(arguments.rebuilds):
        selects.append(measure_select())
        with tempfile.TemporaryDirectory(dir=place) as name:
            rebuilds.append(asyncio.run(measure_rebuild(Path(name))))
    record(
        Topic(
            "Restore in a large log",
            "python -m benchmarks.restore",
            [
                Figure(f"restore in {LARGE:,} events", large, "ms", "<= 300", 1),
                Figure("the first one after a start", [first], "ms", "<= 300", 1),
                Figure(f"restore in {SMALL:,} events", small, "ms", "", 1),
                Figure("large / small", [a / b for a, b in zip(large, small, strict=True)], "x", "<= 1.5"),
                Figure("bare SELECT of all rows", selects, "s", "", 1),
                Figure("all views rebuilt", rebuilds, "s", "", 1),
                Figure("SELECT / rebuild", [a / b for a, b in zip(selects, rebuilds, strict=True)], "x", ">= 0.2"),
            ],
            ["msgspec"],
            [
                "Restoring and History of the daemon on a real store: find the moment by its time, preview, apply.",
                "Of the events 84 % are progress, 10 % changes of settings, 5 % refusals;"
                f" {DATASETS} datasets in both logs.",
                "Small and large in turns, each at a random moment; the disk's own sync times.",
            ],
        )
    )


if __name__ == "__main__":
    main()
