"""What one NVIDIA GPU tells about itself and about those who use it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from btmd.domain.hardware import Gpu, GpuInstance, GpuProcess
from btmd.hardware.control_groups import read_text
from btmd.hardware.nvml import Nvml

THROTTLE_REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "thermal",
    0x40: "thermal (hardware)",
    0x80: "power supply",
}
"""Bits of the driver's answer that mean slower than wished; idle clocks and set clocks are not among them."""


def read_gpu(nvml: Nvml, index: int, root: Path) -> tuple[Gpu | None, str]:
    """One GPU, or why there is none to compute on; a sentence also when something about it is not as it should be.

    Raises NVMLError when even its memory cannot be read, and when it is lost while it is being read.
    """
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    total, free, used = int(memory.total), int(memory.free), int(memory.used)
    uuid = as_text(optional(nvml, nvml.nvmlDeviceGetUUID, handle) or "")
    mode = optional(nvml, nvml.nvmlDeviceGetMigMode, handle)
    instances: tuple[GpuInstance, ...] = ()
    if mode is not None and mode[0]:
        instances = _instances(nvml, handle)
        if not instances:
            return None, f"GPU {index} is set to be split (MIG) but has no instance: make one with nvidia-smi mig."
        total, free, uuid = instances[0].total_bytes, instances[0].free_bytes, instances[0].uuid
        used = total - free
    capability = optional(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle) or (0, 0)
    rates = optional(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    ecc = optional(nvml, nvml.nvmlDeviceGetEccMode, handle)
    gpu = Gpu(
        index=index,
        name=as_text(nvml.nvmlDeviceGetName(handle)),
        total_bytes=total,
        free_bytes=free,
        used_bytes=used,
        compute_capability=(int(capability[0]), int(capability[1])),
        utilization=None if rates is None else float(rates.gpu),
        temperature_c=optional(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        processes=_processes(nvml, handle, root),
        uuid=uuid,
        temperature_limit_c=optional(
            nvml, nvml.nvmlDeviceGetTemperatureThreshold, handle, nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
        ),
        throttle_reasons=throttle_reasons(optional(nvml, nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)),
        ecc_enabled=None if ecc is None else bool(ecc[0]),
        uncorrected_errors=_uncorrected(nvml, handle) if ecc is not None and ecc[0] else None,
        mig_instances=instances,
    )
    return gpu, _worry(gpu)


def _worry(gpu: Gpu) -> str:
    if gpu.uncorrected_errors:
        return (
            f"GPU {gpu.index} ({gpu.name}) had {gpu.uncorrected_errors} memory errors that could not be mended: "
            "restart the machine; if they come back, results on it cannot be trusted."
        )
    return ""


def _instances(nvml: Nvml, handle: Any) -> tuple[GpuInstance, ...]:
    found = []
    for place in range(optional(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        instance = optional(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, place)
        memory = None if instance is None else optional(nvml, nvml.nvmlDeviceGetMemoryInfo, instance)
        if memory is not None:
            uuid = as_text(optional(nvml, nvml.nvmlDeviceGetUUID, instance) or "")
            found.append(GpuInstance(uuid, int(memory.total), int(memory.free)))
    return tuple(found)


def throttle_reasons(bits: int | None) -> tuple[str, ...]:
    """The driver's bits in words."""
    return tuple(reason for bit, reason in THROTTLE_REASONS.items() if bits and bits & bit)


def _uncorrected(nvml: Nvml, handle: Any) -> int | None:
    kind, since = nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
    found = optional(nvml, nvml.nvmlDeviceGetTotalEccErrors, handle, kind, since)
    return None if found is None else int(found)


def _processes(nvml: Nvml, handle: Any, root: Path) -> tuple[GpuProcess, ...]:
    found: dict[int, GpuProcess] = {}
    for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
        for process in optional(nvml, ask, handle) or []:
            used = None if process.usedGpuMemory is None else int(process.usedGpuMemory)
            # A program that computes and draws is in both lists, each time with all of its memory.
            found[int(process.pid)] = _process(int(process.pid), used, root)
    return tuple(found[pid] for pid in sorted(found))


def _process(pid: int, used_bytes: int | None, root: Path) -> GpuProcess:
    """The process with its owner and name, where the kernel shows those of others."""
    folder = root / "proc" / str(pid)
    for line in read_text(folder / "status").splitlines():
        key, _, rest = line.partition(":")
        if key == "Uid" and rest.split():
            return GpuProcess(pid, used_bytes, int(rest.split()[0]), read_text(folder / "comm").strip())
    return GpuProcess(pid, used_bytes)


def optional(nvml: Nvml, ask: Callable[..., Any], *given: Any) -> Any:
    """The answer, or None where this GPU or driver does not offer it; a lost GPU is raised, for it must not be used."""
    try:
        return ask(*given)
    except nvml.NVMLError as error:
        if getattr(error, "value", None) in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED):
            raise
        return None


def as_text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
