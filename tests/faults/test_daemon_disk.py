"""The disk fills up under a daemon and its trainer: refused in words, nothing lost, and on it goes with room again."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.daemon import QUICK, DaemonProcess, config_of, rows
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

LONG = {"num_epochs": 1000, "max_steps": 20_000, "eval_every": 5000, "save_every": 10, "sample_answers": 0}


@pytest.fixture
def daemon() -> Iterator[DaemonProcess]:
    with short_folder() as folder:
        state = folder / "state"
        state.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(state)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("mounting a small disk needs root; the store's own test runs without")
        try:
            with DaemonProcess(config_of(folder)) as running:
                running.client.patch("/settings", {"changes": {**QUICK, "disk.reserve_gb": 0}}).ok()
                running.client.add_model(make_tiny_llama(folder / "tiny"))
                running.client.add_dataset(rows())
                yield running
        finally:
            subprocess.run(["umount", "-l", str(state)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as ballast:
        for size in (1 << 20, 4096):
            try:
                while True:
                    ballast.write(bytes(size))
            except OSError:
                continue


def test_a_full_disk_while_training_and_appending(daemon: DaemonProcess) -> None:
    client = daemon.client
    job_id = client.start(overrides=LONG)
    client.wait_for(job_id, lambda job: bool(job["checkpoints"]))
    ballast = daemon.config.state_dir / "ballast"
    end = time.monotonic() + 60
    while True:
        fill(ballast)
        answer = client.patch("/settings", {"changes": {"training.seed": int(time.monotonic() * 1000) % 10**6}})
        if answer.status == 503:
            break
        assert time.monotonic() < end
    answer.refused(503, "disk_full")
    assert client.get("/status").ok()["status"] == "degraded"
    # The trainer finds the disk full as well, sooner or later, and says so in the room it kept for that.
    while (daemon.config.jobs_dir / job_id / "tmp" / "reserve").exists():
        assert time.monotonic() < end
        fill(ballast)
        time.sleep(0.05)
    ballast.unlink()
    # With room again it goes on by itself.
    deadline = time.monotonic() + 180
    while not ((now := client.job(job_id))["attempt"] == 2 and now["state"] == "training"):
        assert time.monotonic() < deadline, now
        time.sleep(0.1)
    assert now["attempts"][0]["ended"] == "disk_full"
    assert client.get("/status").ok()["status"] == "operational"
    numbers = [(tick["attempt"], tick["number"]) for tick in client.ticks(job_id)]
    assert len(set(numbers)) == len(numbers)
    client.post(f"/jobs/{job_id}/stop").ok()
    client.wait_until(job_id, "completed")


def test_a_job_waits_for_the_reserve(daemon: DaemonProcess) -> None:
    client = daemon.client
    client.patch("/settings", {"changes": {"disk.reserve_gb": 1.0, "training.preset": "quick_test"}}).ok()
    asked = {"model_id": "tiny", "dataset_id": "facts", "overrides": LONG}
    client.post("/start", asked).refused(409, "not_enough_disk")
    client.patch("/settings", {"changes": {"disk.reserve_gb": 0}}).ok()
    job_id = client.start(overrides=LONG)
    client.post(f"/jobs/{job_id}/pause").ok()
    deadline = time.monotonic() + 120
    while client.job(job_id)["state"] != "paused":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    client.patch("/settings", {"changes": {"disk.reserve_gb": 1.0}}).ok()
    client.post(f"/jobs/{job_id}/resume").ok()
    while "room on the disk" not in client.job(job_id)["waits_for"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    client.patch("/settings", {"changes": {"disk.reserve_gb": 0}}).ok()
    client.wait_for(job_id, lambda job: job["state"] == "training")
    client.post(f"/jobs/{job_id}/cancel").ok()
