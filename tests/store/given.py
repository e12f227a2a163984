"""A store with a clock that the test moves, and a few events."""

import itertools
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

from btmd.domain.event import Actor, Event
from btmd.domain.job_events import TrainingProgressed
from btmd.domain.machine import OperationRefused
from btmd.store.connection import Connect, connect_writer
from btmd.store.event_log import Recorded, Store, StreamAppend
from btmd.store.projection_engine import Projection
from btmd.store.reader import last_version
from btmd.store.recorded import COLUMNS, encode_actor, row_hash

ACTOR = Actor(1000, 1001, 4711, (1001, 27), "somebody")
START_US = 1_800_000_000_000_000


@dataclass(slots=True)
class Clocks:
    """Wall and monotonic clock in microseconds; both stand still until moved."""

    wall_us: int = START_US
    monotonic_us: int = 5_000_000
    ids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def advance(self, by_us: int) -> None:
        self.wall_us += by_us
        self.monotonic_us += by_us

    def new_id(self) -> str:
        return f"id-{next(self.ids):06}"


@asynccontextmanager
async def opened(
    folder: Path,
    clocks: Clocks | None = None,
    *,
    projections: Sequence[Projection] = (),
    connect: Connect = connect_writer,
) -> AsyncIterator[Store]:
    clocks = clocks or Clocks()
    store = await Store.open(
        folder / "btmd.db",
        clock=lambda: clocks.wall_us,
        monotonic_clock=lambda: clocks.monotonic_us,
        boot_id="boot-1",
        new_id=clocks.new_id,
        projections=projections,
        connect=connect,
    )
    try:
        yield store
    finally:
        await store.close()


def file_names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def refused(code: str = "code", operation: str = "operation") -> OperationRefused:
    return OperationRefused(operation=operation, code=code)


def tick(number: int) -> TrainingProgressed:
    return TrainingProgressed(
        job_id="aaaaaaaaaa",
        attempt=1,
        number=number,
        step=number,
        total_steps=100,
        epoch=0,
        loss=1.5,
        learning_rate=1e-4,
        tokens_per_s=100.0,
        elapsed_s=2.0 * number,
        memory_bytes=1 << 30,
        steps=(number,),
        losses=(1.5,),
    )


def insert_row(path: Path, stream: str, type_name: str, schema_version: int, data: str) -> None:
    """Append past the writer, as another program could: with the right sequence and chain."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        seq, digest, recorded_at_us = connection.execute(
            "SELECT head_seq, head_hash, head_recorded_at FROM meta"
        ).fetchone()
        values = (
            seq + 1,
            1,
            stream,
            last_version(connection, stream) + 1,
            f"inserted-{seq + 1}",
            type_name,
            schema_version,
            recorded_at_us + 1,
            recorded_at_us + 1,
            "boot-0",
            encode_actor(ACTOR),
            None,
            None,
            data,
        )
        connection.execute(
            f"INSERT INTO events ({COLUMNS}) VALUES ({','.join('?' * 16)})", (*values, digest, row_hash(digest, values))
        )


async def append(store: Store, stream: str, *events: Event, expected_version: int | None = None) -> list[Recorded]:
    return await store.append([StreamAppend(stream, events, expected_version)], actor=ACTOR)
