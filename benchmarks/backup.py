"""Backups against restic: the same database, full and after twenty new events, side by side in each round.

Run it with ``python -m benchmarks.backup``; needs Debian's ``restic``.
"""

import argparse
import asyncio
import math
import os
import random
import secrets
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from benchmarks.results import Figure, Topic, record
from btmd.backup.create import BackupRequest, Created
from btmd.backup.drill import drill
from btmd.backup.keys import Keys
from btmd.backup.perform import NOUNS
from btmd.backup.repository import Repository
from btmd.backup.requests import CreatedAnswer, CreateRequest
from btmd.child.caller import ask_child
from btmd.domain.event import Actor, Event
from btmd.domain.job_events import AttemptStarted, HeldOutLossMeasured, JobSubmitted, TrainingProgressed
from btmd.domain.settings import SettingChanged
from btmd.store.event_log import Store, StreamAppend

ACTOR = Actor(1000, 1000, 4242, (1000, 27), "someone")
NEW_EVENTS = 20
TICKS_PER_JOB = 190
PLAN = {"learning_rate": {"value": 2e-4, "source": "preset", "why": "ten times that of full fine-tuning"}}


def now_us() -> int:
    return time.time_ns() // 1000


def jobs(seed: int) -> Iterator[tuple[str, Event]]:
    """Job after job as a trainer reports them, losses and times as random as real ones."""
    drawn = random.Random(seed)
    for number in range(10**9):
        job_id = f"j{seed:03d}{number:06d}"
        stream = f"job-{job_id}"
        submitted = JobSubmitted(job_id, "a job", 1000, "model", "data", "0" * 16, "chat", PLAN, {"seed": number}, {})
        yield stream, submitted
        yield stream, AttemptStarted(job_id, 1, "boot", "first")
        for tick in range(TICKS_PER_JOB):
            step = 2 * tick + 2
            losses = tuple(2.5 * math.exp(-step / 300) + 0.3 * drawn.random() for _ in range(2))
            yield (
                f"ticks-{job_id}",
                TrainingProgressed(
                    job_id=job_id,
                    attempt=1,
                    number=tick + 3,
                    step=step,
                    total_steps=2 * TICKS_PER_JOB,
                    epoch=1,
                    loss=sum(losses) / 2,
                    learning_rate=2e-4 * (1 - step / (2 * TICKS_PER_JOB + 2)),
                    tokens_per_s=350 + 20 * drawn.random(),
                    elapsed_s=0.7 * step + drawn.random(),
                    memory_bytes=931_000_000 + drawn.randrange(1_000_000),
                    steps=(step - 1, step),
                    losses=losses,
                    gradient_norm=drawn.random(),
                ),
            )
            if tick % 32 == 31:
                loss = 1.2 + drawn.random()
                yield stream, HeldOutLossMeasured(job_id, 1, 1000 + tick, step, loss, 4000, "during", drawn.random())


def twenty(seed: int) -> Iterator[tuple[str, Event]]:
    """What a person does between two backups: some settings, and a job that begins."""
    for number in range(4):
        yield "settings", SettingChanged("training.patience", number, number + 1, f"trial {seed}")
    yield from islice(jobs(900 - seed), NEW_EVENTS - 4)


async def append(path: Path, events: Iterator[tuple[str, Event]]) -> None:
    store = await Store.open(path, clock=now_us, boot_id=secrets.token_hex(16), new_id=lambda: secrets.token_hex(16))
    while batch := list(islice(events, 4096)):
        parts = (batch[at : at + 4] for at in range(0, len(batch), 4))
        await asyncio.gather(
            *(
                store.append(
                    [StreamAppend(stream, (event,)) for stream, event in part],
                    actor=ACTOR,
                    correlation_id=secrets.token_hex(16),
                )
                for part in parts
            )
        )
    await store.close()


class Ours:
    """Backups of the database beside it, in a process of its own or within this one."""

    def __init__(self, database: Path, target: Path) -> None:
        self._database = database
        self.target = target
        self.repository = Repository(target, NOUNS)
        self._keys = Keys(database.parent / "keys")
        connection = sqlite3.connect(database)
        self.ring = self._keys.open(connection.execute("SELECT store_id FROM meta").fetchone()[0], now_us())
        connection.close()

    def create(self) -> tuple[Created, float, float]:
        """The backup, the seconds on the clock, and those of the processor."""
        began, worked = time.perf_counter(), time.process_time()
        made = self.repository.create(self._database, self._keys, self.ring, BackupRequest(), now_us())
        return made, time.perf_counter() - began, time.process_time() - worked

    def create_as_the_daemon_does(self) -> float:
        """The seconds on the clock, from asking a child that is yet to be started to its answer."""
        request = CreateRequest(
            folder=str(self.target),
            keys=str(self._keys.folder),
            store_id=self.ring.store_id,
            now_us=now_us(),
            keys_made=True,
            database=str(self._database),
        )
        began = time.perf_counter()
        asyncio.run(ask_child("btmd.backup", request, CreatedAnswer, deadline_s=600))
        return time.perf_counter() - began


