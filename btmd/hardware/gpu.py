"""GPUs: NVIDIA's through their management library, others by name only.

Nothing here needs a GPU, a driver or a library to be there. What is there but cannot be used is told in a sentence;
a machine without any is not told about it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct

from btmd.domain.hardware import Gpu
from btmd.hardware.control_groups import read_text
from btmd.hardware.gpu_reading import as_text, optional, read_gpu
from btmd.hardware.nvml import Nvml, load_nvml

PCI_DISPLAY_CLASS = "0x03"
PCI_MAKERS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
NO_DRIVER = "There is an NVIDIA GPU, but its driver is not installed or not loaded, so it is not used."


class FoundGpus(Struct, frozen=True):
    """GPUs that answer, and sentences about those that do not."""

    gpus: tuple[Gpu, ...] = ()
    problems: tuple[str, ...] = ()
    driver_version: str | None = None
    other_gpus: tuple[str, ...] = ()
    driver_cuda_version: str = ""


def read_gpus(root: Path = Path("/"), load: Callable[[], Nvml | None] = load_nvml) -> FoundGpus:
    """Ask the driver about every NVIDIA GPU; ``load`` gives the management library where there is one."""
    makers = _pci_makers(root)
    others = tuple(sorted(makers - {"NVIDIA"}))
    nvml = load()
    if nvml is None:
        return FoundGpus(problems=(NO_DRIVER,) if "NVIDIA" in makers else (), other_gpus=others)
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        problem = _init_problem(error, nvml, present="NVIDIA" in makers)
        return FoundGpus(problems=(problem,) if problem else (), other_gpus=others)
    try:
        gpus, problems = _read_all(nvml, root)
        version = _asked(nvml, nvml.nvmlSystemGetDriverVersion)
        cuda = _asked(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2)
    finally:
        _asked(nvml, nvml.nvmlShutdown)
    return FoundGpus(
        gpus,
        problems,
        None if version is None else as_text(version),
        others,
        "" if not cuda else f"{cuda // 1000}.{cuda % 1000 // 10}",
    )


def _pci_makers(root: Path) -> set[str]:
    found = set()
    for device in root.glob("sys/bus/pci/devices/*"):
        if read_text(device / "class").startswith(PCI_DISPLAY_CLASS):
            maker = PCI_MAKERS.get(read_text(device / "vendor").strip())
            if maker:
                found.add(maker)
    return found


def _init_problem(error: Exception, nvml: Nvml, *, present: bool) -> str:
    """Why the driver does not answer; empty when there is no GPU to speak of."""
    code = getattr(error, "value", None)
    if code == nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        return "The NVIDIA driver was updated but the old one is still loaded: restart the machine to use its GPU."
    if not present:
        return ""
    if code == nvml.NVML_ERROR_NO_PERMISSION:
        return "There is an NVIDIA GPU, but this user may not use it: its device files do not allow it."
    return NO_DRIVER


def _read_all(nvml: Nvml, root: Path) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    gpus: list[Gpu] = []
    problems: list[str] = []
    for index in range(_asked(nvml, nvml.nvmlDeviceGetCount) or 0):
        try:
            gpu, problem = read_gpu(nvml, index, root)
        except nvml.NVMLError as error:
            problems.append(_broken(index, error, nvml))
            continue
        if gpu is not None:
            gpus.append(gpu)
        if problem:
            problems.append(problem)
    return tuple(gpus), tuple(problems)


def _broken(index: int, error: Exception, nvml: Nvml) -> str:
    code = getattr(error, "value", None)
    if code == nvml.NVML_ERROR_GPU_IS_LOST:
        return f"GPU {index} no longer answers (it was lost): restart the machine to use it again."
    if code == nvml.NVML_ERROR_RESET_REQUIRED:
        return f"GPU {index} has to be reset before it can be used: run nvidia-smi --gpu-reset, or restart the machine."
    return f"GPU {index} cannot be read and is not used: {error}."


def _asked(nvml: Nvml, ask: Callable[..., Any]) -> Any:
    """The system's answer; None also where a lost GPU keeps the library from answering."""
    try:
        return optional(nvml, ask)
    except nvml.NVMLError:
        return None
