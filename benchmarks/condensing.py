"""What a progress tick costs on the disk before and after condensing, and how long condensing holds up the writer."""

import asyncio
import os
import random
import secrets
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import Figure, Topic, record
from btmd.domain.event import Actor
from btmd.domain.job_events import TrainingProgressed
from btmd.projections.views import ALL_PROJECTIONS
from btmd.store.condensing import SLICE_ROWS, CondenseRule, LogSizes, log_sizes
from btmd.store.event_log import Recorded, Store, StreamAppend

TICKS = 10_000
ROUNDS = 3
JOB = "k3q7zv2m5a"
ACTOR = Actor(os.getuid(), os.getgid(), os.getpid(), (os.getgid(),), "daemon")


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes of one tick: the row itself, on the disk with indexes, condensed; waits for the writer in milliseconds."""

    row: float
    plain: float
    estimate: float
    condensed: float
    held_ms: list[float]


def tick(number: int, steps_each: int, chance: random.Random, job_id: str = JOB) -> TrainingProgressed:
    """A tick as a trainer sends it: noise in every figure that has noise in a training."""
    last = number * steps_each
    losses = tuple(2.0 + chance.gauss(0, 0.3) for _ in range(steps_each))
    return TrainingProgressed(
        job_id=job_id,
        attempt=1,
        number=number,
        step=last,
        total_steps=TICKS * steps_each,
        epoch=0,
        loss=losses[-1],
        learning_rate=3e-4 * (1 - last / (TICKS * steps_each)),
        tokens_per_s=300 + chance.gauss(0, 20),
        elapsed_s=number * 1.003 + chance.random() / 100,
        memory_bytes=1_200_000_000 + chance.randrange(0, 4096) * 4096,
        steps=tuple(range(last - steps_each + 1, last + 1)),
        losses=losses,
        gradient_norm=abs(chance.gauss(1, 0.2)),
    )


async def fill(store: Store, steps_each: int) -> None:
    """Each tick recorded by itself, as it is in a training, but many to a commit."""
    chance = random.Random(steps_each)
    for first in range(1, TICKS + 1, 200):
        appends = [
            store.append(
                [StreamAppend(f"ticks-{JOB}", (tick(number, steps_each, chance),), event_ids=(f"{JOB}:1:{number}",))],
                actor=ACTOR,
            )
            for number in range(first, first + 200)
        ]
        await asyncio.gather(*appends)


async def measure(folder: Path, steps_each: int) -> Cost:
    store = await Store.open(
        folder / "btmd.db",
        clock=lambda: time.time_ns() // 1000,
        boot_id=str(uuid.uuid4()),
        new_id=lambda: secrets.token_hex(16),
        projections=ALL_PROJECTIONS,
    )
    try:
        empty = await store.query(log_sizes)
        await fill(store, steps_each)
        before = await store.query(log_sizes)
        held_ms, ended = [], asyncio.Event()

        async def watch() -> None:
            while not ended.is_set():
                began = time.perf_counter()
                await store.round_trip()
                held_ms.append((time.perf_counter() - began) * 1000)
                await asyncio.sleep(0.001)

        watching = asyncio.create_task(watch())
        everything = CondenseRule(before_us=2**62, max_bytes=0)
        while True:
            if await store.condense(everything) is None:
                break
            await asyncio.sleep(0.02)
        ended.set()
        await watching
        after = await store.query(log_sizes)
        announced = sum(len(row.data_json) + 350 for row in await store.read_stream("log"))
        assert (await store.verify()).ok
        ticks = await store.read_stream(f"ticks-{JOB}", TICKS - 1000)
        return Cost(
            row=sum(map(row_bytes, ticks)) / len(ticks),
            plain=(used(before) - used(empty)) / TICKS,
            estimate=before.ticks_bytes / TICKS,
            condensed=(after.segments_bytes + announced) / after.condensed_ticks,
            held_ms=held_ms,
        )
    finally:
        await store.close()


def row_bytes(row: Recorded) -> int:
    """The values of a row, numbers as SQLite stores them."""
    return sum(
        0 if value is None else len(value) if isinstance(value, bytes | str) else (value.bit_length() + 8) // 8
        for value in row.row()
    )


def used(sizes: LogSizes) -> int:
    return sizes.database_bytes - sizes.free_bytes


def further(one: list[Cost], many: list[Cost], field: str) -> list[float]:
    """What each of ten further steps in a tick adds."""
    return [(getattr(more, field) - getattr(less, field)) / 10 for less, more in zip(one, many, strict=True)]


def main() -> None:
    costs: dict[int, list[Cost]] = {1: [], 11: []}
    for _ in range(ROUNDS):
        for steps_each, measured in costs.items():
            with tempfile.TemporaryDirectory() as name:
                measured.append(asyncio.run(measure(Path(name), steps_each)))
    one, many = costs[1], costs[11]
    record(
        Topic(
            "Event log: condensing",
            "python -m benchmarks.condensing",
            [
                Figure("tick of one step, the row's values", [cost.row for cost in one], "bytes", "< 700", 0),
                Figure("tick of one step, on the disk with its indexes", [cost.plain for cost in one], "bytes", "", 0),
                Figure("tick of one step, condensed", [cost.condensed for cost in one], "bytes", "< 100", 0),
                Figure("each further step, in the row", further(one, many, "row"), "bytes", "< 30", 1),
                Figure("each further step, on the disk", further(one, many, "plain"), "bytes", "", 1),
                Figure("each further step, condensed", further(one, many, "condensed"), "bytes", "", 1),
                Figure("estimate that status shows / on the disk", [cost.estimate / cost.plain for cost in one], "x"),
                Figure("longest wait for the writer meanwhile", [max(cost.held_ms) for cost in one], "ms", "<= 100", 0),
            ],
            ["msgspec", "zstandard"],
            [
                f"{TICKS} ticks, each with noise in its figures; {SLICE_ROWS} ticks a segment, its event included.",
                "On the disk: growth of the used pages. Waits: a round trip through the writer every 1 ms.",
            ],
        )
    )


if __name__ == "__main__":
    main()
