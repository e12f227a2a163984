"""The event log against bare SQLite of the same durability, side by side in each round.

Run it with ``python -m benchmarks.log``. Every sync of both sides takes 2 ms longer than the disk needs.
"""

import argparse
import asyncio
import itertools
import os
import secrets
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.results import Figure, Topic, record
from btmd.command_handler import CommandHandler
from btmd.domain import model
from btmd.domain.commands import DECIDERS, MODELS
from btmd.domain.event import Actor
from btmd.projections.dataset import DATASETS_VIEW
from btmd.projections.job_view import JOBS_VIEW
from btmd.projections.model import MODELS_VIEW
from btmd.projections.settings import SETTINGS_VIEW
from btmd.projections.spool import SPOOL_VIEW
from btmd.store.event_log import Store
from btmd.store.reader import pages
from btmd.store.recorded import COLUMNS
from tests.faults.store_shim import build_shim, shim_environment

SYNC_DELAY_US = 2000
PROJECTIONS = (SETTINGS_VIEW, MODELS_VIEW, DATASETS_VIEW, JOBS_VIEW, SPOOL_VIEW)
ACTOR = Actor(1000, 1000, 1, (1000,), "benchmark")
CLIENTS = 64
FACTS = model.ModelFacts(
    architecture="LlamaForCausalLM",
    family="llama",
    parameters=134_515_008,
    layers=30,
    hidden_size=576,
    intermediate_size=1536,
    heads=9,
    kv_heads=3,
    vocab_size=49152,
    context_length=8192,
    tied_embeddings=True,
    dtype="bfloat16",
    size_bytes=269_030_016,
    has_chat_template=True,
    is_chat=True,
    is_code=False,
    fingerprint="0" * 64,
)
_BARE_TABLE = """
CREATE TABLE events (seq INTEGER PRIMARY KEY, epoch, stream, version, event_id UNIQUE, type, schema_version,
    recorded_at, wall_at, boot_id, actor, correlation_id, causation_id, data, prev_hash, hash, UNIQUE (stream, version))
"""


class Round(NamedTuple):
    """Appends a second by bare SQLite, by one client, by many; CPU of one of the many in microseconds."""

    bare: float
    single: float
    many: float
    cpu_us: float


def now_us() -> int:
    return time.time_ns() // 1000


class Bare:
    """sqlite3 with the same columns and keys, one event a commit, and nothing else."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute(_BARE_TABLE)
        self._seq = itertools.count(1)

    def appends_per_s(self, count: int) -> float:
        data = '{"model_id":"model-1","name":"a model","owner_uid":1000,"facts":"%s"}' % ("x" * 400)
        actor, insert = '{"uid":1000}', f"INSERT INTO events ({COLUMNS}) VALUES ({','.join('?' * 16)})"
        began = time.perf_counter()
        for _ in range(count):
            seq = next(self._seq)
            row = (seq, 1, "model-1", seq, secrets.token_hex(8), "ModelAdded", 1, now_us(), now_us(), "boot", actor)
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(insert, (*row, None, None, data, bytes(32), bytes(32)))
            self._connection.execute("COMMIT")
        return count / (time.perf_counter() - began)

    def close(self) -> None:
        self._connection.close()


async def open_store(path: Path) -> Store:
    return await Store.open(
        path, clock=now_us, boot_id="benchmark", new_id=lambda: secrets.token_hex(8), projections=PROJECTIONS
    )


class Clients:
    """Adds and removes models through the command handler, with all projections of the product."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._handler = CommandHandler(store, DECIDERS)
        self._ids = itertools.count()

    async def appends_per_s(self, clients: int, count: int) -> float:
        before = self._store.head.seq
        began = time.perf_counter()
        await asyncio.gather(*(self._client(count) for _ in range(clients)))
        taken_s = time.perf_counter() - began
        return (self._store.head.seq - before) / taken_s

    async def _client(self, count: int) -> None:
        model_id = f"model-{next(self._ids)}"
        add = model.AddModel(model_id, model_id, 1000, f"/models/{model_id}", f"/models/{model_id}", False, FACTS)
        for number in range(count):
            command = model.RemoveModel(model_id) if number % 2 else add
            handled = await self._handler.handle(command, actor=ACTOR)
            assert len(handled.events) == 1


