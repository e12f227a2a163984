"""What this machine can do, read without torch and read anew each time it matters."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from btmd.domain.hardware import Hardware, TorchBuild
from btmd.hardware.cpu import read_cpu
from btmd.hardware.disk import read_disk
from btmd.hardware.gpu import read_gpus
from btmd.hardware.memory import read_memory
from btmd.hardware.nvml import Nvml, load_nvml
from btmd.hardware.power import read_power
from btmd.hardware.torch_build import judge_torch, read_torch_build, read_version, without_code

__all__ = ["probe", "probed_values"]

COMPILERS = ("g++", "clang++", "c++")


def probe(
    state_dir: Path,
    root: Path = Path("/"),
    load: Callable[[], Nvml | None] = load_nvml,
    torch_build: Callable[[], TorchBuild | None] = read_torch_build,
) -> Hardware:
    """Everything a plan looks at; ``state_dir`` says which disk counts. Blocks for some milliseconds.

    ``root`` holds ``proc`` and ``sys``; ``load`` and ``torch_build`` find the driver's library and torch.
    """
    found = read_gpus(root, load)
    torch = torch_build()
    unused = without_code(torch, found.gpus)
    left_out = (f"GPU {gpu.index} ({gpu.name}) is not used: the installed torch has no code for it." for gpu in unused)
    return Hardware(
        cpu=read_cpu(root),
        memory=read_memory(root),
        disk=read_disk(state_dir, root),
        gpus=tuple(gpu for gpu in found.gpus if gpu not in unused),
        problems=(*found.problems, *left_out),
        driver_version=found.driver_version,
        other_gpus=found.other_gpus,
        power=read_power(root),
        torch=torch,
        bitsandbytes_version=read_version("bitsandbytes"),
        has_compiler=any(shutil.which(name) for name in COMPILERS),
        driver_cuda_version=found.driver_cuda_version,
        gpu_refusal=judge_torch(torch, found.gpus, found.driver_cuda_version),
    )


def probed_values(state_dir: Path) -> dict[str, Any]:
    """What ``probe`` finds, as JSON has it."""
    return dict(msgspec.to_builtins(probe(state_dir)))
