"""One process and the machine around it, from a few small files: cheap enough to be read twice a minute."""

import os
from pathlib import Path

from msgspec import Struct

from btmd.hardware.control_groups import control_groups, read_text
from btmd.hardware.memory import group_limit, group_used, meminfo

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
UNLIMITED_BYTES = 1 << 60
"""Control groups of version 1 without a limit name a number near the largest there is."""


class ProcessReading(Struct, frozen=True):
    """A process now. Bytes and seconds; what the kernel does not show is None, ``state`` empty where it is gone."""

    state: str = ""
    cpu_s: float = 0.0
    rss_bytes: int = 0
    address_bytes: int = 0
    address_limit_bytes: int | None = None
    major_faults: int | None = None
    read_bytes: int | None = None
    group_bytes: int | None = None
    group_limit_bytes: int | None = None


class MachineReading(Struct, frozen=True):
    """The machine now: memory, and counters since it was started."""

    total_bytes: int
    available_bytes: int
    busy_s: float
    """Of all processors together; time spent waiting for disks is none."""
    cores: int
    throttles: int | None
    """Times that processors slowed down for heat; None where that is not counted."""


def read_process(pid: int, root: Path = Path("/")) -> ProcessReading:
    """What is known of process ``pid``."""
    folder = root / "proc" / str(pid)
    # The name in brackets may hold anything, brackets and spaces too.
    fields = read_text(folder / "stat").rpartition(")")[2].split()
    if len(fields) < 22:
        return ProcessReading()
    group, group_limit_bytes = _tightest_group(pid, root)
    return ProcessReading(
        state=fields[0],
        cpu_s=sum(int(field) for field in fields[11:15]) / CLOCK_TICKS,
        rss_bytes=int(fields[21]) * PAGE_BYTES,
        address_bytes=int(fields[20]),
        address_limit_bytes=_address_limit(read_text(folder / "limits")),
        major_faults=int(fields[9]),
        read_bytes=_named_number(read_text(folder / "io"), "read_bytes:"),
        group_bytes=group,
        group_limit_bytes=group_limit_bytes,
    )


def read_machine(root: Path = Path("/")) -> MachineReading:
    """What is known of the whole machine."""
    table = meminfo(read_text(root / "proc/meminfo"))
    lines = read_text(root / "proc/stat").splitlines()
    times = [int(field) for field in lines[0].split()[1:9]] if lines else []
    busy = sum(times) - sum(times[3:5])
    return MachineReading(
        total_bytes=table.get("MemTotal", 0),
        available_bytes=table.get("MemAvailable", table.get("MemFree", 0)),
        busy_s=busy / CLOCK_TICKS,
        cores=max(1, sum(line.startswith("cpu") and line[3:4].isdigit() for line in lines)),
        throttles=_throttles(root),
    )


def _tightest_group(pid: int, root: Path) -> tuple[int | None, int | None]:
    """Use and limit of the control group with the least room left."""
    found: list[tuple[int, int, int]] = []
    for group in control_groups("memory", root, str(pid)):
        limit = group_limit(group)
        if limit is not None and limit < UNLIMITED_BYTES:
            used = group_used(group)
            found.append((limit - used, used, limit))
    return min(found)[1:] if found else (None, None)


def _address_limit(limits: str) -> int | None:
    known = []
    for line in limits.splitlines():
        if line.startswith(("Max address space", "Max data size")):
            soft = line.split()[-3]
            if soft.isdigit():
                known.append(int(soft))
    return min(known, default=None)


def _named_number(text: str, name: str) -> int | None:
    for line in text.splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return None


def _throttles(root: Path) -> int | None:
    counts = [
        read_text(path).strip()
        for path in root.glob("sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count")
    ]
    return sum(int(count) for count in counts if count.isdigit()) if counts else None
