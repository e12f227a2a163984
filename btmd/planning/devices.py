"""Which devices a training could compute on, fastest first, and in which number format."""

from collections.abc import Mapping
from itertools import groupby

from msgspec import Struct

from btmd.domain.hardware import Gpu
from btmd.errors import InvalidValue
from btmd.planning.hyperparameters import HyperparameterValue
from btmd.planning.request import PlanRequest
from btmd.planning.training_types import quantises

FP16_COMPUTE_CAPABILITY = (6, 0)
A_GPU = "cuda"
"""Asks for one, whichever suits best."""
PRECISION_RANK = {"bf16": 0, "fp16": 1, "fp32": 2}


class Device(Struct, frozen=True):
    """A device with what is free on it; ``needs`` the permission ``cpu`` where a GPU is there."""

    name: str
    available_bytes: int
    precision: str
    needs: str = ""
    quantises: bool = False

    @property
    def is_cpu(self) -> bool:
        return self.name == "cpu"


def devices_for(request: PlanRequest, chosen: Mapping[str, HyperparameterValue]) -> list[Device]:
    """The devices worth trying: of equally fast ones only that with most free memory. Raises InvalidValue.

    What does not fit on that one fits on none of its equals. Which kinds there are does not depend on memory.
    """
    hardware = request.hardware
    asked = chosen.get("device")
    if asked == "cpu":
        return [_cpu(request, chosen)]
    if asked is not None and asked != A_GPU:
        gpu = next((gpu for gpu in hardware.gpus if asked in (f"cuda:{gpu.index}", str(gpu.index))), None)
        if gpu is None:
            there = ["cpu", *(f"cuda:{gpu.index}" for gpu in hardware.gpus)]
            raise InvalidValue(f"There is no device {asked!r} here.", hint=f"This machine has: {', '.join(there)}.")
        return [_gpu(gpu, request, chosen)]
    if not hardware.gpus:
        if asked == A_GPU:
            raise InvalidValue("There is no GPU here that can be used.", hint="This machine has: cpu.")
        return [_cpu(request, chosen)]
    gpus = sorted(
        (_gpu(gpu, request, chosen) for gpu in _gpus_for(request, chosen)),
        key=lambda device: (*_kind(device), -device.available_bytes, device.name),
    )
    found = [next(group) for _, group in groupby(gpus, key=_kind)]
    if asked is None and chosen.get("precision") != "fp16":
        found.append(_cpu(request, chosen, needs="cpu"))
    return found


def _kind(device: Device) -> tuple[int, bool]:
    return PRECISION_RANK[device.precision], not device.quantises


def _gpus_for(request: PlanRequest, chosen: Mapping[str, HyperparameterValue]) -> list[Gpu]:
    """Those that compute the format that was asked for; all of them where it was left open, or where none does."""
    gpus = list(request.hardware.gpus)
    if chosen.get("precision") == "bf16":
        return [gpu for gpu in gpus if gpu.native_bf16] or gpus
    return gpus


def _gpu(gpu: Gpu, request: PlanRequest, chosen: Mapping[str, HyperparameterValue]) -> Device:
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
    return Device(f"cuda:{gpu.index}", gpu.free_bytes, precision, quantises=quantises(gpu))


def _cpu(request: PlanRequest, chosen: Mapping[str, HyperparameterValue], needs: str = "") -> Device:
    hardware = request.hardware
    asked = chosen.get("precision")
    if asked == "fp16":
        raise InvalidValue("precision cannot be fp16 on a CPU.", hint="Use bf16 or fp32.")
    precision = "bf16" if hardware.cpu.native_bf16 and request.preset.use_mixed_precision else "fp32"
    return Device("cpu", hardware.memory.available_bytes, precision if asked is None else str(asked), needs)
