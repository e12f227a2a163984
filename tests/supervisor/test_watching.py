"""A daemon watches over its trainings: samples in the log, warnings that come and go, trainers that hang."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from btmd.domain.warning import MachineSampled
from btmd.hardware.gpu_watch import GpuWatch
from btmd.hardware.process import read_machine, read_process
from btmd.jobs.sampling import MachineSampling, SampledTrainer
from tests.fixtures.daemon import QUICK, Client, DaemonProcess, config_of, rows, trainer_pid
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama
from tests.hardware.recorded_nvml import GB, RecordedNvml, loaded

WATCHED = QUICK | {"monitoring.sample_every_s": 0.5}
LONG = {"num_epochs": 1000, "max_steps": 20_000, "sample_answers": 0, "eval_every": 0, "save_every": 50}
PATIENCE_S = 120.0


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def _until(found: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.1)
    raise AssertionError("it never came")


def _events(client: Client, stream: str, *types: str) -> list[dict[str, Any]]:
    return [one for one in client.events(stream=stream) if not types or one["type"] in types]


def test_a_trainer_that_was_stopped_is_noticed_ended_and_taken_up_again(folder: Path) -> None:
    with DaemonProcess(config_of(folder)) as daemon:
        client, jobs_dir = daemon.client, daemon.config.jobs_dir
        client.patch("/settings", {"changes": WATCHED}).ok()
        client.add_model(make_tiny_llama(folder / "tiny"))
        client.add_dataset(rows())
        job_id = client.start(overrides=LONG)
        client.wait_for(job_id, lambda job: job["step"] > 60)
        samples = _until(lambda: _events(client, f"ticks-machine-{job_id}")[2:])
        sample = samples[-1]["data"]
        assert sample["rss_bytes"] > 50_000_000
        assert sample["state"] in ("R", "S", "D")
        assert sample["disk_free_bytes"] > 0
        os.kill(trainer_pid(jobs_dir, job_id), signal.SIGSTOP)
        # A daemon that is killed in between has to find out again.
        daemon.kill()
        daemon.start()
        (raised,) = _until(lambda: _events(client, f"watch-{job_id}", "WarningRaised"))
        assert (raised["data"]["kind"], raised["data"]["evidence"]["cause"]) == ("hung", "stopped")
        _until(lambda: _events(client, f"watch-{job_id}", "WarningWithdrawn"))
        job = client.wait_for(job_id, lambda job: job["attempt"] == 2 and job["step"] > 60)
        (warning,) = job["warnings"]
        assert (warning["kind"], warning["severity"]) == ("hung", "critical")
        assert warning["withdrawn_at"]
        assert "stopped" in warning["text"]
        assert client.get(f"/progress/{job_id}").ok()["warnings"] == []
        client.post(f"/jobs/{job_id}/cancel").ok()


def test_a_process_tells_what_it_takes() -> None:
    found = read_process(os.getpid())
    assert found.state == "R"
    assert found.rss_bytes > 10_000_000
    assert found.cpu_s > 0
    assert read_process(2**22 + 1).state == ""
    assert read_machine().total_bytes > found.rss_bytes


class _Clocks:
    """The wall clock in microseconds, and the one that goes on in a suspended machine."""

    def __init__(self) -> None:
        self.wall_us, self.since_boot_s = 1_000_000_000, 100.0

    def pass_s(self, seconds: float, *, jump_s: float = 0.0) -> None:
        self.wall_us += int((seconds + jump_s) * 1e6)
        self.since_boot_s += seconds


def _sampled(clocks: _Clocks, sampling: MachineSampling) -> MachineSampled:
    (sample,) = sampling.read([SampledTrainer("j", 1, os.getpid(), "cuda:0")], 30.0)
    return sample


def test_sleep_and_jumps_of_the_clock_are_told_apart(tmp_path: Path) -> None:
    clocks = _Clocks()
    sampling = MachineSampling(
        tmp_path, lambda: clocks.wall_us, since_boot=lambda: clocks.since_boot_s, load=loaded(RecordedNvml(count=1))
    )
    first = _sampled(clocks, sampling)
    assert (first.suspended_s, first.clock_jump_s, first.busy_share) == (0.0, 0.0, None)
    clocks.pass_s(31.0)
    assert (_sampled(clocks, sampling).suspended_s, _sampled(clocks, sampling).clock_jump_s) == (0.0, 0.0)
    clocks.pass_s(3630.0)
    slept = _sampled(clocks, sampling)
    assert (slept.suspended_s, slept.clock_jump_s) == (3600.0, 0.0)
    clocks.pass_s(30.0, jump_s=-7200)
    jumped = _sampled(clocks, sampling)
    assert (jumped.suspended_s, jumped.clock_jump_s) == (0.0, -7200.0)
    assert jumped.gpus[0].total_bytes == 24 * GB


def test_what_others_hold_on_a_gpu_is_told_from_what_is_ours() -> None:
    nvml = RecordedNvml(count=1, throttle=0x20)
    watch = GpuWatch(loaded(nvml))
    ours = watch.sample(0, 7, None)
    assert ours is not None
    assert (ours.others_bytes, ours.throttle, ours.clock_share) == (200 * 1024**2, ("thermal",), 0.6)
    # A driver that shows other numbers than ours: what is left over is not ours.
    unknown = watch.sample(0, 4711, 2 * GB)
    assert unknown is not None
    assert unknown.others_bytes == 2 * GB - 700 * 1024**2
    watch.close()
    assert nvml.open == 0
    assert GpuWatch(loaded(RecordedNvml(count=1, lost=(0,)))).sample(0, 7, None) is None
