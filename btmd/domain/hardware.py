"""What a machine can do, as plain values; ``btmd/hardware`` reads them from the machine."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor as this process may use it.

    ``usable_cores`` is what affinity and the control group's quota leave of the physical cores (never under 1);
    ``logical_cores`` counts hyper-threads of the whole machine.
    """

    model: str
    logical_cores: int
    physical_cores: int
    usable_cores: int
    instruction_sets: tuple[str, ...] = ()
    native_bf16: bool = False
    quota_cores: float | None = None
    """Cores' worth of time the control group grants; None without a limit."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Main memory in bytes; ``total`` and ``available`` already respect the control group's limit."""

    total_bytes: int
    available_bytes: int
    limit_bytes: int | None = None
    """The control group's limit; None when there is none below the machine's own memory."""
    swap_free_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system that holds the state folder; ``free_bytes`` is what an ordinary user may still write."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that holds memory on a GPU; the memory is None where the driver does not tell."""

    pid: int
    used_bytes: int | None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU. Memory in bytes, ``utilization`` in percent (None where the driver does not tell)."""

    index: int
    name: str
    total_bytes: int
    free_bytes: int
    used_bytes: int
    compute_capability: tuple[int, int] = (0, 0)
    utilization: float | None = None
    temperature_c: int | None = None
    processes: tuple[GpuProcess, ...] = ()
    uuid: str = ""

    @property
    def native_bf16(self) -> bool:
        """Whether it multiplies bf16 itself: Ampere (8.0) and later."""
        return self.compute_capability >= (8, 0)


@dataclass(frozen=True, slots=True)
class Hardware:
    """Everything a plan looks at. ``problems`` are sentences about what is there but cannot be used."""

    cpu: Cpu
    memory: Memory
    disk: Disk
    gpus: tuple[Gpu, ...] = ()
    problems: tuple[str, ...] = ()
    driver_version: str | None = None
    other_gpus: tuple[str, ...] = ()
    """Makers of GPUs that btmd cannot train on, such as ``AMD``."""

    @property
    def best_gpu(self) -> Gpu | None:
        """The GPU with the most free memory, the lowest index first among equals."""
        return max(self.gpus, key=lambda gpu: (gpu.free_bytes, -gpu.index), default=None)

    @property
    def supports_mixed_precision(self) -> bool:
        """Whether bf16 or fp16 is faster than fp32 here."""
        return bool(self.gpus) or self.cpu.native_bf16
