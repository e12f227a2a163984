"""Main memory: total and available, with the control groups' limits taken into account."""

from pathlib import Path

from btmd.domain.hardware import Memory
from btmd.hardware.control_groups import ControlGroup, control_groups, read_text


def read_memory(root: Path = Path("/"), process: str = "self") -> Memory:
    """Memory that the process could use now, in bytes."""
    table = meminfo(read_text(root / "proc/meminfo"))
    total = table.get("MemTotal", 0)
    available = table.get("MemAvailable", table.get("MemFree", 0))
    limits: list[int] = []
    for group in control_groups("memory", root, process):
        limit = group_limit(group)
        if limit is None or limit >= total:
            continue
        limits.append(limit)
        available = min(available, max(0, limit - group_used(group)))
    limit = min(limits, default=None)
    return Memory(
        total_bytes=total if limit is None else limit,
        available_bytes=available,
        limit_bytes=limit,
        swap_free_bytes=table.get("SwapFree", 0),
        swap_total_bytes=table.get("SwapTotal", 0),
    )


def meminfo(text: str) -> dict[str, int]:
    """The kernel's table of memory, in bytes."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        key, _, rest = line.partition(":")
        number = rest.split()
        if number and number[0].isdigit():
            found[key] = int(number[0]) * 1024
    return found


def group_limit(group: ControlGroup) -> int | None:
    """What a control group grants; None where it sets no limit."""
    if group.version == 1:
        return group.read_number("memory.limit_in_bytes")
    # Beyond memory.high a process is slowed down until it hardly moves: as good as a limit.
    found = [group.read_number(name) for name in ("memory.max", "memory.high")]
    return min((limit for limit in found if limit is not None), default=None)


def group_used(group: ControlGroup) -> int:
    """Memory in use, without the file cache that the kernel gives back first."""
    if group.version == 1:
        used, cache = group.read_number("memory.usage_in_bytes"), group.read_stat("memory.stat", "total_inactive_file")
    else:
        used, cache = group.read_number("memory.current"), group.read_stat("memory.stat", "inactive_file")
    return max(0, (used or 0) - cache)
