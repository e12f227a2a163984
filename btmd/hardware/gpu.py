"""GPUs: NVIDIA's through their management library, others by name only.

Nothing here needs a GPU, a driver or a library to be there. What is there but cannot be used is told in a sentence;
a machine without any is not told about it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml

from btmd.domain.hardware import Gpu, GpuProcess
from btmd.hardware.control_groups import read_text

PCI_DISPLAY_CLASS = "0x03"
PCI_MAKERS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}


@dataclass(frozen=True, slots=True)
class FoundGpus:
    """GPUs that answer, and sentences about those that do not."""

    gpus: tuple[Gpu, ...] = ()
    problems: tuple[str, ...] = ()
    driver_version: str | None = None
    other_gpus: tuple[str, ...] = ()


def read_gpus(root: Path = Path("/"), nvml: Any = pynvml) -> FoundGpus:
    """Ask the driver about every NVIDIA GPU; ``nvml`` is the management library's module."""
    makers = _pci_makers(root)
    others = tuple(sorted(makers - {"NVIDIA"}))
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        problem = _init_problem(error, nvml, present="NVIDIA" in makers)
        return FoundGpus(problems=(problem,) if problem else (), other_gpus=others)
    try:
        gpus, problems = _read_all(nvml)
        version = _optional(nvml, nvml.nvmlSystemGetDriverVersion)
    finally:
        _optional(nvml, nvml.nvmlShutdown)
    return FoundGpus(gpus, problems, _text(version) if version is not None else None, others)


def _pci_makers(root: Path) -> set[str]:
    found = set()
    for device in root.glob("sys/bus/pci/devices/*"):
        if read_text(device / "class").startswith(PCI_DISPLAY_CLASS):
            maker = PCI_MAKERS.get(read_text(device / "vendor").strip())
            if maker:
                found.add(maker)
    return found


def _init_problem(error: Exception, nvml: Any, *, present: bool) -> str:
    """Why the driver does not answer; empty when there is no GPU to speak of."""
    code = getattr(error, "value", None)
    if code == nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        return "The NVIDIA driver was updated but the old one is still loaded: restart the machine to use its GPU."
    if not present:
        return ""
    if code == nvml.NVML_ERROR_NO_PERMISSION:
        return "There is an NVIDIA GPU, but this user may not use it: its device files do not allow it."
    return "There is an NVIDIA GPU, but its driver is not installed or not loaded, so it is not used."


def _read_all(nvml: Any) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    gpus: list[Gpu] = []
    problems: list[str] = []
    for index in range(_optional(nvml, nvml.nvmlDeviceGetCount) or 0):
        try:
            gpus.append(_read_one(nvml, index))
        except nvml.NVMLError as error:
            if getattr(error, "value", None) == nvml.NVML_ERROR_GPU_IS_LOST:
                problems.append(f"GPU {index} no longer answers (it was lost): restart the machine to use it again.")
            else:
                problems.append(f"GPU {index} cannot be read and is not used: {error}.")
    return tuple(gpus), tuple(problems)


def _read_one(nvml: Any, index: int) -> Gpu:
    """One GPU. Raises NVMLError when even its memory cannot be read, for then it cannot be planned with."""
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    name = nvml.nvmlDeviceGetName(handle)
    capability = _optional(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle) or (0, 0)
    rates = _optional(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    return Gpu(
        index=index,
        name=_text(name),
        total_bytes=int(memory.total),
        free_bytes=int(memory.free),
        used_bytes=int(memory.used),
        compute_capability=(int(capability[0]), int(capability[1])),
        utilization=None if rates is None else float(rates.gpu),
        temperature_c=_optional(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        processes=_processes(nvml, handle),
        uuid=_text(_optional(nvml, nvml.nvmlDeviceGetUUID, handle) or ""),
    )


def _processes(nvml: Any, handle: Any) -> tuple[GpuProcess, ...]:
    running = _optional(nvml, nvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
    return tuple(
        GpuProcess(int(process.pid), None if process.usedGpuMemory is None else int(process.usedGpuMemory))
        for process in running
    )


def _optional(nvml: Any, ask: Callable[..., Any], *given: Any) -> Any:
    """The answer, or None where this GPU or driver does not offer it."""
    try:
        return ask(*given)
    except nvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
