"""The trainer as a process: its environment, its lock, and what it reads about itself. No torch here."""

import ctypes
import fcntl
import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from btmd.job_folder import JobFolder, TrainerPlan
from btmd.no_network import OFFLINE, leave_the_network_with_gpus

OOM_SCORE_ADJ = 500
"""When memory runs out the kernel should take a trainer, which resumes, before the daemon or the desktop."""

RESERVE_BYTES = 256 * 1024

LARGE_BLOCK_BYTES = 1 << 20
_HEAP_KEPT_BYTES = 64 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""


def prepare_environment(folder: JobFolder) -> None:
    """Leave the network, and keep temporary files inside the job folder and private."""
    leave_the_network_with_gpus()
    os.environ.update(OFFLINE, HF_DATASETS_OFFLINE="1", DO_NOT_TRACK="1")
    share_processors()
    number_devices_as_the_driver_does()
    os.umask(0o077)
    empty_temporary_folder(folder)
    os.environ["TMPDIR"] = str(folder.tmp)
    tempfile.tempdir = str(folder.tmp)
    try:
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE_ADJ))
    except PermissionError as error:
        # Already above it and not allowed to go down: the order we want holds anyway.
        print(f"oom_score_adj stays as it is: {error}", file=sys.stderr)


def share_processors() -> None:
    """Let threads that wait for each other sleep. Has to be called before torch is loaded.

    OpenMP's way is to spin for milliseconds. Where anything else wants the processors the spinning threads take them
    from the one they wait for: a step took 20 s of processor time in place of 2.5 s beside one other busy process
    (two cores). A setting of the person's own holds.
    """
    if "GOMP_SPINCOUNT" not in os.environ:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_large_blocks_apart(plan: TrainerPlan) -> None:
    """Let what a block of the model leaves for a moment go back at once, where that costs nothing: in fp32 on a CPU.

    By default malloc takes all up to 32 MB from one heap, among the weights, and every length of batch finds holes that
    are a little too small: a model of 135 million parameters grew from 1.26 to 1.54 GiB in its second step, without
    needing any of it, and stays at 1.17 GiB so. A step takes as long as before: 1.00 of the time with an adapter, 0.95
    with all weights (30 million parameters, both ways in turn). In bf16 the products are so fast that fresh pages would
    be felt. The C library may have no such setting.
    """
    if plan.device != "cpu" or plan.precision != "fp32":
        return
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _HEAP_KEPT_BYTES)


def number_devices_as_the_driver_does() -> None:
    """Let ``cuda:N`` be the device that the plan means. Has to be called before torch is loaded.

    CUDA's own order puts the fastest first; the daemon's probe lists them by their place on the bus.
    """
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")


def empty_temporary_folder(folder: JobFolder) -> None:
    """Remove what this attempt, or one that crashed, has left of temporary files."""
    if folder.tmp.exists():
        shutil.rmtree(folder.tmp)
    folder.tmp.mkdir(mode=0o700)


def hold_lock(folder: JobFolder) -> bool:
    """Keep the lock that was inherited, or take it when started by hand; False while another trainer holds it."""
    try:
        wanted = os.stat(folder.lock_path)
    except FileNotFoundError:
        wanted = None
    for name in os.listdir("/proc/self/fd") if wanted else ():
        descriptor = int(name)
        try:
            found = os.fstat(descriptor)
        except OSError:  # the listing's own descriptor, closed by now
            continue
        if wanted and (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            return _keep(descriptor)
    taken = folder.take_lock()
    return taken is not None and _keep(taken)


def _keep(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # A process of a library's that outlives this one must not look like a living trainer.
    os.set_inheritable(descriptor, False)
    return True


class DiskReserve:
    """A little room kept on the disk, given back when the disk is full so that the reason can still be told."""

    def __init__(self, folder: JobFolder) -> None:
        self._path = folder.tmp / "reserve"

    def take(self) -> None:
        """Raises OSError when not even this fits."""
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(file, 0, RESERVE_BYTES)
        finally:
            os.close(file)

    def give_back(self) -> None:
        self._path.unlink(missing_ok=True)


_PAGE_BYTES = os.sysconf("SC_PAGESIZE")


def resident_bytes() -> int:
    """Memory of this process that is in RAM now."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * _PAGE_BYTES


def available_bytes() -> int:
    """Memory that could be had without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo has no MemAvailable")


def _slept_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


_SLEPT_BEFORE_S = _slept_s()
"""How long the machine had slept when this process began."""


def seconds_since_start() -> float:
    """How long this process has been there, the loading of the interpreter and sleep of the machine included."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s


def seconds_awake() -> float:
    """How long this process has been there while the machine did not sleep."""
    return seconds_since_start() - (_slept_s() - _SLEPT_BEFORE_S)


def peak_resident_bytes() -> int:
    """The most memory this process has had in RAM."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resident_bytes()
