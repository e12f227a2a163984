"""How much room on the disk a training needs, and keeping fewer checkpoints where there is little."""

from btmd.domain.units import GIB, MIB, format_bytes
from btmd.errors import NotEnoughDisk
from btmd.planning.choices import Choices
from btmd.planning.fit import Fit
from btmd.planning.memory import checkpoint_bytes, result_bytes
from btmd.planning.plan import DiskEstimate

LOG_BYTES_PER_STEP = 400
LOG_BYTES = 32 * MIB


def fit_disk(choices: Choices, fit: Fit, total_steps: int) -> DiskEstimate:
    """Choose how many checkpoints are kept. Raises NotEnoughDisk when not even one fits beside the best."""
    free = choices.request.hardware.disk.free_bytes
    room = free - int(choices.setting("disk.reserve_gb", 1.0) * GIB)
    choices.choose_setting("keep_checkpoints", "checkpoints.keep", 2, "Two, in case the newest is damaged.")
    keep = choices.integer("keep_checkpoints")
    estimate = _estimate(choices, fit, total_steps, keep)
    if estimate.total_bytes > room and "keep_checkpoints" not in choices.chosen and keep > 1:
        fewer = _estimate(choices, fit, total_steps, 1)
        if fewer.total_bytes <= room:
            reason = f"Only the newest beside the best: {format_bytes(free)} are free on the disk."
            choices.choose("keep_checkpoints", 1, "hardware", reason)
            return fewer
        estimate = fewer
    if estimate.total_bytes > room:
        raise NotEnoughDisk(
            f"Checkpoints and result take about {format_bytes(estimate.total_bytes)}; {format_bytes(free)} are free, "
            f"and {format_bytes(max(0, free - room))} stay reserved for everything else.",
            hint="Free some room, or train an adapter (training_type=lora_adaptation), which takes far less."
            if fit.training_type == "fine_tuning"
            else "Free some room on the disk that holds btmd's state folder.",
        )
    return estimate


def _estimate(choices: Choices, fit: Fit, total_steps: int, keep: int) -> DiskEstimate:
    trained = fit.memory.trained_parameters
    each = checkpoint_bytes(trained)
    count = keep + 2
    result = result_bytes(choices.request.model, trained, adapter=fit.training_type == "lora_adaptation")
    return DiskEstimate(each, count, result, each * count + result + LOG_BYTES + LOG_BYTES_PER_STEP * total_steps)
