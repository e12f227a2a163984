"""The processor: cores that may be used, instruction sets, native bf16."""

import os
from pathlib import Path

from btmd.domain.hardware import Cpu
from btmd.hardware.control_groups import ControlGroup, control_groups, read_text

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
ARM_MAKERS = {
    "0x41": "Arm",
    "0x48": "HiSilicon",
    "0x4e": "NVIDIA",
    "0x51": "Qualcomm",
    "0x61": "Apple",
    "0xc0": "Ampere",
}


def read_cpu(root: Path = Path("/"), allowed: frozenset[int] | None = None) -> Cpu:
    """The processor as this process may use it; ``allowed`` are the CPU numbers of its affinity."""
    processors = _processors(read_text(root / "proc/cpuinfo"))
    if allowed is None:
        allowed = frozenset(os.sched_getaffinity(0))
    # A set that shares nothing with the affinity is numbered otherwise, as in a container that hides CPUs.
    allowed = (allowed & (read_cpuset(root) or allowed)) or allowed
    first = next(iter(processors.values()), {})
    flags = set((first.get("flags") or first.get("Features") or "").split())
    cores = {number: _core(entry, number) for number, entry in processors.items()}
    allowed_cores = {cores.get(number, (str(number), "")) for number in allowed}
    quota = read_quota(root)
    usable = len(allowed_cores)
    if quota is not None:
        usable = min(usable, round(quota))
    return Cpu(
        model=_model(first),
        logical_cores=len(processors) or len(allowed),
        physical_cores=len(set(cores.values())) or len(allowed_cores),
        usable_cores=max(1, usable),
        instruction_sets=tuple(flag for flag in INTERESTING_FLAGS if flag in flags),
        native_bf16=any(flag in flags for flag in BF16_FLAGS),
        quota_cores=quota,
        allowed_logical_cores=len(allowed),
        numa_nodes=max(1, len(list(root.glob("sys/devices/system/node/node[0-9]*")))),
    )


def _model(entry: dict[str, str]) -> str:
    """The processor's name; ARM tells only who designed it."""
    named = entry.get("model name") or entry.get("Processor")
    if named:
        return named
    maker = ARM_MAKERS.get(entry.get("CPU implementer", ""))
    return f"{maker} processor" if maker else "unknown"


def _processors(text: str) -> dict[int, dict[str, str]]:
    """One table a processor, by its number (those that are off leave gaps); a board's name on ARM is passed over."""
    found: dict[int, dict[str, str]] = {}
    for block in text.split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines())
        entry = {key.strip(): value.strip() for key, _, value in pairs}
        if (number := entry.get("processor", "")).isdigit():
            found[int(number)] = entry
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


def read_cpuset(root: Path = Path("/")) -> frozenset[int]:
    """CPU numbers that the control groups leave to this process; empty without such a limit."""
    found: frozenset[int] = frozenset()
    for group in control_groups("cpuset", root):
        numbers = _numbers(_cpuset_text(group))
        if numbers:
            found = found & numbers if found else numbers
    return found


def _cpuset_text(group: ControlGroup) -> str:
    names = ("cpuset.cpus.effective",) if group.version == 2 else ("cpuset.effective_cpus", "cpuset.cpus")
    return next((text for name in names if (text := read_text(group.folder / name).strip())), "")


def _numbers(text: str) -> frozenset[int]:
    """``0-3,8`` as numbers; empty for anything else."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            return frozenset()
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)
