"""What a machine can do, as plain values; ``btmd/hardware`` reads them from the machine."""

from msgspec import Struct

NETWORK_FILESYSTEMS = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "ceph", "glusterfs", "lustre", "afs")


class Cpu(Struct, frozen=True):
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
    allowed_logical_cores: int = 0
    """Hyper-threads that affinity and cpuset leave to this process; 0 when it was not read."""
    numa_nodes: int = 1


class Memory(Struct, frozen=True):
    """Main memory in bytes; ``total`` and ``available`` already respect the control group's limit."""

    total_bytes: int
    available_bytes: int
    limit_bytes: int | None = None
    """The control group's limit; None when there is none below the machine's own memory."""
    swap_free_bytes: int = 0
    swap_total_bytes: int = 0


class Disk(Struct, frozen=True):
    """The file system that holds the state folder; ``free_bytes`` is what an ordinary user may still write."""

    total_bytes: int
    free_bytes: int
    filesystem: str = ""
    """Its kind as the kernel calls it, such as ``ext4``; empty where that cannot be told."""
    rotational: bool | None = None
    """Whether the disk turns; None where that cannot be told."""

    @property
    def on_network(self) -> bool:
        """Whether another machine holds it."""
        return self.filesystem.startswith(NETWORK_FILESYSTEMS)

    @property
    def in_memory(self) -> bool:
        """Whether it is gone after a restart."""
        return self.filesystem in ("tmpfs", "ramfs")


class Power(Struct, frozen=True):
    """``source`` is ``mains``, ``battery``, or empty where that cannot be told; the charge is in percent."""

    source: str = ""
    battery_percent: int | None = None


class GpuProcess(Struct, frozen=True):
    """A process that holds memory on a GPU; what the driver or the kernel does not tell is None."""

    pid: int
    used_bytes: int | None
    uid: int | None = None
    name: str = ""


class GpuInstance(Struct, frozen=True):
    """A part of a GPU that is split by MIG. Memory in bytes."""

    uuid: str
    total_bytes: int
    free_bytes: int


class Gpu(Struct, frozen=True):
    """One NVIDIA GPU. Memory in bytes, ``utilization`` in percent; what the driver does not tell is None.

    A GPU that is split by MIG shows the memory of its first instance, the one that computations get.
    """

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
    temperature_limit_c: int | None = None
    """Where it slows itself down."""
    throttle_reasons: tuple[str, ...] = ()
    """Why it runs below its full clock just now, such as ``thermal``; being idle is none."""
    ecc_enabled: bool | None = None
    uncorrected_errors: int | None = None
    """Memory errors since the driver was loaded that ECC could not mend."""
    mig_instances: tuple[GpuInstance, ...] = ()

    @property
    def native_bf16(self) -> bool:
        """Whether it multiplies bf16 itself: Ampere (8.0) and later."""
        return self.compute_capability >= (8, 0)


class TorchBuild(Struct, frozen=True):
    """The installed torch, read without importing it; ``cuda_version`` is empty for a build without CUDA."""

    version: str
    cuda_version: str = ""


class GpuRefusal(Struct, frozen=True):
    """Why GPUs that the driver sees cannot be trained on by the installed torch, and what mends it."""

    detail: str
    remedy: str


class Hardware(Struct, frozen=True):
    """Everything a plan looks at. ``problems`` are sentences about what is there but cannot be used."""

    cpu: Cpu
    memory: Memory
    disk: Disk
    gpus: tuple[Gpu, ...] = ()
    problems: tuple[str, ...] = ()
    driver_version: str | None = None
    other_gpus: tuple[str, ...] = ()
    """Makers of GPUs that btmd cannot train on, such as ``AMD``."""
    power: Power = Power()
    torch: TorchBuild | None = None
    """None where torch is not installed."""
    bitsandbytes_version: str | None = None
    """The library that QLoRA computes with; None where it is not installed."""
    has_compiler: bool = False
    """Whether a C++ compiler is there, which torch needs for compiling models."""
    driver_cuda_version: str = ""
    """The newest CUDA that the NVIDIA driver offers, such as ``13.0``."""
    gpu_refusal: GpuRefusal | None = None
    """Set when the driver sees GPUs that the installed torch cannot use: no training may start unnoticed on the CPU."""

    @property
    def best_gpu(self) -> Gpu | None:
        """The GPU with the most free memory, the lowest index first among equals; None where torch can use none."""
        if self.gpu_refusal is not None:
            return None
        return max(self.gpus, key=lambda gpu: (gpu.free_bytes, -gpu.index), default=None)

    @property
    def supports_mixed_precision(self) -> bool:
        """Whether bf16 or fp16 is faster than fp32 here."""
        return self.best_gpu is not None or self.cpu.native_bf16
