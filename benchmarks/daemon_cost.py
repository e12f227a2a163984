"""What the daemon costs: memory and CPU while idle, CPU beside a training, and the time it adds before the first step.

Run with ``python -m benchmarks.daemon_cost [--seconds 60]``. The CPU seconds are those of the processes themselves,
so that a busy machine changes them little.
"""

import argparse
import json
import time
from pathlib import Path

from benchmarks.results import Figure, Topic, record
from tests.fixtures.daemon import DaemonProcess, config_of, rows, trainer_pid
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama


def cpu_s(pid: int) -> float:
    """User and system time of all threads of a process in seconds, from its CPU clock. Raises OSError when it ended."""
    # clock_getcpuclockid(3): the complement of the pid, shifted, with 2 for the scheduler's own nanoseconds.
    return time.clock_gettime((~pid << 3) | 2)


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise AssertionError("no VmRSS")


def idle(daemon: DaemonProcess, seconds: float) -> tuple[float, float]:
    """Resident MB, and the share of one core over the time, in percent."""
    assert daemon.process is not None
    pid = daemon.process.pid
    time.sleep(3)
    before, began = cpu_s(pid), time.monotonic()
    time.sleep(seconds)
    return resident_mb(pid), 100 * (cpu_s(pid) - before) / (time.monotonic() - began)


def training(daemon: DaemonProcess, steps: int) -> tuple[float, float]:
    """The daemon's CPU beside the trainer's in percent; seconds from the submission to the trainer's start."""
    assert daemon.process is not None
    client = daemon.client
    overrides = {
        "num_epochs": 1000, "max_steps": steps, "eval_every": steps, "save_every": 500, "sample_answers": 0,
    }  # fmt: skip
    before = cpu_s(daemon.process.pid)
    submitted = time.monotonic()
    job_id = client.start(overrides=overrides)
    trainer = trainer_pid(daemon.config.jobs_dir, job_id)
    spawned = time.monotonic() - submitted
    spent = 0.0
    while True:
        try:
            spent = max(spent, cpu_s(trainer))
        except OSError:
            break
        time.sleep(1)
    client.wait_until(job_id, "completed")
    share = 100 * (cpu_s(daemon.process.pid) - before) / spent
    print(json.dumps({"trainer_cpu_s": spent, "ticks": len(client.ticks(job_id))}))
    return share, spawned


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=60.0, help="how long each idle phase is watched")
    options.add_argument("--steps", type=int, default=6000, help="optimizer steps of the tiny model")
    given = options.parse_args()
    with short_folder() as folder, DaemonProcess(config_of(folder)) as daemon:
        fresh_mb, fresh_percent = idle(daemon, given.seconds)
        daemon.client.add_model(make_tiny_llama(folder / "tiny"))
        daemon.client.add_dataset(rows(200))
        daemon.client.patch("/settings", {"changes": {"training.threads": 1}}).ok()
        share, spawned_s = training(daemon, given.steps)
        for path in ("/status", "/jobs", "/hardware", "/presets", "/jobs/last"):
            daemon.client.get(path).ok()
        after_mb, after_percent = idle(daemon, given.seconds)
    record(
        Topic(
            "Cost of the daemon",
            "python -m benchmarks.daemon_cost",
            [
                Figure("resident memory, idle, no job yet", [fresh_mb], "MB", "< 90", 1),
                Figure("CPU of one core, idle, no job yet", [fresh_percent], "%", "< 0.1", 4),
                Figure("resident memory, idle, one job finished", [after_mb], "MB", "< 90", 1),
                Figure("CPU of one core, idle, one job finished", [after_percent], "%", "< 0.1", 4),
                Figure("daemon's CPU beside the trainer's, one tick a second", [share], "%", "< 1", 3),
                Figure("submission to a trainer that has its first lines behind it", [spawned_s], "s", "", 2),
            ],
            packages=("starlette", "uvicorn", "sqlmodel"),
            notes=(
                f"Idle phases of {given.seconds:g} s; the training is a tiny Llama on one thread, {given.steps} steps.",
                "The time to the trainer's pid file includes planning, the measuring of tokens, and Python's start.",
            ),
        )
    )


if __name__ == "__main__":
    main()
