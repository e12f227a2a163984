"""The search for a shape of training that fits the machine, changing as little as possible of what was asked."""

from collections.abc import Mapping

from msgspec import Struct

from btmd.domain.units import format_bytes
from btmd.errors import NotEnoughMemory
from btmd.planning.candidates import Candidate, candidates
from btmd.planning.disk import has_room
from btmd.planning.forecast import GPU_HOST_BYTES
from btmd.planning.hyperparameters import HyperparameterValue
from btmd.planning.length import LengthOption
from btmd.planning.memory import MemoryEstimate, Shape, estimate_memory, usable_bytes
from btmd.planning.request import PlanRequest
from btmd.planning.training_types import QLORA, require_package


class Fit(Struct, frozen=True):
    """A shape that was tried, and what it takes."""

    training_type: str
    device: str
    precision: str
    length: LengthOption
    gradient_checkpointing: bool
    micro_batch_size: int
    memory: MemoryEstimate
    available_bytes: int
    shape: Shape
    changed: tuple[str, ...] = ()
    """Permissions that this shape makes use of: ``lora``, ``qlora``, ``cpu``, ``shorter``."""
    lora_r: int = 0
    """Rank of the adapter; 0 when all weights are trained."""
    host_fits: bool = True
    """Whether the main memory holds the trainer's process; with the CPU that is part of ``memory``."""

    @property
    def adapter(self) -> bool:
        return self.lora_r > 0

    @property
    def fits(self) -> bool:
        """Whether the device has enough memory for it, and the machine for the process."""
        return self.host_fits and self.memory.total_bytes <= usable_bytes(self.available_bytes)


PERMISSION_TEXTS = {
    "lora": "a small adapter instead of all weights (training_type=lora_adaptation)",
    "qlora": "a small adapter on a base of four bits (training_type=qlora_adaptation)",
    "shorter": "shorter rows",
    "cpu": "the CPU instead of the GPU",
}
MEMORY_KEYS = ("gradient_checkpointing", "micro_batch_size", "max_length", "precision", "device")
"""Values that can keep a training from fitting when a person sets them, what changes least first."""


def find_fit(request: PlanRequest, chosen: Mapping[str, HyperparameterValue], allow: frozenset[str]) -> tuple[Fit, Fit]:
    """The first shape that fits, and the one that was asked for.

    Where only the disk is too small for every shape, the first one is returned for the disk's own refusal. Raises
    NotEnoughMemory, InvalidValue, and PackageMissing where only a missing package is in the way.
    """
    wished: Fit | None = None
    smallest: Fit | None = None
    denied: Fit | None = None
    crowded: Fit | None = None
    for candidate in candidates(request, chosen, allow):
        fit = _fit(request, candidate)
        wished = wished or fit
        permitted = all(change in allow for change in fit.changed)
        if fit.fits and permitted:
            if has_room(request, chosen, fit.memory.trained_parameters, adapter=fit.adapter):
                if fit.training_type == QLORA:
                    require_package(request.hardware)
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
    raise _refusal(request, chosen, allow, smallest, denied)


def _fit(request: PlanRequest, candidate: Candidate) -> Fit:
    return Fit(
        candidate.option.training_type,
        candidate.device.name,
        candidate.device.precision,
        candidate.length,
        candidate.shape.gradient_checkpointing,
        candidate.micro_batch_size,
        estimate_memory(request.model, candidate.shape),
        candidate.device.available_bytes,
        candidate.shape,
        candidate.changed,
        candidate.option.lora_r,
        candidate.device.is_cpu or usable_bytes(request.hardware.memory.available_bytes) >= GPU_HOST_BYTES,
    )


def _change_rank(fit: Fit) -> tuple[int, int]:
    """How much a shape departs from what was asked; an adapter is proposed before shorter rows or the CPU."""
    return len(fit.changed), min((list(PERMISSION_TEXTS).index(change) for change in fit.changed), default=0)


def _refusal(
    request: PlanRequest,
    chosen: Mapping[str, HyperparameterValue],
    allow: frozenset[str],
    smallest: Fit,
    denied: Fit | None,
) -> NotEnoughMemory:
    where = "memory" if smallest.device == "cpu" else "GPU memory"
    what = "Training an adapter" if smallest.adapter else "Training all weights"
    detail = (
        f"{what} of this model ({request.model.parameters / 1e6:,.0f} million parameters) takes about "
        f"{format_bytes(smallest.memory.total_bytes)} of {where} at least; {format_bytes(smallest.available_bytes)} "
        f"are free, of which {format_bytes(usable_bytes(smallest.available_bytes))} can be used."
    )
    if not smallest.host_fits:
        available = request.hardware.memory.available_bytes
        detail = (
            f"A trainer takes about {format_bytes(GPU_HOST_BYTES)} of main memory beside the GPU's own; "
            f"{format_bytes(available)} are free, of which {format_bytes(usable_bytes(available))} can be used."
        )
    key = _in_the_way(request, chosen, allow)
    if key is not None:
        return NotEnoughMemory(
            f"{detail} That is with {key}={_shown(chosen[key])}, as you asked.",
            hint=f"Without --set {key}=... it fits.",
        )
    if denied is not None:
        changes = " and ".join(PERMISSION_TEXTS[change] for change in denied.changed)
        return NotEnoughMemory(
            detail,
            hint=f"With {changes} it takes about {format_bytes(denied.memory.total_bytes)}: "
            f"add --allow {','.join(denied.changed)}.",
            allow=denied.changed,
        )
    return NotEnoughMemory(detail, hint="Close other programs, or choose a smaller model (`btmctl models list`).")


def _in_the_way(request: PlanRequest, chosen: Mapping[str, HyperparameterValue], allow: frozenset[str]) -> str | None:
    """The one value set by a person without which it would fit."""
    for key in MEMORY_KEYS:
        if key in chosen:
            without = {name: value for name, value in chosen.items() if name != key}
            for candidate in candidates(request, without, allow):
                if all(change in allow for change in candidate.changed) and _fit(request, candidate).fits:
                    return key
    return None


def _shown(value: HyperparameterValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
