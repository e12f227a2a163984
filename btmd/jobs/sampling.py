"""What is read of the machine for each training twice a minute."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from btmd.domain.warning import GpuSample, MachineSampled
from btmd.hardware.gpu_watch import GpuWatch
from btmd.hardware.nvml import Nvml, load_nvml
from btmd.hardware.process import MachineReading, ProcessReading, read_machine, read_process

LEAST_LATE_S, LEAST_JUMP_S = 5.0, 1.0
"""A daemon that is asked much is late by less; and the clock is read a moment after the other one."""


class SampledTrainer(Struct, frozen=True):
    """A trainer to look at; ``own_gpu_bytes`` is what it says itself."""

    job_id: str
    attempt: int
    pid: int
    device: str
    own_gpu_bytes: int | None = None


class _Moment(Struct, frozen=True):
    """The clocks: wall, one that goes on in a suspended machine; and what processors had done."""

    wall_us: int
    since_boot_s: float
    busy_s: float


class _Passed(Struct, frozen=True):
    """What lies between two moments."""

    seconds: float
    busy_share: float | None = None
    suspended_s: float = 0.0
    clock_jump_s: float = 0.0


class MachineSampling:
    """Reads everything, and what became of it since the reading before. ``clock`` gives microseconds."""

    def __init__(
        self,
        disk: Path,
        clock: Callable[[], int],
        *,
        since_boot: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        root: Path = Path("/"),
        load: Callable[[], Nvml | None] = load_nvml,
    ) -> None:
        self._disk, self._clock, self._since_boot, self._root = disk, clock, since_boot, root
        self._gpus = GpuWatch(load)
        self._before: _Moment | None = None

    def rest(self) -> None:
        """No trainer lives: the driver is let go of, and the next reading is a first one."""
        self._gpus.close()
        self._before = None

    def read(self, trainers: list[SampledTrainer], waited_s: float) -> list[MachineSampled]:
        """One sample for each, ``waited_s`` after the one before; blocks for some milliseconds.

        Raises OSError when the disk cannot be asked.
        """
        machine = read_machine(self._root)
        now = _Moment(self._clock(), self._since_boot(), machine.busy_s)
        before, self._before = self._before, now
        space = os.statvfs(self._disk)
        passed = _passed(before, now, waited_s, machine.cores)
        return [self._sample(one, machine, passed, space.f_bavail * space.f_frsize) for one in trainers]

    def _sample(
        self, trainer: SampledTrainer, machine: MachineReading, passed: _Passed, free_bytes: int
    ) -> MachineSampled:
        process = read_process(trainer.pid, self._root)
        return MachineSampled(
            trainer.job_id,
            trainer.attempt,
            round(passed.seconds, 2),
            state=process.state,
            cpu_s=round(process.cpu_s, 2),
            rss_bytes=process.rss_bytes,
            available_bytes=machine.available_bytes,
            total_bytes=machine.total_bytes,
            disk_free_bytes=free_bytes,
            busy_share=passed.busy_share,
            cores=machine.cores,
            **_limits(process),
            read_bytes=process.read_bytes,
            major_faults=process.major_faults,
            throttles=machine.throttles,
            suspended_s=passed.suspended_s,
            clock_jump_s=passed.clock_jump_s,
            gpus=self._gpu(trainer),
        )

    def _gpu(self, trainer: SampledTrainer) -> tuple[GpuSample, ...]:
        kind, _, index = trainer.device.partition(":")
        if kind != "cuda":
            return ()
        found = self._gpus.sample(int(index or 0), trainer.pid, trainer.own_gpu_bytes)
        return () if found is None else (found,)


def _limits(process: ProcessReading) -> dict[str, int | None]:
    limited = process.address_limit_bytes is not None
    return {
        "group_bytes": process.group_bytes,
        "group_limit_bytes": process.group_limit_bytes,
        "process_bytes": process.address_bytes if limited else None,
        "process_limit_bytes": process.address_limit_bytes,
    }


def _passed(before: _Moment | None, now: _Moment, waited_s: float, cores: int) -> _Passed:
    """The clock that goes on in a suspended machine says how long it was; ``waited_s`` was meant to pass."""
    if before is None:
        return _Passed(waited_s)
    seconds = now.since_boot_s - before.since_boot_s
    busy = (now.busy_s - before.busy_s) / max(1e-9, seconds * cores)
    late_s, jump_s = seconds - waited_s, (now.wall_us - before.wall_us) / 1e6 - seconds
    return _Passed(
        seconds,
        round(min(1.0, max(0.0, busy)), 3),
        round(late_s, 2) if late_s > LEAST_LATE_S else 0.0,
        round(jump_s, 2) if abs(jump_s) > LEAST_JUMP_S else 0.0,
    )
