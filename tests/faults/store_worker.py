"""A process that appends, to be killed, cut from its disk, or recorded: ``python -m tests.faults.store_worker``.

Every acknowledged event's id goes to the file ``acks`` in the store's folder and to stdout, one line each, in one
write and only after ``append`` has returned.
"""

import argparse
import asyncio
import os
import secrets
import sqlite3
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from btmd.domain.event import Actor
from btmd.domain.machine import OperationRefused
from btmd.errors import BtmdError, StoreFailed, StoreFull
from btmd.projections.job_view import JOBS_VIEW
from btmd.projections.settings import SETTINGS_VIEW
from btmd.projections.spool import SPOOL_VIEW
from btmd.store import condensing, writer
from btmd.store.condensing import CondenseRule
from btmd.store.connection import connect_writer
from btmd.store.errors import DuplicateEvent
from btmd.store.event_log import Store, StreamAppend
from tests.store.given import tick

ACTOR = Actor(1000, 1000, 1, (1000,), "worker")
TICKS = "ticks-aaaaaaaaaa"
EVERYTHING = CondenseRule(before_us=2**62, max_bytes=0)
PROJECTIONS = (SETTINGS_VIEW, JOBS_VIEW, SPOOL_VIEW)


def weakened(synchronous: str) -> object:
    def connect(path: Path) -> sqlite3.Connection:
        connection = connect_writer(path)
        connection.execute(f"PRAGMA synchronous={synchronous}")
        return connection

    return connect


async def open_store(folder: Path, synchronous: str = "FULL") -> Store:
    connect = connect_writer if synchronous == "FULL" else weakened(synchronous)
    return await Store.open(
        folder / "btmd.db",
        clock=lambda: time.time_ns() // 1000,
        boot_id="boot",
        new_id=lambda: secrets.token_hex(8),
        projections=PROJECTIONS,
        connect=connect,  # type: ignore[arg-type]
    )


class Acknowledged:
    """Writes down what was acknowledged."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / "acks", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def __call__(self, event_id: str) -> None:
        line = f"{event_id}\n".encode()
        os.write(self._file, line)
        os.write(sys.stdout.fileno(), line)


async def append(store: Store, stream: str, event_id: str) -> None:
    event = OperationRefused(operation="worker", code="x" * (20 + len(event_id)))
    await store.append([StreamAppend(stream, (event,), event_ids=(event_id,))], actor=ACTOR)


async def client(store: Store, name: str, count: int, acknowledged: Acknowledged) -> None:
    for number in range(count):
        event_id = f"{name}-{number}"
        await append(store, f"operation-{name}", event_id)
        acknowledged(event_id)


async def run_clients(folder: Path, run: str, clients: int, count: int, synchronous: str) -> None:
    """Append under concurrency, twice with a clean close between, checkpointing often."""
    writer.CHECKPOINT_COMMITS = 5
    acknowledged = Acknowledged(folder)
    for part in range(2):
        store = await open_store(folder, synchronous)
        await asyncio.gather(
            *(client(store, f"{run}-{part}-{number}", count, acknowledged) for number in range(clients))
        )
        await store.close()


async def append_for_ever(folder: Path, run: str, clients: int) -> None:
    """Retry what an earlier process was not told about, then append until killed."""
    acknowledged = Acknowledged(folder)
    store = await open_store(folder)
    unsure = folder / "unsure"
    for event_id in unsure.read_text().split() if unsure.exists() else []:
        with suppress(DuplicateEvent):
            await append(store, f"operation-{event_id.rpartition('-')[0]}", event_id)
        acknowledged(event_id)
    await asyncio.gather(*(client(store, f"{run}-{number}", 1_000_000, acknowledged) for number in range(clients)))


def small_slices() -> None:
    condensing.SLICE_ROWS, condensing.MIN_ROWS = 40, 10


async def append_ticks(store: Store, event_ids: tuple[str, ...]) -> None:
    events = tuple(tick(number) for number, _ in enumerate(event_ids))
    await store.append([StreamAppend(TICKS, events, event_ids=event_ids)], actor=ACTOR)


async def condense_for_ever(folder: Path, run: str) -> None:
    """Append ticks and condense them side by side until killed; tells of each tick, and of each segment."""
    small_slices()
    acknowledged = Acknowledged(folder)
    store = await open_store(folder)

    async def condense() -> None:
        while True:
            if await store.condense(EVERYTHING) is not None:
                print("condensed", flush=True)
            await asyncio.sleep(0)

    async def report() -> None:
        for number in range(1_000_000):
            event_ids = tuple(f"{run}-{number}-{part}" for part in range(8))
            await append_ticks(store, event_ids)
            for event_id in event_ids:
                acknowledged(event_id)

    await asyncio.gather(condense(), report())


async def condense_on_a_full_disk(folder: Path, switch: Path) -> None:
    """Condensing is refused while there is no room, loses nothing, and goes on when there is."""
    small_slices()
    store = await open_store(folder)
    await append_ticks(store, tuple(f"tick-{number}" for number in range(100)))
    before = [row.row() for row in await store.read()]
    turn(switch, on=True)
    for _ in range(3):
        with pytest.raises(StoreFull):
            await store.condense(EVERYTHING)
    assert store.health()["writer"] == "running", store.health()
    assert [row.row() for row in await store.read()] == before
    turn(switch, on=False)
    assert await store.condense(EVERYTHING) is not None
    assert [row.row() for row in await store.read(upto=100)] == before
    assert (await store.verify()).ok
    await store.close()


def turn(switch: Path, *, on: bool) -> None:
    if on:
        switch.touch()
    else:
        switch.unlink()


async def survive(folder: Path, switch: Path, expected: type[BtmdError]) -> None:
    """Append, lose the disk while ``switch`` exists, get it back, append again."""
    acknowledged = Acknowledged(folder)
    store = await open_store(folder)
    await client(store, "before", 20, acknowledged)
    turn(switch, on=True)
    refused = await asyncio.gather(
        *(append(store, f"operation-{number}", f"refused-{number}") for number in range(8)), return_exceptions=True
    )
    assert all(type(error) is expected for error in refused), refused
    assert (await store.read_stream("operation-before"))[-1].version == 20, "reading goes on"
    if expected is StoreFailed:
        assert store.health()["writer"] == "failed", store.health()
        try:
            await store.round_trip()
        except StoreFailed:
            pass
        else:
            raise AssertionError("the writer accepts work after a failed sync")
        turn(switch, on=False)
        await store.reopen()
    else:
        assert store.health()["writer"] == "running", store.health()
        turn(switch, on=False)
    await client(store, "after", 20, acknowledged)
    assert (await store.verify()).ok
    await store.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["clients", "for-ever", "full", "failed-sync", "condense", "condense-full"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--run", default="run")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--synchronous", default="FULL")
    parser.add_argument("--switch", type=Path)
    given = parser.parse_args()
    match given.what:
        case "clients":
            asyncio.run(run_clients(given.folder, given.run, given.clients, given.count, given.synchronous))
        case "for-ever":
            asyncio.run(append_for_ever(given.folder, given.run, given.clients))
        case "condense":
            asyncio.run(condense_for_ever(given.folder, given.run))
        case "condense-full":
            asyncio.run(condense_on_a_full_disk(given.folder, given.switch))
        case "full":
            asyncio.run(survive(given.folder, given.switch, StoreFull))
        case _:
            asyncio.run(survive(given.folder, given.switch, StoreFailed))


if __name__ == "__main__":
    main()
