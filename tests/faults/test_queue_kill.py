"""A queue of jobs through restarts of the daemon at random moments: each runs once to its end, and in order.

BTMD_PROOF=1: 50 jobs and 20 kills, in place of a few; JOBS=n and KILLS=n are others. SEED=n makes a run again.
"""

import itertools
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results import Figure, Topic, record
from tests.fixtures.daemon import QUICK, Client, DaemonProcess, config_of, rows
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

PROOF = os.environ.get("BTMD_PROOF") == "1"
JOBS, KILLS = (int(os.environ.get("JOBS", "50")), int(os.environ.get("KILLS", "20"))) if PROOF else (3, 2)
SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
PATIENCE_S = 3600 if PROOF else 600
STEPS = 3
TINY = {"max_steps": STEPS, "num_epochs": 5, "eval_every": 0, "save_every": 2, "sample_answers": 0}
NEVER, ALWAYS = {"queue.quiet_hours": "00:00-24:00"}, {"queue.quiet_hours": ""}


@pytest.fixture
def daemon() -> Iterator[DaemonProcess]:
    with short_folder() as folder, DaemonProcess(config_of(folder)) as running:
        running.client.patch("/settings", {"changes": {**QUICK, **NEVER, "backup.every_hours": 0}}).ok()
        running.client.add_model(make_tiny_llama(folder / "tiny"))
        running.client.add_dataset(rows(20))
        yield running


def submit(client: Client, drawn: random.Random) -> list[str]:
    """The jobs in the order in which they have to run: by priority, with some moved and some set anew."""
    jobs = [client.start(overrides=TINY, priority=drawn.choice((0, 0, 0, 5))) for _ in range(JOBS)]
    for _ in range(JOBS // 5 + 1):
        job, other = drawn.sample(jobs, 2)
        client.post(f"/queue/{job}/move", {"before": other}).ok()
        client.patch(f"/jobs/{drawn.choice(jobs)}", {"priority": drawn.choice((-1, 0, 5))}).ok()
    line = [one["job_id"] for one in client.get("/queue").ok()["waiting"]]
    assert sorted(line) == sorted(jobs)
    assert all("quiet hours" in one["waits_for"] for one in client.get("/queue").ok()["waiting"])
    return line


def ended(client: Client) -> int:
    return sum(job["state"] == "completed" for job in client.get("/jobs?limit=1000").ok())


def test_queued_jobs_run_once_and_in_order_however_often_the_daemon_is_killed(daemon: DaemonProcess) -> None:
    print(f"SEED={SEED}")
    drawn, client = random.Random(SEED), daemon.client
    line = submit(client, drawn)
    waiting = [100 * _busy_share(daemon, 120)] if PROOF else []
    client.patch("/settings", {"changes": ALWAYS}).ok()
    began = time.monotonic()
    # Spread over the whole queue: a kill follows when so many jobs are done, a moment of a job's length later.
    kills = sorted(drawn.uniform(0, JOBS - 0.5) for _ in range(KILLS))
    starts: list[float] = []
    for at in kills:
        _wait_for(client, began, lambda at=at: ended(client) >= int(at))
        job_s = (time.monotonic() - began) / max(1, ended(client))
        time.sleep(min(job_s, 20) * (at % 1))
        daemon.kill()
        killed = time.monotonic()
        daemon.start()
        starts.append(time.monotonic() - killed)
    _wait_for(client, began, lambda: ended(client) == JOBS)
    took_s = time.monotonic() - began
    lost = _judge(client, line)
    if PROOF:
        figures = [
            Figure("jobs", [JOBS], digits=0),
            Figure("kills of the daemon (SIGKILL)", [KILLS], digits=0),
            Figure("jobs that ended once", [JOBS], target=f">= {JOBS}", digits=0),
            Figure("jobs out of order", [0], target="<= 0", digits=0),
            Figure("steps taken twice or not at all", [0], target="<= 0", digits=0),
            Figure("attempts recorded whose trainer never began", [lost], digits=0),
            Figure("processor time of the daemon while all wait for quiet hours to end", waiting, "%", digits=3),
            Figure("from the kill until the daemon answered", starts, "s"),
            Figure("the whole queue", [took_s], "s", digits=0),
        ]
        notes = [
            f"{JOBS} jobs of {STEPS} steps each, priorities drawn, a fifth of them moved or set anew (SEED={SEED}).",
            "In order: no job's first attempt is recorded before the one in front of it has ended.",
        ]
        record(Topic("Queue: kills of the daemon", "make proof-queue", figures, notes=notes))


def _busy_share(daemon: DaemonProcess, seconds: float) -> float:
    """Which share of a processor the daemon takes."""
    assert daemon.process is not None
    before = _processor_s(daemon.process.pid)
    time.sleep(seconds)
    return (_processor_s(daemon.process.pid) - before) / seconds


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _judge(client: Client, line: list[str]) -> int:
    """Every claim, from the log alone; returns how many attempts were recorded and then killed before they began."""
    events = client.events()
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    ends: dict[str, int] = dict.fromkeys(line, 0)
    began = 0
    for event in events:
        job_id = event["data"].get("job_id", "")
        if event["type"] == "AttemptStarted":
            began += 1
            first.setdefault(job_id, event["seq"])
        if event["type"] in ("JobCompleted", "JobFailed", "JobCancelled"):
            ends[job_id] += event["type"] == "JobCompleted"
            last[job_id] = event["seq"]
    assert ends == dict.fromkeys(line, 1), "each ends once, completed"
    assert sorted(first, key=first.__getitem__) == line, "they begin in order"
    for before, after in itertools.pairwise(line):
        assert last[before] < first[after], "and one after the other"
    for job_id in line:
        _judge_steps(client.job(job_id), client.ticks(job_id))
    return began - len(line)


def _judge_steps(job: dict[str, Any], ticks: list[dict[str, Any]]) -> None:
    steps = [step for tick in ticks for step in tick["steps"]]
    assert steps == list(range(1, STEPS + 1)), (job["job_id"], steps)
    trained = {tick["attempt"] for tick in ticks}
    assert trained == {job["attempt"]}, "a killed daemon costs no training"


def _wait_for(client: Client, began: float, done: Any) -> None:
    while not done():
        assert time.monotonic() - began < PATIENCE_S, client.get("/queue").ok()
        time.sleep(0.1)
