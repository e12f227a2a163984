"""The time that remains, as it was told during real trainings, against what it then was.

Trainings of ten minutes and more with a small model on this machine, by a real daemon; some are paused and taken up
again. Their histories are kept in benchmarks/kept/remaining and read again by today's code: interrupted, it goes on
where it was.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import Figure, Topic, record
from btmd.domain.event import Event
from btmd.domain.job_events import AttemptStarted, JobCompleted
from tests.fixtures.daemon import Client, DaemonProcess, config_of
from tests.fixtures.remaining_readings import calibration, readings
from tests.fixtures.tiny_model import make_tiny_llama
from tests.fixtures.training_records import read_history, written

KEPT = Path(__file__).parent / "kept" / "remaining"
MINUTES = 12.0
LEAST_MINUTES = 10
FEW_STEPS = 200
"""Of the training by which the steps of the long one are counted; its first report is of steps that take longer."""
ENDED = ("completed", "failed", "cancelled")


@dataclass(frozen=True)
class Case:
    """``resumed``: paused once in the middle."""

    name: str
    batch_size: int
    evaluations: int
    resumed: bool = False


CASES = (
    Case("plain", 8, 4),
    Case("many measurements", 4, 20),
    Case("resumed", 8, 4, resumed=True),
    Case("large batches", 32, 6),
    Case("resumed, many checkpoints", 16, 10, resumed=True),
)


def main() -> None:
    options = _options()
    KEPT.mkdir(parents=True, exist_ok=True)
    chosen = [case for case in CASES if options.only in case.name]
    for case in chosen:
        if not _path(case, options.minutes).exists():
            _path(case, options.minutes).write_bytes(gzip.compress(_trained(case, options.minutes)))
    found = {case.name: _judged(case, options.minutes) for case in chosen if _path(case, options.minutes).exists()}
    for name, one in found.items():
        print(f"{name}: {one}")
    if len(found) == len(CASES) and options.minutes >= LEAST_MINUTES:
        _record(options.minutes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default="", help="trainings whose name contains this")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long each trains, about")
    return parser.parse_args()


def _path(case: Case, minutes: float) -> Path:
    return KEPT / f"{case.name.replace(' ', '-').replace(',', '')}-{minutes:g}min.jsonl.gz"


@contextmanager
def _daemon() -> Iterator[Client]:
    with tempfile.TemporaryDirectory(prefix="btmd-") as short:
        folder = Path(short)
        locks = folder / "locks"
        locks.mkdir()
        config = config_of(folder, device_locks_dir=locks)
        with DaemonProcess(config) as daemon:
            # Threads that wait for one another on a busy machine make a tiny model crawl.
            daemon.client.patch("/settings", {"changes": {"training.threads": 1}}).ok()
            daemon.client.add_model(make_tiny_llama(folder / "tiny"))
            daemon.client.add_dataset(_rows())
            yield daemon.client


def _rows() -> bytes:
    lines = (
        {"question": f"What is {n} plus {n}?" + " And why?" * (n % 23), "answer": f"It is {2 * n}. " * (1 + n % 17)}
        for n in range(1500)
    )
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _trained(case: Case, minutes: float) -> bytes:
    """The history of one training that takes about so long, its steps counted by a short one before."""
    with _daemon() as client:
        steps = _steps_in(client, case, 60 * minutes)
        values = {"max_steps": steps, "eval_every": max(1, steps // (case.evaluations + 1))}
        job_id = _start(client, case, values)
        if case.resumed:
            client.wait_for(job_id, lambda job: job["step"] > 0.35 * steps, patience_s=60 * minutes * 4)
            client.post(f"/jobs/{job_id}/pause").ok()
            _wait(client, job_id, 3600, "paused")
            client.post(f"/jobs/{job_id}/resume").ok()
        _wait(client, job_id, 60 * minutes * 8, *ENDED)
        return written(_events(client, job_id))


def _steps_in(client: Client, case: Case, seconds: float) -> int:
    job_id = _start(client, case, {"max_steps": FEW_STEPS, "eval_every": 0})
    _wait(client, job_id, 3600, *ENDED)
    first, *_, last = client.ticks(job_id)
    step_s = (last["elapsed_s"] - first["elapsed_s"]) / (last["step"] - first["step"])
    return max(FEW_STEPS, int(seconds / step_s))


def _start(client: Client, case: Case, values: dict[str, Any]) -> str:
    usual = {"num_epochs": 1000, "batch_size": case.batch_size, "patience": 0, "sample_answers": 3}
    return client.start(overrides={**usual, "save_every": max(1, int(values["max_steps"]) // 8), **values})


def _wait(client: Client, job_id: str, most_s: float, *states: str) -> None:
    end = time.monotonic() + most_s
    while client.job(job_id)["state"] not in states:
        if time.monotonic() > end:
            raise TimeoutError(f"the training {job_id} is {client.job(job_id)['state']} after {most_s:.0f} s")
        time.sleep(2)


def _events(client: Client, job_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for stream in (f"job-{job_id}", f"ticks-{job_id}", f"ticks-machine-{job_id}"):
        after = 0
        while page := client.events(after, stream=stream):
            found += page
            after = page[-1]["seq"]
    return sorted(found, key=lambda one: int(one["seq"]))


def _history(case: Case, minutes: float) -> list[tuple[int, Event]]:
    return read_history(gzip.decompress(_path(case, minutes).read_bytes()))


def _judged(case: Case, minutes: float) -> object:
    return calibration(list(readings(_history(case, minutes))))


def _length_s(history: list[tuple[int, Event]]) -> float:
    """From the first attempt's start to the end, the moment of a pause included."""
    began_us = next(at_us for at_us, one in history if isinstance(one, AttemptStarted))
    return (next(at_us for at_us, one in history[::-1] if isinstance(one, JobCompleted)) - began_us) / 1e6


def _record(minutes: float) -> None:
    histories = [_history(case, minutes) for case in CASES]
    each = [list(readings(history)) for history in histories]
    judged = [calibration(found) for found in each]
    resumed = [one for case, found in zip(CASES, each, strict=True) if case.resumed for one in found]
    together = calibration([one for found in each for one in found])
    lengths = [_length_s(history) / 60 for history in histories]
    narrow = sum(one.median_is_narrow for one in judged)
    figures = [
        Figure("readings from 5 % on whose range held what remained, all together", [together.held], "", ">= 0.9", 3),
        Figure("the same, each training by itself", [one.held for one in judged], ""),
        Figure("the same, from a resume on", [calibration(resumed).held], "", ">= 0.9", 3),
        Figure("trainings whose range is narrow enough, median from 20 % on", [narrow], "", f">= {len(CASES)}", 0),
        Figure("width of the range from 20 % on, to either side", [100 * one.width for one in judged], "%", "", 1),
        Figure("readings from 20 % on within the allowed width", [one.narrow for one in judged], ""),
        Figure("the shortest training", [min(lengths)], "min", f">= {LEAST_MINUTES}", 1),
        Figure("readings", [together.readings], "", "", 0),
    ]
    notes = [
        f"{len(CASES)} trainings of a tiny Llama, {sum(case.resumed for case in CASES)} of them paused and taken up "
        "again; read every 7 s. Lengths are from the first process's start to the end.",
        "Narrow enough is 25 % to either side, or one and a half times the spread of the step times so far.",
    ]
    record(Topic("Progress: the time that remains", "make proof-remaining", figures, ("torch",), notes))


if __name__ == "__main__":
    main()
