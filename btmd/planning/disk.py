"""How much room on the disk a training needs, and keeping fewer checkpoints where there is little."""

from collections.abc import Mapping

from btmd.domain.model import ModelFacts
from btmd.domain.units import GIB, MIB, format_bytes
from btmd.errors import NotEnoughDisk
from btmd.planning.choices import Choices
from btmd.planning.hyperparameters import HyperparameterValue
from btmd.planning.memory import checkpoint_bytes, result_bytes
from btmd.planning.plan import DiskEstimate
from btmd.planning.request import PlanRequest

LOG_BYTES = 64 * MIB
"""Spool, logs and answers."""


def estimate_disk(model: ModelFacts, trained_parameters: int, *, adapter: bool, keep: int) -> DiskEstimate:
    """What a job folder holds at most: the newest ``keep`` checkpoints, the best, one being written, the result."""
    each = checkpoint_bytes(trained_parameters)
    result = result_bytes(model, trained_parameters, adapter=adapter)
    return DiskEstimate(each, keep + 2, result, each * (keep + 2) + result + LOG_BYTES)


def room_bytes(request: PlanRequest) -> int:
    """What may be written: the free bytes without the reserve of the setting ``disk.reserve_gb``."""
    reserve_gb = request.settings.get("disk.reserve_gb", 1.0)
    assert isinstance(reserve_gb, (int, float))
    return request.hardware.disk.free_bytes - int(reserve_gb * GIB)


def has_room(
    request: PlanRequest, chosen: Mapping[str, HyperparameterValue], trained_parameters: int, *, adapter: bool
) -> bool:
    """Whether a training of so many weights fits on the disk with the fewest checkpoints that may be kept."""
    keep = chosen.get("keep_checkpoints", 1)
    assert isinstance(keep, int)
    least = estimate_disk(request.model, trained_parameters, adapter=adapter, keep=keep)
    return least.total_bytes <= room_bytes(request)


def choose_checkpoints(choices: Choices, trained_parameters: int, *, adapter: bool) -> DiskEstimate:
    """Choose how many checkpoints are kept. Raises NotEnoughDisk when not even one fits beside the best."""
    model, room = choices.request.model, room_bytes(choices.request)
    free = choices.request.hardware.disk.free_bytes
    choices.choose_setting("keep_checkpoints", "checkpoints.keep", 2, "Two, in case the newest is damaged.")
    estimate = estimate_disk(model, trained_parameters, adapter=adapter, keep=choices.integer("keep_checkpoints"))
    if estimate.total_bytes > room and "keep_checkpoints" not in choices.chosen:
        reason = f"Only the newest beside the best: {format_bytes(free)} are free on the disk."
        choices.choose("keep_checkpoints", 1, "hardware", reason)
        estimate = estimate_disk(model, trained_parameters, adapter=adapter, keep=1)
    if estimate.total_bytes > room:
        raise NotEnoughDisk(
            f"Checkpoints and result take about {format_bytes(estimate.total_bytes)}; {format_bytes(free)} are free, "
            f"and {format_bytes(max(0, free - room))} stay reserved for everything else.",
            hint="Free some room on the disk that holds btmd's state folder."
            if adapter
            else "Free some room, or add --allow lora: an adapter takes far less.",
            allow=() if adapter else ("lora",),
        )
    return estimate
