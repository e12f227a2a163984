"""File systems as machines of different kinds show them, in the form that their kernels write."""

from pathlib import Path

GB = 1024**3


def machine(root: Path, files: dict[str, str]) -> Path:
    """A made-up file system with these files; a text that starts with ``->`` is a link to the rest."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("->"):
            path.symlink_to(text[2:])
        else:
            path.write_text(text)
    return root


def x86(cores: int, threads: int, model: str, flags: str, sockets: int = 1) -> str:
    """``/proc/cpuinfo``: the kernel numbers the first threads of all cores before the second ones."""
    blocks = []
    for number in range(sockets * cores * threads):
        place = number % (sockets * cores)
        blocks.append(
            f"processor\t: {number}\nvendor_id\t: GenuineIntel\nmodel name\t: {model}\n"
            f"physical id\t: {place // cores}\nsiblings\t: {cores * threads}\ncore id\t\t: {place % cores}\n"
            f"cpu cores\t: {cores}\nflags\t\t: fpu sse2 {flags}\n"
        )
    return "\n".join(blocks)


def meminfo(total_gb: float, available_gb: float, swap_gb: float = 0) -> str:
    kb = {"MemTotal": total_gb, "MemAvailable": available_gb, "SwapTotal": swap_gb, "SwapFree": swap_gb}
    return "".join(f"{key + ':':16}{int(value * 1024 * 1024):>8} kB\n" for key, value in kb.items())


def laptop(*, plugged: bool, charge: int) -> dict[str, str]:
    """Four cores with two threads each, version 2 of control groups, an encrypted disk, a battery and a mouse's."""
    supplies = "sys/class/power_supply"
    return {
        "proc/cpuinfo": x86(4, 2, "Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz", "avx avx2 fma"),
        "proc/meminfo": meminfo(15.5, 9.0, 2.0),
        "proc/self/cgroup": "0::/user.slice/user-1000.slice/user@1000.service/app.slice/btmd.service\n",
        "proc/self/mountinfo": (
            "29 1 253:1 / / rw,relatime shared:1 - ext4 /dev/mapper/vgubuntu-root rw,errors=remount-ro\n"
            "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
        ),
        "sys/fs/cgroup/user.slice/memory.max": "max\n",
        "sys/fs/cgroup/user.slice/user-1000.slice/memory.max": "max\n",
        "sys/fs/cgroup/user.slice/cpuset.cpus.effective": "0-7\n",
        "sys/dev/block/253:1/queue/rotational": "0\n",
        f"{supplies}/AC/type": "Mains\n",
        f"{supplies}/AC/online": f"{int(plugged)}\n",
        f"{supplies}/BAT0/type": "Battery\n",
        f"{supplies}/BAT0/present": "1\n",
        f"{supplies}/BAT0/status": "Charging\n" if plugged else "Discharging\n",
        f"{supplies}/BAT0/capacity": f"{charge}\n",
        f"{supplies}/hidpp_battery_0/type": "Battery\n",
        f"{supplies}/hidpp_battery_0/scope": "Device\n",
        f"{supplies}/hidpp_battery_0/status": "Discharging\n",
        f"{supplies}/hidpp_battery_0/capacity": "5\n",
        "sys/devices/system/node/node0/cpulist": "0-7\n",
    }


def numa_server() -> dict[str, str]:
    """Two sockets of 28 cores with two threads each and AMX; the first disk turns, the partition is on it."""
    disk = "sys/devices/pci0000:00/0000:00:17.0/ata1/block/sda"
    return {
        "proc/cpuinfo": x86(28, 2, "Intel(R) Xeon(R) Gold 6430", "avx2 avx512f avx512_bf16 amx_bf16", sockets=2),
        "proc/meminfo": meminfo(503, 480),
        "proc/self/cgroup": "0::/system.slice/btmd.service\n",
        "proc/self/mountinfo": (
            "26 1 8:2 / / rw,relatime shared:1 - xfs /dev/sda2 rw\n"
            "36 25 0:31 / /sys/fs/cgroup rw shared:8 - cgroup2 cgroup2 rw\n"
        ),
        "sys/fs/cgroup/system.slice/btmd.service/memory.max": "max\n",
        f"{disk}/queue/rotational": "1\n",
        f"{disk}/sda2/partition": "2\n",
        "sys/dev/block/8:2": f"->../../../{disk}/sda2",
        "sys/devices/system/node/node0/cpulist": "0-27,56-83\n",
        "sys/devices/system/node/node1/cpulist": "28-55,84-111\n",
    }


def container_v2() -> dict[str, str]:
    """A container of a host with 32 cores: its own root of version 2, 12 GB, two and a half cores, CPUs 8 to 15."""
    return {
        "proc/cpuinfo": x86(32, 1, "AMD EPYC 7543 32-Core Processor", "avx2 fma"),
        "proc/meminfo": meminfo(251, 200),
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": (
            "1021 970 0:63 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A\n"
            "1030 1024 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n"
            "1033 1021 0:70 / /var/lib/btmd rw - nfs4 server:/export/btmd rw,vers=4.2\n"
        ),
        "sys/fs/cgroup/memory.max": f"{12 * GB}\n",
        "sys/fs/cgroup/memory.high": "max\n",
        "sys/fs/cgroup/memory.current": f"{3 * GB}\n",
        "sys/fs/cgroup/memory.stat": f"anon 100\nfile {2 * GB}\ninactive_file {GB}\n",
        "sys/fs/cgroup/cpu.max": "250000 100000\n",
        "sys/fs/cgroup/cpuset.cpus.effective": "8-15\n",
    }


def container_v1() -> dict[str, str]:
    """A container under version 1: CPUs 0 and 2, half of one's time, 2 GB of which 1.5 GB are in use."""
    groups = "sys/fs/cgroup"
    return {
        "proc/cpuinfo": x86(8, 1, "Intel(R) Xeon(R) E-2278G CPU @ 3.40GHz", "avx2 fma"),
        "proc/meminfo": meminfo(62, 40),
        "proc/self/cgroup": "12:cpuset:/docker/f1\n9:memory:/docker/f1\n4:cpu,cpuacct:/docker/f1\n0::/\n",
        "proc/self/mountinfo": (
            "700 690 0:28 /docker/f1 /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n"
            "701 690 0:29 /docker/f1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
            "702 690 0:30 /docker/f1 /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
        ),
        f"{groups}/cpuset/cpuset.cpus": "0,2\n",
        f"{groups}/cpuset/cpuset.effective_cpus": "0,2\n",
        f"{groups}/memory/memory.limit_in_bytes": f"{2 * GB}\n",
        f"{groups}/memory/memory.usage_in_bytes": f"{int(1.75 * GB)}\n",
        f"{groups}/memory/memory.stat": f"cache 1\ntotal_inactive_file {GB // 4}\n",
        f"{groups}/cpu,cpuacct/cpu.cfs_quota_us": "150000\n",
        f"{groups}/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
