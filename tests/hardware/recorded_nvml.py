"""A driver for tests: the only thing here that is not real, since the hardware may be missing."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from btmd.hardware.nvml import Nvml

GB = 1024**3


class RecordedError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"error {value}")
        self.value = value


class RecordedNvml:
    """Answers as an RTX 4090 does; ``init`` fails the start, ``lost_after`` loses the GPU at that question."""

    NVMLError = RecordedError
    NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NO_PERMISSION, NVML_ERROR_DRIVER_NOT_LOADED = 3, 4, 9
    NVML_ERROR_GPU_IS_LOST, NVML_ERROR_RESET_REQUIRED, NVML_ERROR_LIB_RM_VERSION_MISMATCH = 15, 16, 18
    NVML_TEMPERATURE_GPU, NVML_TEMPERATURE_THRESHOLD_SLOWDOWN, NVML_CLOCK_SM = 0, 1, 1
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC = 1, 0

    def __init__(
        self,
        *,
        init: int = 0,
        lost: tuple[int, ...] = (),
        count: int = 0,
        bare: bool = False,
        cuda: int = 13000,
        capability: tuple[int, int] = (8, 9),
        split: int | None = None,
        ecc_errors: int | None = None,
        throttle: int = 0,
        lost_after: int | None = None,
    ) -> None:
        self.init, self.lost, self.count, self.bare = init, lost, count, bare
        self.cuda, self.capability, self.split = cuda, capability, split
        self.ecc_errors, self.throttle, self.lost_after = ecc_errors, throttle, lost_after
        self.open = 0
        self.asked = 0

    def _ask(self, answer: Any, *, always: bool = False) -> Any:
        """An answer about a device, unless it is lost by now, or too plain to know."""
        self.asked += 1
        if self.lost_after is not None and self.asked > self.lost_after:
            raise RecordedError(self.NVML_ERROR_GPU_IS_LOST)
        if self.bare and not always:
            raise RecordedError(self.NVML_ERROR_NOT_SUPPORTED)
        return answer

    def nvmlInit(self) -> None:
        if self.init:
            raise RecordedError(self.init)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.95.05"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return self.cuda

    def nvmlDeviceGetCount(self) -> int:
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index in self.lost:
            raise RecordedError(self.NVML_ERROR_GPU_IS_LOST)
        return self._ask(index, always=True)  # type: ignore[no-any-return]

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:
        gb = 10 if isinstance(handle, str) else 24
        return self._ask(SimpleNamespace(total=gb * GB, free=(gb - 4) * GB, used=4 * GB), always=True)

    def nvmlDeviceGetName(self, handle: Any) -> bytes:
        return self._ask(b"NVIDIA GeForce RTX 4090", always=True)  # type: ignore[no-any-return]

    def nvmlDeviceGetUUID(self, handle: Any) -> str:
        return self._ask(handle if isinstance(handle, str) else f"GPU-{handle}")  # type: ignore[no-any-return]

    def nvmlDeviceGetCudaComputeCapability(self, handle: Any) -> Any:
        return self._ask(self.capability)

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:
        return self._ask(SimpleNamespace(gpu=37))

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int:
        return self._ask(61)  # type: ignore[no-any-return]

    def nvmlDeviceGetTemperatureThreshold(self, handle: Any, threshold: int) -> int:
        return self._ask(93)  # type: ignore[no-any-return]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any) -> int:
        return self._ask(self.throttle)  # type: ignore[no-any-return]

    def nvmlDeviceGetClockInfo(self, handle: Any, clock: int) -> int:
        return self._ask(1500)  # type: ignore[no-any-return]

    def nvmlDeviceGetMaxClockInfo(self, handle: Any, clock: int) -> int:
        return self._ask(2500)  # type: ignore[no-any-return]

    def nvmlDeviceGetEccMode(self, handle: Any) -> Any:
        if self.ecc_errors is None:
            raise RecordedError(self.NVML_ERROR_NOT_SUPPORTED)
        return self._ask([1, 1])

    def nvmlDeviceGetTotalEccErrors(self, handle: Any, error_type: int, counter_type: int) -> int:
        assert (error_type, counter_type) == (1, 0)
        return self._ask(self.ecc_errors)  # type: ignore[no-any-return]

    def nvmlDeviceGetMigMode(self, handle: Any) -> Any:
        if self.split is None:
            raise RecordedError(self.NVML_ERROR_NOT_SUPPORTED)
        return self._ask([1, 1])

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Any) -> int:
        return self._ask(7)  # type: ignore[no-any-return]

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, index: int) -> Any:
        if index >= (self.split or 0):
            raise RecordedError(self.NVML_ERROR_NOT_SUPPORTED)
        return self._ask(f"MIG-{index}")

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> Any:
        return self._ask([_process(7, GB), _process(8, None)])

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: Any) -> Any:
        return self._ask([_process(7, GB), _process(3, 200 * 1024**2)])


def _process(pid: int, used: int | None) -> Any:
    return SimpleNamespace(pid=pid, usedGpuMemory=used)


def loaded(nvml: RecordedNvml) -> Callable[[], Nvml]:
    """The way the driver's library is come by."""
    return lambda: nvml


def missing() -> Nvml | None:
    """A machine without the driver's library."""
    return None
