"""The training types: which can be trained, what each may give way to, and what each needs of the machine."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from btmd.domain.hardware import Gpu, Hardware
from btmd.domain.preset import TRAINING_TYPES
from btmd.errors import InvalidValue, PackageMissing
from btmd.planning.hyperparameters import HyperparameterValue
from btmd.planning.request import PlanRequest
from btmd.planning.row_kinds import PACKED_TYPE, PAIR_TYPE

LORA: Final = "lora_adaptation"
QLORA: Final = "qlora_adaptation"
FULL: Final = "fine_tuning"
SUPPORTED_TYPES = TRAINING_TYPES
EITHER_WAY_TYPES = (PACKED_TYPE, PAIR_TYPE)
"""Train an adapter of the rank ``lora_r``, or all weights where that is 0."""
USUAL_RANK = 16
QLORA_COMPUTE_CAPABILITY = (6, 0)
"""The oldest GPUs that bitsandbytes computes 4-bit products on."""
INSTALL_QLORA = "`btmctl doctor` shows the command that installs it."


class TypeOption(Struct, frozen=True):
    """A way to train. ``lora_r`` is 0 for all weights; ``needs`` the permission, empty for what was asked."""

    training_type: str
    lora_r: int
    needs: str = ""

    @property
    def quantised(self) -> bool:
        return self.training_type == QLORA


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


def type_options(request: PlanRequest, chosen: Mapping[str, HyperparameterValue]) -> list[TypeOption]:
    """What was asked for, then what it may give way to: all weights to an adapter, that to one on four bits.

    Raises InvalidValue and PackageMissing for what cannot be trained on this machine.
    """
    asked = training_type_of(request, chosen)
    rank = chosen.get("lora_r", request.preset.lora_r)
    assert isinstance(rank, int)
    if asked == FULL:
        options = [TypeOption(FULL, 0), TypeOption(LORA, rank or USUAL_RANK, "lora")]
        return [*options, *_quantised(request, rank or USUAL_RANK)]
    if asked in EITHER_WAY_TYPES:
        return [TypeOption(asked, rank)] if rank else [TypeOption(asked, 0), TypeOption(asked, USUAL_RANK, "lora")]
    if rank == 0:
        raise InvalidValue(
            f"lora_r cannot be 0 here: {asked} trains an adapter.",
            hint="training_type=fine_tuning trains all weights.",
        )
    if asked == QLORA:
        _require_quantising(request.hardware)
        return [TypeOption(QLORA, rank)]
    return [TypeOption(LORA, rank), *_quantised(request, rank)]


def quantises(gpu: Gpu) -> bool:
    """Whether it computes 4-bit products."""
    return gpu.compute_capability >= QLORA_COMPUTE_CAPABILITY


def _quantised(request: PlanRequest, rank: int) -> list[TypeOption]:
    """QLoRA in place of what does not fit, on machines that could run it, with what it needs installed or not."""
    possible = QLORA in SUPPORTED_TYPES and any(quantises(gpu) for gpu in request.hardware.gpus)
    return [TypeOption(QLORA, rank, "qlora")] if possible else []


def _require_quantising(hardware: Hardware) -> None:
    if not any(quantises(gpu) for gpu in hardware.gpus):
        raise InvalidValue(
            "training_type cannot be qlora_adaptation here: four-bit weights need an NVIDIA GPU (Pascal or later).",
            hint="Use --set training_type=lora_adaptation.",
        )
    require_package(hardware)


def require_package(hardware: Hardware) -> None:
    """Raises PackageMissing where QLoRA lacks its library."""
    if hardware.bitsandbytes_version is None:
        raise PackageMissing("QLoRA needs the package bitsandbytes, which is not installed.", hint=INSTALL_QLORA)
