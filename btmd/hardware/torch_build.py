"""Which torch is installed, and whether it can use the GPUs that the driver sees; torch itself is not imported."""

import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from btmd.domain.hardware import Gpu, GpuRefusal, TorchBuild
from btmd.hardware.control_groups import read_text

WHEELS_URL = "https://download.pytorch.org/whl/"
CUDA_WHEELS = ((13, 0), (12, 8), (12, 6), (11, 8))
"""Builds of torch that are offered, newest first."""
OLDEST_FOR_CUDA_13 = (7, 5)
"""CUDA 13 no longer computes on GPUs before Turing."""
BLACKWELL, CUDA_FOR_BLACKWELL = (10, 0), (12, 8)
"""GPUs from Blackwell on need CUDA 12.8."""
DRIVERS = {13: 580, 12: 525, 11: 450}
"""Oldest driver of each CUDA on Linux, by NVIDIA's table of compatibility."""

Version = tuple[int, int]


def read_torch_build(find: Callable[[str], metadata.Distribution] = metadata.distribution) -> TorchBuild | None:
    """The installed torch with the CUDA it was built for; None where there is none."""
    try:
        found = find("torch")
    except metadata.PackageNotFoundError:
        return None
    written = read_text(Path(str(found.locate_file("torch/version.py"))))
    match = re.search(r"^cuda\b[^=\n]*= *(None|'[^']*'|\"[^\"]*\")", written, re.MULTILINE)
    if match:
        return TorchBuild(found.version, "" if match[1] == "None" else match[1].strip("'\""))
    local = re.search(r"\+cu(\d+)(\d)$", found.version)
    return TorchBuild(found.version, f"{local[1]}.{local[2]}" if local else "")


def read_version(package: str) -> str | None:
    """The version of an installed package; None where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def judge_torch(torch: TorchBuild | None, gpus: tuple[Gpu, ...], driver_cuda_version: str) -> GpuRefusal | None:
    """Why the installed torch cannot use these GPUs, with what mends it; None when it can, or there are none.

    Within one major version CUDA promises that newer builds run on older drivers, so only majors are compared.
    """
    if not gpus or torch is None:
        return None
    driver = _version(driver_cuda_version)
    built = _version(torch.cuda_version)
    names = " and ".join(sorted({gpu.name for gpu in gpus}))
    if built is None:
        return GpuRefusal(
            f"The driver sees {names}, but the installed torch {torch.version} was built without CUDA.",
            _remedy(driver, gpus),
        )
    if driver is not None and built[0] > driver[0]:
        return GpuRefusal(
            f"The installed torch {torch.version} needs CUDA {torch.cuda_version}; the driver of {names} offers only "
            f"{driver_cuda_version}.",
            f"Update the NVIDIA driver{_at_least(built[0])}, or do without: {_remedy(driver, gpus)}",
        )
    if all(not _computes(built, gpu) for gpu in gpus):
        return GpuRefusal(
            f"The installed torch {torch.version} (CUDA {torch.cuda_version}) has no code for {names}.",
            _remedy(driver, gpus),
        )
    return None


def _computes(built: Version, gpu: Gpu) -> bool:
    """Whether a build for this CUDA has code for the GPU; one that tells no generation is believed to fit."""
    capability = gpu.compute_capability
    if capability == (0, 0):
        return True
    if capability >= BLACKWELL:
        return built >= CUDA_FOR_BLACKWELL
    return built < (13, 0) or capability >= OLDEST_FOR_CUDA_13


def without_code(torch: TorchBuild | None, gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """The GPUs that the installed torch has no code for, while it can use others."""
    built = _version(torch.cuda_version) if torch is not None else None
    unused = tuple(gpu for gpu in gpus if built is not None and not _computes(built, gpu))
    return unused if len(unused) < len(gpus) else ()


def _at_least(major: int) -> str:
    return f" to {DRIVERS[major]} or later" if major in DRIVERS else ""


def _remedy(driver: Version | None, gpus: tuple[Gpu, ...]) -> str:
    """The command that installs a build which fits driver and GPUs."""
    for build in CUDA_WHEELS:
        offered = driver is None or build[0] <= driver[0]
        if offered and any(_computes(build, gpu) for gpu in gpus):
            command = f"pip install --force-reinstall torch --index-url {WHEELS_URL}cu{build[0]}{build[1]}"
            # Where its environment lies is not for everybody to read; btmctl on this machine knows.
            what = "Install the build for this driver where btmd is installed (btmctl doctor shows the whole command)"
            return f"{what}: {command} - or train on the CPU with --set device=cpu."
    return "Update the NVIDIA driver, or train on the CPU with --set device=cpu."


def _version(text: str) -> Version | None:
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None
