"""The daemon dies in the middle of a training, alone or together with the trainer: nothing is lost, nothing twice."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from btmd.frames import Tick, read_frames
from btmd.job_folder import JobFolder
from tests.fixtures.daemon import QUICK, DaemonProcess, config_of, rows, trainer_pid
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

STEPS = 60
OVERRIDES = {"num_epochs": 40, "max_steps": STEPS, "eval_every": 30, "save_every": 10, "sample_answers": 0}


@pytest.fixture
def daemon() -> Iterator[DaemonProcess]:
    with short_folder() as folder, DaemonProcess(config_of(folder)) as running:
        running.client.patch("/settings", {"changes": QUICK}).ok()
        running.client.add_model(make_tiny_llama(folder / "tiny"))
        running.client.add_dataset(rows())
        yield running


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_daemon_finds_its_training_again_with_every_tick_once(daemon: DaemonProcess) -> None:
    client = daemon.client
    job_id = client.start(overrides=OVERRIDES)
    client.wait_for(job_id, lambda job: job["step"] >= 10)
    trainer = trainer_pid(daemon.config.jobs_dir, job_id)
    seen = client.events()
    daemon.kill()
    spool = JobFolder(daemon.config.jobs_dir / job_id).spool_path(1)
    before = spool.stat().st_size
    end = time.monotonic() + 60
    while spool.stat().st_size == before and time.monotonic() < end:
        time.sleep(0.05)
    assert spool.stat().st_size > before, "the trainer did not go on without the daemon"
    daemon.start()
    job = client.wait_until(job_id, "completed")
    assert job["attempt"] == 1
    told = [found for found in read_frames(spool) if isinstance(found.frame, Tick)]
    recorded = client.ticks(job_id)
    assert [tick["number"] for tick in recorded] == [found.number for found in told]
    assert [step for tick in recorded for step in tick["steps"]] == list(range(1, STEPS + 1))
    events = client.events()
    assert events[: len(seen)] == seen
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert len({event["event_id"] for event in events}) == len(events)
    end = time.monotonic() + 60
    while _is_alive(trainer):
        assert time.monotonic() < end, "the trainer is still there after its last word"
        time.sleep(0.05)


def test_when_both_are_killed_the_job_resumes_by_itself(daemon: DaemonProcess) -> None:
    client = daemon.client
    job_id = client.start(overrides=OVERRIDES)
    client.wait_for(job_id, lambda job: bool(job["checkpoints"]) and job["step"] >= 10)
    trainer = trainer_pid(daemon.config.jobs_dir, job_id)
    daemon.kill()
    os.killpg(trainer, signal.SIGKILL)
    daemon.start()
    job = client.wait_until(job_id, "completed")
    assert [(one["why"], one["ended"]) for one in job["attempts"]] == [("first", "crash"), ("crash", "finished")]
    assert job["shape"]["resumed_from_step"] >= 10
    steps = {step for tick in client.ticks(job_id) for step in tick["steps"]}
    # What was learned after the last checkpoint and not yet reported was learned again.
    assert set(range(job["shape"]["resumed_from_step"] + 1, STEPS + 1)) <= steps
    lost = next(event for event in client.events() if event["type"] == "AttemptFailed")
    assert lost["data"]["reason"] == "crash"


def test_a_trainer_that_is_killed_again_and_again_fails_the_job(daemon: DaemonProcess) -> None:
    client = daemon.client
    client.patch("/settings", {"changes": {"jobs.crash_resumes": 1}}).ok()
    job_id = client.start(overrides={**OVERRIDES, "save_every": 1000})
    for attempt in (1, 2):
        client.wait_for(job_id, lambda job, attempt=attempt: job["attempt"] == attempt and job["state"] == "preparing")
        pid = _pid_of_attempt(daemon, job_id, attempt)
        os.killpg(pid, signal.SIGKILL)
    end = time.monotonic() + 60
    while (job := client.job(job_id))["state"] != "failed" and time.monotonic() < end:
        time.sleep(0.05)
    assert (job["state"], job["reason"]) == ("failed", "crash_limit")
    assert "signal 9" in job["attempts"][0]["text"]
    result = client.get(f"/result/{job_id}").ok()
    assert result["success"] is False


def _pid_of_attempt(daemon: DaemonProcess, job_id: str, attempt: int) -> int:
    folder = JobFolder(daemon.config.jobs_dir / job_id)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = folder.read_pid()
        if found is not None and found.attempt == attempt:
            return found.pid
        time.sleep(0.02)
    raise AssertionError("no trainer")
