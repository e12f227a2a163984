"""What a machine means for training, in sentences."""

from collections.abc import Iterator

from btmd.domain.hardware import Cpu, Gpu, Hardware
from btmd.domain.units import GIB, format_bytes, format_count
from btmd.planning.usual_models import REASONABLE_HOURS, ROWS, LargestModel, largest_models

LITTLE_DISK_BYTES = 10 * GIB
HOT_BELOW_LIMIT_C = 5
TYPE_WORDS = {
    "lora_adaptation": "train with adapters",
    "qlora_adaptation": "train with adapters on a base of four bits (QLoRA)",
    "fine_tuning": "train in full",
}


def explain(hardware: Hardware) -> tuple[str, ...]:
    """The machine, what stands in the way, and what it is good for: whole sentences, most important first."""
    return (
        _machine(hardware),
        *_limits(hardware),
        *_gpus(hardware),
        *hardware.problems,
        *_good_for(hardware),
        *_surroundings(hardware),
    )


def _machine(hardware: Hardware) -> str:
    cpu, memory = hardware.cpu, hardware.memory
    bf16 = " with native bf16" if cpu.native_bf16 else ""
    return (
        f"This machine has {format_count(cpu.usable_cores, 'processor core')}{bf16} and "
        f"{format_bytes(memory.total_bytes)} of memory, of which {format_bytes(memory.available_bytes)} are free."
    )


def _limits(hardware: Hardware) -> Iterator[str]:
    cpu, memory = hardware.cpu, hardware.memory
    if cpu.usable_cores < cpu.physical_cores:
        yield f"It has {format_count(cpu.physical_cores, 'core')}, but {_held_back(cpu)}."
    if memory.limit_bytes is not None:
        yield f"Its memory is limited to {format_bytes(memory.limit_bytes)} by the control group that btmd runs in."


def _held_back(cpu: Cpu) -> str:
    if cpu.quota_cores is not None and round(cpu.quota_cores) <= cpu.usable_cores:
        return f"the control group that btmd runs in grants {cpu.quota_cores:g} of them"
    return f"btmd may run on {cpu.usable_cores} of them"


def _gpus(hardware: Hardware) -> Iterator[str]:
    refusal = hardware.gpu_refusal
    if refusal is not None:
        yield f"{refusal.detail} {refusal.remedy}"
        return
    for gpu in hardware.gpus:
        yield _gpu(gpu)
        yield from _gpu_worries(gpu)
    if hardware.other_gpus:
        yield f"The {' and '.join(hardware.other_gpus)} GPU in it is of a kind that btmd cannot train on."
    elif not hardware.gpus and not hardware.problems:
        yield "It has no GPU, so the processor computes."


def _gpu(gpu: Gpu) -> str:
    what = "It computes bf16 itself." if gpu.native_bf16 else "It computes fp16, but not bf16."
    text = f"GPU {gpu.index} is {gpu.name} with {format_bytes(gpu.total_bytes)}, {format_bytes(gpu.free_bytes)} free."
    if gpu.mig_instances:
        parts = format_count(len(gpu.mig_instances), "part")
        text = (
            f"GPU {gpu.index} is {gpu.name} split into {parts} (MIG); the first one is used, with "
            f"{format_bytes(gpu.total_bytes)}, {format_bytes(gpu.free_bytes)} free."
        )
    return f"{text} {what}"


def _gpu_worries(gpu: Gpu) -> Iterator[str]:
    holders = [process for process in gpu.processes if process.used_bytes is None or process.used_bytes > 0]
    if holders:
        each = ", ".join(
            f"process {process.pid}"
            + (f" ({process.name})" if process.name else "")
            + (f" with {format_bytes(process.used_bytes)}" if process.used_bytes else "")
            for process in holders[:4]
        )
        more = f" and {len(holders) - 4} more" if len(holders) > 4 else ""
        yield f"GPU {gpu.index} is also used by {each}{more}: ending them frees memory for training."
    if gpu.throttle_reasons:
        yield f"GPU {gpu.index} runs slower than it could just now: {', '.join(gpu.throttle_reasons)}."
    limit, now = gpu.temperature_limit_c, gpu.temperature_c
    if limit is not None and now is not None and now >= limit - HOT_BELOW_LIMIT_C:
        yield f"GPU {gpu.index} is hot: {now} °C, and it slows itself down at {limit} °C."


def _good_for(hardware: Hardware) -> Iterator[str]:
    found = largest_models(hardware)
    for training_type, largest in found.items():
        yield _largest(TYPE_WORDS[training_type], largest)
    yield f"Reasonable is a pass over {ROWS:,} rows of usual length in under {REASONABLE_HOURS:g} hours."
    if hardware.best_gpu is None:
        yield "A GPU is worth it for models larger than these, and for more than a few thousand rows."


def _largest(words: str, largest: LargestModel) -> str:
    if not largest.in_memory:
        return f"No model of a usual size can {words} in the memory that is free now."
    if not largest.in_reasonable_time:
        return f"Models up to about {_size(largest.in_memory)} {words}, but it takes very long."
    text = f"Models up to about {_size(largest.in_reasonable_time)} {words} in reasonable time"
    if largest.in_memory > largest.in_reasonable_time:
        return f"{text}; up to {_size(largest.in_memory)} fit in memory, but would take very long."
    return f"{text}; larger ones do not fit in the memory that is free now."


def _size(parameters: int) -> str:
    return f"{parameters / 1e9:g} billion weights" if parameters >= 1e9 else f"{parameters / 1e6:.0f} million weights"


def _surroundings(hardware: Hardware) -> Iterator[str]:
    disk, power = hardware.disk, hardware.power
    if disk.free_bytes < LITTLE_DISK_BYTES:
        yield f"Only {format_bytes(disk.free_bytes)} are free on its disk: checkpoints of a full training may not fit."
    if disk.on_network:
        yield "btmd's state folder is on another machine's disk: SQLite needs a local one to be safe."
    if disk.in_memory:
        yield "btmd's state folder is in memory only: everything in it is gone after a restart."
    if power.source == "battery":
        charge = "" if power.battery_percent is None else f" ({power.battery_percent} %)"
        yield f"It runs on its battery{charge}: plug it in before a training of more than a few minutes."
