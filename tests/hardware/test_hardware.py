"""Machines read from their files, real and made up, and GPUs from a driver that answers, lies or is not there."""

import os
from pathlib import Path

import psutil
import pytest

from btmd.hardware import probe
from btmd.hardware.cpu import read_cpu
from btmd.hardware.disk import read_disk
from btmd.hardware.memory import read_memory
from tests.hardware.machines import machine

GB = 1024**3
X86 = "processor\t: {n}\nmodel name\t: A processor\nphysical id\t: 0\ncore id\t: {core}\nflags\t\t: fpu avx2 {flags}\n"
V1_MOUNTS = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "34 31 0:31 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def cpuinfo(cores: int, threads: int, flags: str = "") -> str:
    return "\n".join(X86.format(n=number, core=number % cores, flags=flags) for number in range(cores * threads))


# --- this machine -----------------------------------------------------------------------------------


def test_this_machine_is_read_as_others_read_it(tmp_path: Path) -> None:
    found = probe(tmp_path / "not" / "there")
    assert found.cpu.logical_cores == psutil.cpu_count()
    assert 1 <= found.cpu.usable_cores <= len(os.sched_getaffinity(0))
    assert 0 < found.memory.available_bytes <= found.memory.total_bytes <= psutil.virtual_memory().total
    assert abs(found.disk.free_bytes - psutil.disk_usage(str(tmp_path)).free) < GB


def test_affinity_is_respected() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert read_cpu().usable_cores == 1
    finally:
        os.sched_setaffinity(0, before)


# --- processor --------------------------------------------------------------------------------------


def test_hyper_threads_are_not_cores(tmp_path: Path) -> None:
    root = machine(tmp_path, {"proc/cpuinfo": cpuinfo(cores=4, threads=2)})
    cpu = read_cpu(root, frozenset(range(8)))
    assert (cpu.logical_cores, cpu.physical_cores, cpu.usable_cores) == (8, 4, 4)
    assert read_cpu(root, frozenset({0, 4, 5})).usable_cores == 2


@pytest.mark.parametrize(("flag", "native"), [("avx512_bf16", True), ("amx_bf16", True), ("avx512f", False)])
def test_native_bf16_is_told_by_the_flags(tmp_path: Path, flag: str, native: bool) -> None:
    cpu = read_cpu(machine(tmp_path, {"proc/cpuinfo": cpuinfo(1, 1, flag)}), frozenset({0}))
    assert cpu.native_bf16 is native
    assert flag in cpu.instruction_sets
    assert "fpu" not in cpu.instruction_sets


def test_an_arm_processor_is_read(tmp_path: Path) -> None:
    text = (
        "processor\t: 0\nFeatures\t: fp asimd bf16\n\nprocessor\t: 1\nFeatures\t: fp asimd bf16\n\nHardware\t: Board\n"
    )
    cpu = read_cpu(machine(tmp_path, {"proc/cpuinfo": text}), frozenset({0, 1}))
    assert (cpu.logical_cores, cpu.usable_cores, cpu.native_bf16) == (2, 2, True)


def test_a_quota_of_version_2_limits_the_cores(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/cpuinfo": cpuinfo(8, 1),
            "proc/self/cgroup": "0::/user.slice/app\n",
            "proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "sys/fs/cgroup/user.slice/cpu.max": "300000 100000\n",
            "sys/fs/cgroup/user.slice/app/cpu.max": "max 100000\n",
        },
    )
    cpu = read_cpu(root, frozenset(range(8)))
    assert (cpu.usable_cores, cpu.quota_cores) == (3, 3.0)


def test_a_quota_of_version_1_limits_the_cores(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/cpuinfo": cpuinfo(8, 1),
            "proc/self/cgroup": "4:memory:/job\n1:cpu,cpuacct:/job\n0::/\n",
            "proc/self/mountinfo": V1_MOUNTS.format(root="/"),
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
        },
    )
    cpu = read_cpu(root, frozenset(range(8)))
    assert (cpu.usable_cores, cpu.quota_cores) == (1, 0.5)


def test_a_machine_that_tells_nothing_still_has_a_core(tmp_path: Path) -> None:
    cpu = read_cpu(tmp_path, frozenset({0}))
    assert (cpu.logical_cores, cpu.usable_cores, cpu.native_bf16) == (1, 1, False)


# --- memory -----------------------------------------------------------------------------------------

MEMINFO = f"MemTotal: {64 * GB // 1024} kB\nMemAvailable: {32 * GB // 1024} kB\nSwapFree: 1024 kB\n"


def test_without_limits_the_kernels_figures_count(tmp_path: Path) -> None:
    memory = read_memory(machine(tmp_path, {"proc/meminfo": MEMINFO}))
    assert (memory.total_bytes, memory.available_bytes, memory.limit_bytes) == (64 * GB, 32 * GB, None)
    assert memory.swap_free_bytes == 1024 * 1024


def test_a_limit_of_version_2_counts_wherever_it_stands(tmp_path: Path) -> None:
    memory = read_memory(
        machine(
            tmp_path,
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/a/b\n",
                "proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
                "sys/fs/cgroup/a/memory.max": f"{8 * GB}\n",
                "sys/fs/cgroup/a/memory.current": f"{5 * GB}\n",
                "sys/fs/cgroup/a/memory.stat": f"anon 1\ninactive_file {2 * GB}\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
            },
        )
    )
    assert (memory.total_bytes, memory.available_bytes, memory.limit_bytes) == (8 * GB, 5 * GB, 8 * GB)


def test_a_limit_of_version_1_counts_inside_a_container(tmp_path: Path) -> None:
    memory = read_memory(
        machine(
            tmp_path,
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "4:memory:/docker/abc/inner\n",
                "proc/self/mountinfo": V1_MOUNTS.format(root="/docker/abc"),
                "sys/fs/cgroup/memory/inner/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * GB}\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * GB}\n",
                "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {1 * GB}\n",
            },
        )
    )
    assert (memory.available_bytes, memory.limit_bytes) == (2 * GB, 4 * GB)


def test_a_group_above_the_mount_is_not_looked_for_outside(tmp_path: Path) -> None:
    memory = read_memory(
        machine(
            tmp_path,
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "4:memory:/../other\n",
                "proc/self/mountinfo": V1_MOUNTS.format(root="/"),
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * GB}\n",
            },
        )
    )
    assert memory.limit_bytes == 4 * GB


def test_the_disk_of_a_folder_still_to_be_made_is_its_parents(tmp_path: Path) -> None:
    disk = read_disk(tmp_path / "a" / "b")
    assert 0 < disk.free_bytes < disk.total_bytes
