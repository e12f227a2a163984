"""The values that decide memory and speed, explained."""

from msgspec.structs import replace

from btmd.domain.units import MIB, format_bytes, format_count
from btmd.planning.adapter_values import choose_adapter, choose_type
from btmd.planning.candidates import CPU_MICRO_BATCH
from btmd.planning.choices import Choices
from btmd.planning.fit import Fit
from btmd.planning.memory import estimate_memory
from btmd.planning.plan import Source

WORTH_TELLING_BYTES = 10 * MIB


def choose_shape(choices: Choices, fit: Fit, wished: Fit) -> None:
    """Put the values of the shape that fits into ``choices``."""
    choose_type(choices, fit, wished)
    choose_adapter(choices, fit, wished)
    _choose_device(choices, fit)
    _choose_precision(choices, fit)
    choices.choose("max_length", fit.length.max_length, fit.length.source, fit.length.reason)
    _choose_batches(choices, fit)
    _choose_checkpointing(choices, fit)
    _choose_packing(choices, fit)


def _choose_packing(choices: Choices, fit: Fit) -> None:
    if fit.training_type == "continued_pretraining":
        text = f"Short texts share a block of up to {fit.length.max_length} tokens; each one sees only itself."
        choices.choose("packing", True, "data", text)
        return
    text = "Rows are computed one after another without padding, so joining gains nothing."
    choices.choose("packing", False, "hardware", text)


def _choose_device(choices: Choices, fit: Fit) -> None:
    hardware = choices.request.hardware
    if fit.device == "cpu":
        reason = (
            "The CPU, as you allowed: the GPU has too little free memory."
            if "cpu" in fit.changed
            else "This machine has no GPU that can be used."
            if not hardware.other_gpus
            else f"The {' and '.join(hardware.other_gpus)} GPU in this machine is of a kind that btmd cannot use."
        )
    else:
        gpu = next(gpu for gpu in hardware.gpus if fit.device == f"cuda:{gpu.index}")
        reason = f"{gpu.name} with {format_bytes(gpu.free_bytes)} free."
    choices.choose("device", fit.device, "hardware", reason)
    if "device" in choices.chosen:
        choices.settle("device", fit.device, "user", reason)
    limit = int(choices.setting("training.threads", 0))
    if limit:
        choices.choose("threads", limit, "setting", "The setting training.threads.")
    else:
        cores = hardware.cpu.usable_cores
        text = f"{format_count(cores, 'core')} can be used here; more threads than cores make it slower."
        choices.choose("threads", cores, "hardware", text)


def _choose_precision(choices: Choices, fit: Fit) -> None:
    source: Source = "hardware"
    if not choices.request.preset.use_mixed_precision:
        source, reason = "preset", "The preset asks for full precision."
    elif fit.precision == "bf16":
        where = "CPU" if fit.device == "cpu" else "GPU"
        reason = f"The {where} multiplies bf16 itself: faster than fp32{_saved(choices, fit)}."
    elif fit.precision == "fp16":
        reason = f"This GPU computes fp16 but not bf16: faster than fp32{_saved(choices, fit)}."
    else:
        reason = f"This {'CPU' if fit.device == 'cpu' else 'GPU'} is not faster with 16-bit numbers."
    choices.choose("precision", fit.precision, source, reason)


def _choose_batches(choices: Choices, fit: Fit) -> None:
    batch = int(choices.chosen.get("batch_size", choices.request.preset.batch_size))  # type: ignore[arg-type]
    micro, parts = fit.micro_batch_size, -(-batch // fit.micro_batch_size)
    if parts == 1:
        reason = f"All {format_count(batch, 'row')} of a step at once."
    else:
        cause = (
            f"a CPU gains little from more than {CPU_MICRO_BATCH}"
            if fit.device == "cpu" and micro > 1
            else "more would not fit in memory"
        )
        reason = f"A step of {batch} rows is computed in {parts} parts, with the same result: {cause}."
    choices.choose("micro_batch_size", micro, "hardware", reason)


def _saved(choices: Choices, fit: Fit) -> str:
    """What 16-bit numbers save against fp32, where that is worth a word."""
    plain = estimate_memory(choices.request.model, replace(fit.shape, precision="fp32"))
    saved = plain.total_bytes - fit.memory.total_bytes
    return f", and about {format_bytes(saved)} less memory" if saved >= WORTH_TELLING_BYTES else ""


def _choose_checkpointing(choices: Choices, fit: Fit) -> None:
    need, free = format_bytes(fit.memory.total_bytes), format_bytes(fit.available_bytes)
    other = replace(fit.shape, gradient_checkpointing=not fit.gradient_checkpointing)
    saved = format_bytes(abs(estimate_memory(choices.request.model, other).total_bytes - fit.memory.total_bytes))
    if fit.gradient_checkpointing:
        reason = f"On, or it would not fit: {need} of {free} free are needed, {saved} less than without it. "
        reason += "Steps take about a third longer."
    else:
        reason = (
            f"Off: about {need} of {free} free are needed. It would save {saved}, and cost about a third more time."
        )
    choices.choose("gradient_checkpointing", fit.gradient_checkpointing, "hardware", reason)
