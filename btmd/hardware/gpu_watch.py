"""The GPU of a training, twice a minute: memory, heat and clocks, through a driver that is opened once."""

from collections.abc import Callable
from typing import Any

from btmd.domain.warning import GpuSample
from btmd.hardware.gpu_reading import optional, throttle_reasons
from btmd.hardware.nvml import Nvml, load_nvml

CONTEXT_BYTES = 700 * 1024**2
"""What a process holds on a GPU beside its tensors: kernels and libraries."""


class GpuWatch:
    """``load`` gives the management library where there is one; nothing is opened before it is asked."""

    def __init__(self, load: Callable[[], Nvml | None] = load_nvml) -> None:
        self._load = load
        self._nvml: Nvml | None = None

    def sample(self, index: int, pid: int, own_bytes: int | None) -> GpuSample | None:
        """GPU ``index``, used by process ``pid``, whose tensors take ``own_bytes``; None where it cannot be read."""
        nvml = self._opened()
        if nvml is None:
            return None
        try:
            return _read(nvml, index, pid, own_bytes)
        except nvml.NVMLError:
            # Lost, or the driver was changed: it is opened anew at the next look.
            self.close()
            return None

    def close(self) -> None:
        """Let go of the driver."""
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            try:
                nvml.nvmlShutdown()
            except nvml.NVMLError:
                return

    def _opened(self) -> Nvml | None:
        if self._nvml is None:
            found = self._load()
            if found is None:
                return None
            try:
                found.nvmlInit()
            except found.NVMLError:
                return None
            self._nvml = found
        return self._nvml


def _read(nvml: Nvml, index: int, pid: int, own_bytes: int | None) -> GpuSample:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    rates = optional(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    clock, highest = (
        optional(nvml, ask, handle, nvml.NVML_CLOCK_SM)
        for ask in (nvml.nvmlDeviceGetClockInfo, nvml.nvmlDeviceGetMaxClockInfo)
    )
    return GpuSample(
        index,
        int(memory.total),
        int(memory.used),
        _others(nvml, handle, pid, own_bytes, int(memory.used)),
        utilization=None if rates is None else float(rates.gpu),
        temperature_c=optional(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        clock_share=round(clock / highest, 3) if clock and highest else None,
        throttle=throttle_reasons(optional(nvml, nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)),
    )


def _others(nvml: Nvml, handle: Any, pid: int, own_bytes: int | None, used: int) -> int:
    """What other processes hold; by what is left over where the driver does not show which is whose."""
    held: dict[int, int] = {}
    for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
        for process in optional(nvml, ask, handle) or []:
            held[int(process.pid)] = int(process.usedGpuMemory or 0)
    if pid in held:
        return sum(size for other, size in held.items() if other != pid)
    return 0 if own_bytes is None else max(0, used - own_bytes - CONTEXT_BYTES)