async def measure_appends(folder: Path, rounds: int) -> list[Round]:
    bare = Bare(folder / "bare.db")
    store = await open_store(folder / "btmd.db")
    clients = Clients(store)
    await clients.appends_per_s(CLIENTS, 4)
    bare.appends_per_s(50)
    measured = []
    for _ in range(rounds):
        raw = bare.appends_per_s(200)
        one = await clients.appends_per_s(1, 200)
        raw = (raw + bare.appends_per_s(200)) / 2
        cpu_before_s = time.process_time()
        many = await clients.appends_per_s(CLIENTS, 50)
        cpu_us = (time.process_time() - cpu_before_s) / (CLIENTS * 50) * 1e6
        measured.append(Round(raw, one, many, cpu_us))
    assert (await store.verify()).ok
    await store.close()
    bare.close()
    return measured


def measure_replay(path: Path, rounds: int) -> list[tuple[float, float]]:
    """Rows a second: a bare SELECT of them all, and decoded to events and folded into states."""
    connection = sqlite3.connect(path, isolation_level=None)
    measured = []
    for _ in range(rounds):
        began = time.perf_counter()
        rows = connection.execute("SELECT * FROM log ORDER BY seq").fetchall()
        bare_s = time.perf_counter() - began
        count = len(rows)
        del rows
        began = time.perf_counter()
        states: dict[str, object] = {}
        replayed = 0
        for page in pages(connection):
            for row in page:
                states[row.stream] = MODELS.evolve(states.get(row.stream), row.event)
            replayed += len(page)
        replay_s = time.perf_counter() - began
        assert replayed == count
        measured.append((count / bare_s, count / replay_s))
    connection.close()
    return measured


def measure(rounds: int) -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCHMARK_FOLDER")) as name:
        folder = Path(name)
        appends = asyncio.run(measure_appends(folder, rounds))
        replays = measure_replay(folder / "btmd.db", rounds)
    record(
        Topic(
            "Event log",
            "python -m benchmarks.log",
            [
                Figure("bare sqlite3, one event a commit", [one.bare for one in appends], "events/s", digits=0),
                Figure("command handler, one client", [one.single for one in appends], "events/s", digits=0),
                Figure(f"command handler, {CLIENTS} clients", [one.many for one in appends], "events/s", digits=0),
                Figure("one client / bare", [one.single / one.bare for one in appends], "x", ">= 0.75"),
                Figure(f"{CLIENTS} clients / bare", [one.many / one.bare for one in appends], "x", ">= 12"),
                Figure(f"CPU of an append, {CLIENTS} clients", [one.cpu_us for one in appends], "us", digits=0),
                Figure("bare SELECT of all columns", [bare for bare, _ in replays], "rows/s", digits=0),
                Figure("replay: decode and evolve", [replay for _, replay in replays], "rows/s", digits=0),
                Figure("replay / bare SELECT", [replay / bare for bare, replay in replays], "x", ">= 0.3"),
            ],
            ["msgspec"],
            [
                f"Every fsync and fdatasync of both sides takes {SYNC_DELAY_US / 1000:g} ms longer (LD_PRELOAD).",
                "Both sides: WAL, synchronous=FULL, BEGIN IMMEDIATE. Bare: the same columns and unique keys, no more.",
                "Command handler: decide, hash chain, guards, the product's projections; answered after the commit.",
            ],
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--behind-shim", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.behind_shim:
        measure(arguments.rounds)
        return
    with tempfile.TemporaryDirectory() as name:
        environment = shim_environment(build_shim(Path(name)), sync_delay_us=SYNC_DELAY_US)
        command = [sys.executable, "-m", "benchmarks.log", "--behind-shim", "--rounds", str(arguments.rounds)]
        subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
