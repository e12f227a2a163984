"""The search for a shape of training that fits the machine, changing as little as possible of what was asked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from btmd.domain.hardware import Gpu
from btmd.domain.model import ModelFacts
from btmd.domain.preset import TRAINING_TYPES
from btmd.domain.units import format_bytes
from btmd.errors import InvalidValue, NotEnoughMemory
from btmd.planning.disk import has_room
from btmd.planning.hyperparameters import HyperparameterValue
from btmd.planning.length import LengthOption, asked_length, length_options
from btmd.planning.memory import MemoryEstimate, Shape, estimate_memory, usable_bytes
from btmd.planning.request import PlanRequest
from btmd.planning.row_kinds import PACKED_TYPE, PAIR_TYPE, packed_tokens, refuse_unfit_rows

CPU_MICRO_BATCH = 4
"""Rows computed at once on a CPU: measured 303, 368, 378 and 417 tokens a second with 1, 2, 4 and 8."""
GPU_MICRO_BATCH = 64
USUAL_RANK = 16
SUPPORTED_TYPES = ("lora_adaptation", "fine_tuning")
EITHER_WAY_TYPES = (PACKED_TYPE, PAIR_TYPE)
"""Train an adapter of the rank ``lora_r``, or all weights where that is 0."""
FP16_COMPUTE_CAPABILITY = (6, 0)


@dataclass(frozen=True, slots=True)
class Fit:
    """A shape that was tried, and what it takes."""

    training_type: str
    device: str
    precision: str
    length: LengthOption
    gradient_checkpointing: bool
    micro_batch_size: int
    memory: MemoryEstimate
    available_bytes: int
    changed: tuple[str, ...] = ()
    """Permissions that this shape makes use of: ``lora``, ``cpu``, ``shorter``."""
    lora_r: int = 0
    """Rank of the adapter; 0 when all weights are trained."""

    @property
    def adapter(self) -> bool:
        return self.lora_r > 0

    @property
    def fits(self) -> bool:
        """Whether the device has enough memory for it."""
        return self.memory.total_bytes <= usable_bytes(self.available_bytes)


@dataclass(frozen=True, slots=True)
class _Device:
    name: str
    available_bytes: int
    precision: str
    needs: str = ""


def find_fit(request: PlanRequest, chosen: Mapping[str, HyperparameterValue], allow: frozenset[str]) -> tuple[Fit, Fit]:
    """The first shape that fits, and the one that was asked for. Raises NotEnoughMemory, InvalidValue.

    The order makes more memory never worse: the type before the device, before the length, before the speed.
    Where only the disk is too small for every shape, the first one is returned for the disk's own refusal.
    """
    wished: Fit | None = None
    smallest: Fit | None = None
    denied: Fit | None = None
    crowded: Fit | None = None
    for fit in _candidates(request, chosen):
        wished = wished or fit
        permitted = all(change in allow for change in fit.changed)
        if fit.fits and permitted:
            if has_room(request, chosen, fit.memory.trained_parameters, adapter=fit.adapter):
                return fit, wished
            crowded = crowded or fit
        if permitted and (smallest is None or fit.memory.total_bytes <= smallest.memory.total_bytes):
            smallest = fit
        if fit.fits and (denied is None or _change_rank(fit) < _change_rank(denied)):
            denied = fit
    assert wished is not None
    if crowded is not None:
        return crowded, wished
    assert smallest is not None
    raise _refusal(request.model, smallest, denied)


def _change_rank(fit: Fit) -> tuple[int, int]:
    """How much a shape departs from what was asked; an adapter is proposed before shorter rows or the CPU."""
    return len(fit.changed), min((list(PERMISSION_TEXTS).index(change) for change in fit.changed), default=0)


def training_type_of(request: PlanRequest, chosen: Mapping[str, HyperparameterValue]) -> str:
    """The type that was asked for. Raises InvalidValue for one that cannot be trained yet."""
    training_type = str(chosen.get("training_type", request.preset.training_type))
    if training_type not in SUPPORTED_TYPES:
        known = training_type in TRAINING_TYPES
        raise InvalidValue(
            f"The training type {training_type} {'is not available in this version' if known else 'is not known'}.",
            hint=f"Available: {', '.join(SUPPORTED_TYPES)}.",
        )
    return training_type


def _candidates(request: PlanRequest, chosen: Mapping[str, HyperparameterValue]) -> Iterator[Fit]:
    preset, model = request.preset, request.model
    asked_type = training_type_of(request, chosen)
    tokens = request.tokens
    refuse_unfit_rows(tokens, asked_type)
    if asked_type == PACKED_TYPE:
        tokens = packed_tokens(tokens, preset)
    batch = int(chosen.get("batch_size", preset.batch_size))  # type: ignore[arg-type]
    lengths = (
        [asked_length(int(chosen["max_length"]), model.context_length)]  # type: ignore[arg-type]
        if "max_length" in chosen
        else length_options(preset, tokens, model.context_length)
    )
    checkpointing = [bool(chosen["gradient_checkpointing"])] if "gradient_checkpointing" in chosen else [False, True]
    names = chosen.get("target_modules", preset.target_modules)
    assert isinstance(names, tuple)
    # A pair is two sequences that are computed together.
    sequences = 2 if asked_type == PAIR_TYPE else 1
    for training_type, lora_r, type_needs in _types(request, chosen, asked_type):
        for device in _devices(request, chosen):
            for length in lengths:
                needs = (type_needs, device.needs, "shorter" if length.needs_permission else "")
                changed = tuple(need for need in needs if need)
                for twice in checkpointing:
                    for micro in _micro_batches(batch, device.name, chosen):
                        rows = micro * sequences
                        shape = Shape(rows, length.max_length, device.precision, twice, lora_r, device.name, names)
                        yield Fit(
                            training_type,
                            device.name,
                            device.precision,
                            length,
                            twice,
                            micro,
                            estimate_memory(model, shape),
                            device.available_bytes,
                            changed,
                            lora_r,
                        )


def _types(
    request: PlanRequest, chosen: Mapping[str, HyperparameterValue], asked_type: str
) -> list[tuple[str, int, str]]:
    """Training type, rank (0: all weights) and the permission it needs: what was asked for, then an adapter instead."""
    rank = int(chosen.get("lora_r", request.preset.lora_r))  # type: ignore[arg-type]
    if asked_type == "fine_tuning":
        return [(asked_type, 0, ""), ("lora_adaptation", rank or USUAL_RANK, "lora")]
    if rank == 0 and asked_type not in EITHER_WAY_TYPES:
        raise InvalidValue(
            f"lora_r cannot be 0 here: {asked_type} trains an adapter.",
            hint="training_type=fine_tuning trains all weights.",
        )
    if rank == 0:
        return [(asked_type, 0, ""), (asked_type, USUAL_RANK, "lora")]
    return [(asked_type, rank, "")]


def _micro_batches(batch_size: int, device: str, chosen: Mapping[str, HyperparameterValue]) -> list[int]:
    """Rows at once, largest first, balanced so that the last part of a step is not a small rest."""
    if "micro_batch_size" in chosen:
        asked = int(chosen["micro_batch_size"])  # type: ignore[arg-type]
        if asked > batch_size:
            raise InvalidValue(
                f"micro_batch_size cannot be {asked}: a step has only {batch_size} rows.",
                hint="Make batch_size larger, or micro_batch_size smaller.",
            )
        return [asked]
    most = min(batch_size, CPU_MICRO_BATCH if device == "cpu" else GPU_MICRO_BATCH)
    parts = {-(-batch_size // limit) for limit in range(1, most + 1)}
    return sorted({-(-batch_size // count) for count in parts}, reverse=True)


def _devices(request: PlanRequest, chosen: Mapping[str, HyperparameterValue]) -> list[_Device]:
    hardware = request.hardware
    cpu_memory = hardware.memory.available_bytes
    asked = chosen.get("device")
    if asked == "cpu":
        return [_Device("cpu", cpu_memory, _cpu_precision(request, chosen))]
    if asked is not None:
        gpu = next((gpu for gpu in hardware.gpus if asked in (f"cuda:{gpu.index}", str(gpu.index))), None)
        if gpu is None:
            there = ["cpu", *(f"cuda:{gpu.index}" for gpu in hardware.gpus)]
            raise InvalidValue(f"There is no device {asked!r} here.", hint=f"This machine has: {', '.join(there)}.")
        return [_gpu_device(gpu, request, chosen)]
    best = hardware.best_gpu
    if best is None:
        return [_Device("cpu", cpu_memory, _cpu_precision(request, chosen))]
    devices = [_gpu_device(best, request, chosen)]
    if chosen.get("precision") != "fp16":
        devices.append(_Device("cpu", cpu_memory, _cpu_precision(request, chosen), needs="cpu"))
    return devices


def _gpu_device(gpu: Gpu, request: PlanRequest, chosen: Mapping[str, HyperparameterValue]) -> _Device:
    asked = chosen.get("precision")
    if asked == "bf16" and not gpu.native_bf16:
        raise InvalidValue(f"precision cannot be bf16: {gpu.name} cannot compute it.", hint="Use fp16 or fp32.")
    if asked is not None:
        precision = str(asked)
    elif not request.preset.use_mixed_precision:
        precision = "fp32"
    elif gpu.native_bf16:
        precision = "bf16"
    else:
        precision = "fp16" if gpu.compute_capability >= FP16_COMPUTE_CAPABILITY else "fp32"
    return _Device(f"cuda:{gpu.index}", gpu.free_bytes, precision)


def _cpu_precision(request: PlanRequest, chosen: Mapping[str, HyperparameterValue]) -> str:
    asked = chosen.get("precision")
    if asked == "fp16":
        raise InvalidValue("precision cannot be fp16 on a CPU.", hint="Use bf16 or fp32.")
    if asked is not None:
        return str(asked)
    return "bf16" if request.hardware.cpu.native_bf16 and request.preset.use_mixed_precision else "fp32"


PERMISSION_TEXTS = {
    "lora": "a small adapter instead of all weights",
    "shorter": "shorter rows",
    "cpu": "the CPU instead of the GPU",
}


def _refusal(model: ModelFacts, smallest: Fit, denied: Fit | None) -> NotEnoughMemory:
    where = "memory" if smallest.device == "cpu" else "GPU memory"
    what = "Training an adapter" if smallest.adapter else "Training all weights"
    detail = (
        f"{what} of this model ({model.parameters / 1e6:,.0f} million parameters) takes about "
        f"{format_bytes(smallest.memory.total_bytes)} of {where} at least; {format_bytes(smallest.available_bytes)} "
        f"are free, of which {format_bytes(usable_bytes(smallest.available_bytes))} can be used."
    )
    if denied is not None:
        changes = " and ".join(PERMISSION_TEXTS[change] for change in denied.changed)
        flag = ",".join(denied.changed)
        return NotEnoughMemory(
            detail, hint=f"With {changes} it takes about {format_bytes(denied.memory.total_bytes)}: add --allow {flag}."
        )
    return NotEnoughMemory(detail, hint="Close other programs, or choose a smaller model (`btmctl models list`).")
