"""The values that decide memory and speed, explained."""

from btmd.domain.units import format_bytes, format_count
from btmd.planning.choices import Choices
from btmd.planning.fit import CPU_MICRO_BATCH, EITHER_WAY_TYPES, Fit
from btmd.planning.plan import Source

TYPE_TEXTS = {
    "lora_adaptation": "a small adapter",
    "fine_tuning": "all weights",
    "continued_pretraining": "on plain text, every token of it",
    "preference_tuning": "on pairs of a better and a worse answer",
}


def choose_shape(choices: Choices, fit: Fit, wished: Fit) -> None:
    """Put the values of the shape that fits into ``choices``."""
    _choose_type(choices, fit, wished)
    _choose_adapter(choices, fit, wished)
    _choose_device(choices, fit)
    _choose_precision(choices, fit)
    choices.choose("max_length", fit.length.max_length, fit.length.source, fit.length.reason)
    _choose_batches(choices, fit)
    _choose_checkpointing(choices, fit)
    _choose_packing(choices, fit)
    choices.choose("compile", False, "hardware", "Compiling takes minutes, which only a long run repays.")


def _choose_packing(choices: Choices, fit: Fit) -> None:
    if fit.training_type == "continued_pretraining":
        text = f"Short texts share a block of up to {fit.length.max_length} tokens; each one sees only itself."
        choices.choose("packing", True, "data", text)
        return
    text = "Rows are computed one after another without padding, so joining gains nothing."
    choices.choose("packing", False, "hardware", text)


def _choose_type(choices: Choices, fit: Fit, wished: Fit) -> None:
    text = TYPE_TEXTS[fit.training_type]
    if fit.training_type != wished.training_type:
        # The user's own wish gives way here, because the user has permitted exactly that.
        cause = (
            "their checkpoints do not fit on the disk."
            if wished.fits
            else f"they take about {format_bytes(wished.memory.total_bytes)} of memory, and "
            f"{format_bytes(wished.available_bytes)} are free."
        )
        reason = f"{text.capitalize()} instead of all weights, as you allowed: {cause}"
        choices.settle("training_type", fit.training_type, "hardware", reason)
        return
    choices.choose("training_type", fit.training_type, "preset", f"The preset trains {text}.")


def _choose_adapter(choices: Choices, fit: Fit, wished: Fit) -> None:
    preset = choices.request.preset
    if fit.adapter:
        size = format_bytes(4 * fit.memory.trained_parameters)
        texts = {
            "lora_r": f"The preset's rank; the adapter takes {size}.",
            "lora_alpha": "The preset's weight of the adapter.",
            "target_modules": "All linear layers but the head: adapters learn best when none is left out."
            if not preset.target_modules
            else "The preset's layers.",
            "lora_dropout": "None: it would halve the speed, and the held-out rows guard against over-fitting."
            if not preset.lora_dropout
            else "The preset's; it costs half the speed or more.",
        }
    else:
        texts = dict.fromkeys(
            ("lora_r", "lora_alpha", "target_modules", "lora_dropout"), "Not used: all weights are trained."
        )
    for key, reason in texts.items():
        choices.choose(key, getattr(preset, key), "preset", reason)
    if fit.training_type in EITHER_WAY_TYPES and fit.lora_r != wished.lora_r:
        reason = "A small adapter instead of all weights, as you allowed: these do not fit."
        choices.settle("lora_r", fit.lora_r, "hardware", reason)
    choices.choose("dpo_beta", preset.dpo_beta, "preset", _beta_reason(fit))


def _beta_reason(fit: Fit) -> str:
    if fit.training_type != "preference_tuning":
        return "Not used: only preference_tuning compares the model with the one it was."
    return "The preset's: how closely the model stays to the one it was."


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
        reason = f"The {'CPU' if fit.device == 'cpu' else 'GPU'} multiplies bf16 itself: faster, and half the memory."
    elif fit.precision == "fp16":
        reason = "This GPU computes fp16 but not bf16."
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


def _choose_checkpointing(choices: Choices, fit: Fit) -> None:
    need, free = format_bytes(fit.memory.total_bytes), format_bytes(fit.available_bytes)
    if fit.gradient_checkpointing:
        reason = f"On, or it would not fit: {need} of {free} free are needed with it. Steps take about a third longer."
    else:
        reason = f"Off: about {need} of {free} free are needed without it, and it would cost about a third more time."
    choices.choose("gradient_checkpointing", fit.gradient_checkpointing, "hardware", reason)
