"""What a starting daemon finds in the job folders: its own trainers, strays, and those of another store."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from btmd.job_folder import JobFolder, TrainerPlan
from btmd.jobs.running_trainer import RunningTrainer
from tests.fixtures.daemon import QUICK, DaemonProcess, config_of, rows, trainer_pid
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

LONG = {"num_epochs": 1000, "max_steps": 20_000, "eval_every": 5000, "save_every": 20, "sample_answers": 0}

HOLDER = """
import sys, time
from pathlib import Path
from btmd.job_folder import JobFolder
folder = JobFolder(Path(sys.argv[1]))
while (lock := folder.take_lock()) is None:
    time.sleep(0.05)  # the trainer before may still be leaving
folder.write_pid(1)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def daemon() -> Iterator[DaemonProcess]:
    with short_folder() as folder, DaemonProcess(config_of(folder)) as running:
        running.client.patch("/settings", {"changes": QUICK}).ok()
        running.client.add_model(make_tiny_llama(folder / "tiny"))
        running.client.add_dataset(rows())
        yield running


def _hold(folder: Path) -> subprocess.Popen[bytes]:
    """A process that looks like a trainer at work in the folder."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, process_group=0)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"ready\n"
    return holder


def test_a_folder_of_another_store_is_not_taken_over(daemon: DaemonProcess) -> None:
    client = daemon.client
    job_id = client.start(overrides=LONG)
    client.wait_for(job_id, lambda job: job["step"] >= 1)
    pid = trainer_pid(daemon.config.jobs_dir, job_id)
    daemon.kill()
    folder = JobFolder(daemon.config.jobs_dir / job_id)
    plan: TrainerPlan = msgspec.structs.replace(folder.read_plan(), store_id="another")
    folder.plan_path.write_bytes(msgspec.json.encode(plan))
    daemon.start()
    refused = [event for event in client.events() if event["type"] == "OperationRefused"]
    assert [event["data"] for event in refused] == [
        {"operation": f"adopt {job_id}", "code": "foreign_job_folder", "more": 0}
    ]
    job = client.job(job_id)
    assert (job["state"], job["reason"]) == ("failed", "foreign_folder")
    os.kill(pid, 0)
    os.killpg(pid, signal.SIGKILL)


def test_a_trainer_of_an_ended_job_is_stopped(daemon: DaemonProcess) -> None:
    client = daemon.client
    job_id = client.start(overrides=LONG)
    client.wait_for(job_id, lambda job: job["step"] >= 1)
    client.post(f"/jobs/{job_id}/cancel").ok()
    end = time.monotonic() + 60
    while client.job(job_id)["state"] != "cancelled":
        assert time.monotonic() < end
        time.sleep(0.05)
    daemon.stop()
    holder = _hold(daemon.config.jobs_dir / job_id)
    daemon.start()
    assert holder.wait(20) == -signal.SIGKILL
    assert client.job(job_id)["state"] == "cancelled"


def test_a_pid_that_was_given_to_another_process_is_not_signalled(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    folder.write_pid(1)
    mine = msgspec.json.decode(folder.pid_path.read_bytes())
    assert RunningTrainer.find(folder) is not None
    folder.pid_path.write_bytes(msgspec.json.encode({**mine, "start_ticks": mine["start_ticks"] - 1}))
    assert RunningTrainer.find(folder) is None
    folder.pid_path.write_bytes(b"nonsense")
    assert RunningTrainer.find(folder) is None