class Restic:
    def __init__(self, database: Path, target: Path) -> None:
        self._database = database
        self.target = target
        self._environment = {**os.environ, "RESTIC_PASSWORD": "benchmark", "RESTIC_REPOSITORY": str(target)}
        self._run("init", "--repository-version", "2")

    def create(self) -> float:
        began = time.perf_counter()
        self._run("backup", "--no-cache", "--compression", "auto", str(self._database))
        return time.perf_counter() - began

    def _run(self, *arguments: str) -> None:
        subprocess.run(["restic", "-q", *arguments], env=self._environment, check=True, stdout=subprocess.DEVNULL)


def size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(folder: Path, events: int, rounds: int) -> dict[str, list[float]]:
    database = folder / "btmd.db"
    asyncio.run(append(database, islice(jobs(1), events)))
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    for number in range(rounds):
        ours, restic = Ours(database, folder / f"ours{number}"), Restic(database, folder / f"restic{number}")
        note("restic_s", restic.create())
        note("call_s", ours.create()[1])
        shutil.rmtree(ours.target)
        note("child_s", ours.create_as_the_daemon_does())
        note("restic_mb", size_bytes(restic.target) / 1e6)
        note("ours_mb", size_bytes(ours.target) / 1e6)
        asyncio.run(append(database, twenty(number)))
        before = size_bytes(restic.target)
        note("restic_more_s", restic.create())
        note("restic_more_kb", (size_bytes(restic.target) - before) / 1e3)
        made, clock_s, processor_s = ours.create()
        note("more_kb", made.written_bytes / 1e3)
        note("segment_kb", made.manifest.part_sizes[-1] / 1e3)
        note("more_ms", clock_s * 1e3)
        note("more_processor_ms", processor_s * 1e3)
        ours.repository.verify(made.name, ours.ring)
        if number == 0:
            proof = drill(ours.repository, ours.ring, NOUNS, folder, now_us=now_us())
            assert proof.proved, proof
            note("drill_s", proof.duration_us / 1e6)
        shutil.rmtree(ours.target)
        shutil.rmtree(restic.target)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=100_000)
    arguments = parser.parse_args()
    os.umask(0o077)
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCHMARK_FOLDER")) as name:
        found = measure(Path(name), arguments.events, arguments.rounds)
    ratios = [ours / restic for ours, restic in zip(found["child_s"], found["restic_s"], strict=True)]
    sizes = [ours / restic for ours, restic in zip(found["ours_mb"], found["restic_mb"], strict=True)]
    version = subprocess.run(["restic", "version"], capture_output=True, text=True, check=True).stdout.split()[1]
    record(
        Topic(
            "Backup",
            "make proof-backup",
            [
                Figure("restic, full", found["restic_s"], "s"),
                Figure("btmd, full, in a child as the daemon does it", found["child_s"], "s"),
                Figure("btmd, full, without the child's start", found["call_s"], "s"),
                Figure("full: time against restic", ratios, "x", "<= 1"),
                Figure("restic, full", found["restic_mb"], "MB", digits=1),
                Figure("btmd, full", found["ours_mb"], "MB", digits=1),
                Figure("full: size against restic", sizes, "x", "<= 1"),
                Figure(f"restic, {NEW_EVENTS} new events", found["restic_more_kb"], "kB", digits=0),
                Figure(f"restic, {NEW_EVENTS} new events", found["restic_more_s"], "s"),
                Figure(f"btmd, {NEW_EVENTS} new events, all files", found["more_kb"], "kB", "< 10"),
                Figure(f"btmd, {NEW_EVENTS} new events, the segment", found["segment_kb"], "kB", "< 3"),
                Figure(f"btmd, {NEW_EVENTS} new events, clock", found["more_ms"], "ms", digits=1),
                Figure(f"btmd, {NEW_EVENTS} new events, processor", found["more_processor_ms"], "ms", "< 50", 1),
                Figure("drill: decrypt, rebuild, verify, replay", found["drill_s"], "s", digits=1),
            ],
            ["zstandard", "cryptography", "msgspec"],
            [
                f"A log of {arguments.events:,} events, most of them ticks; restic {version} backs up its file.",
                "Both times are those of a whole process, start and key included; restic without a cache.",
                "Every round makes both backups anew and checks ours from end to end.",
            ],
        )
    )


if __name__ == "__main__":
    main()
