"""The processor: cores that may be used, instruction sets, native bf16."""

import os
from pathlib import Path

from btmd.domain.hardware import Cpu
from btmd.hardware.control_groups import control_groups, read_text

INTERESTING_FLAGS = (
    "avx",
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "sve",
    "sve2",
    "bf16",
    "i8mm",
)
BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")
"""Each of them means that bf16 products are computed as such, on x86 and on ARM."""


def read_cpu(root: Path = Path("/"), allowed: frozenset[int] | None = None) -> Cpu:
    """The processor as this process may use it; ``allowed`` are the CPU numbers of its affinity."""
    processors = _processors(read_text(root / "proc/cpuinfo"))
    if allowed is None:
        allowed = frozenset(os.sched_getaffinity(0))
    first = processors[0] if processors else {}
    flags = set((first.get("flags") or first.get("Features") or "").split())
    cores = {number: _core(entry, number) for number, entry in enumerate(processors)}
    allowed_cores = {cores.get(number, (str(number), "")) for number in allowed}
    quota = read_quota(root)
    usable = len(allowed_cores)
    if quota is not None:
        usable = min(usable, round(quota))
    return Cpu(
        model=first.get("model name") or first.get("Processor") or "unknown",
        logical_cores=len(processors) or len(allowed),
        physical_cores=len(set(cores.values())) or len(allowed_cores),
        usable_cores=max(1, usable),
        instruction_sets=tuple(flag for flag in INTERESTING_FLAGS if flag in flags),
        native_bf16=any(flag in flags for flag in BF16_FLAGS),
        quota_cores=quota,
    )


def _processors(text: str) -> list[dict[str, str]]:
    """One table a processor; blocks without a number (a board's name on ARM) are passed over."""
    found = []
    for block in text.split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines())
        entry = {key.strip(): value.strip() for key, _, value in pairs}
        if entry.get("processor", "").isdigit():
            found.append(entry)
    return found


def _core(entry: dict[str, str], number: int) -> tuple[str, str]:
    """Socket and core; a processor that does not tell is a core of its own."""
    if "core id" not in entry:
        return str(number), ""
    return entry.get("physical id", "0"), entry["core id"]


def read_quota(root: Path = Path("/")) -> float | None:
    """Cores' worth of time that the control groups grant; None without a limit."""
    granted: list[float] = []
    for group in control_groups("cpu", root):
        if group.version == 2:
            parts = read_text(group.folder / "cpu.max").split()
            if len(parts) == 2 and all(part.isdigit() for part in parts) and int(parts[1]) > 0:
                granted.append(int(parts[0]) / int(parts[1]))
        else:
            quota, period = group.read_number("cpu.cfs_quota_us"), group.read_number("cpu.cfs_period_us")
            if quota is not None and period and quota > 0:
                granted.append(quota / period)
    return min(granted, default=None)
