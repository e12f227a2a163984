"""What is trained - all weights or an adapter - and the values of the adapter, explained."""

from btmd.domain.units import format_bytes
from btmd.planning.choices import Choices
from btmd.planning.fit import Fit
from btmd.planning.plan import Source
from btmd.planning.training_types import EITHER_WAY_TYPES, QLORA

TYPE_TEXTS = {
    "lora_adaptation": "a small adapter",
    "qlora_adaptation": "a small adapter on a base of four bits",
    "fine_tuning": "all weights",
    "continued_pretraining": "on plain text, every token of it",
    "preference_tuning": "on pairs of a better and a worse answer",
}
ADAPTER_KEYS = ("lora_r", "lora_alpha", "target_modules", "lora_dropout")


def choose_type(choices: Choices, fit: Fit, wished: Fit) -> None:
    """Choose the training type; where another one was permitted and needed, it says what stood in the way."""
    text = TYPE_TEXTS[fit.training_type]
    if fit.training_type != wished.training_type:
        # The user's own wish gives way here, because the user has permitted exactly that.
        cause = (
            "the checkpoints do not fit on the disk."
            if wished.fits
            else f"that takes about {format_bytes(wished.memory.total_bytes)} of memory, and "
            f"{format_bytes(wished.available_bytes)} are free."
        )
        reason = f"{text.capitalize()} instead of {TYPE_TEXTS[wished.training_type]}, as you allowed: {cause}"
        choices.settle("training_type", fit.training_type, "hardware", reason)
        return
    choices.choose("training_type", fit.training_type, "preset", f"The preset trains {text}.")


def choose_adapter(choices: Choices, fit: Fit, wished: Fit) -> None:
    """Choose the adapter's values, which follow the training type where that has changed."""
    preset = choices.request.preset
    if fit.adapter:
        _choose_rank(choices, fit, wished)
        names = "The preset's layers."
        if not preset.target_modules:
            names = "All linear layers but the head: adapters learn best when none is left out."
        dropout = "The preset's; it costs half the speed or more."
        if not preset.lora_dropout:
            dropout = "None: it would halve the speed, and the held-out rows guard against over-fitting."
        choices.choose("target_modules", preset.target_modules, "preset", names)
        choices.choose("lora_dropout", preset.lora_dropout, "preset", dropout)
    else:
        for key in ADAPTER_KEYS:
            choices.choose(key, getattr(preset, key), "preset", "Not used: all weights are trained.")
    choices.choose("dpo_beta", preset.dpo_beta, "preset", _beta_reason(fit))


def _choose_rank(choices: Choices, fit: Fit, wished: Fit) -> None:
    """Rank and weight of the adapter; the weight keeps its proportion to a rank that was asked for alone."""
    preset = choices.request.preset
    size = format_bytes(4 * fit.memory.trained_parameters)
    source: Source = "preset"
    rank = f"The preset's rank; the adapter takes {size}."
    weight = "The preset's weight of the adapter."
    if not wished.adapter:
        source = "hardware"
        rank = f"An adapter is trained instead of all weights: this rank is enough for most data and takes {size}."
        weight = "An adapter is trained instead of all weights: about twice the rank suits most."
    proportion = preset.lora_alpha / preset.lora_r if preset.lora_r else 2
    alpha = max(1, round(proportion * fit.lora_r))
    if "lora_r" in choices.chosen and alpha != preset.lora_alpha:
        source, weight = "user", "Follows the rank that you asked for, in the preset's proportion."
    if fit.training_type in EITHER_WAY_TYPES and fit.lora_r != wished.lora_r:
        choices.settle("lora_r", fit.lora_r, "hardware", rank)
    else:
        choices.choose("lora_r", fit.lora_r, source, rank)
    choices.choose("lora_alpha", min(4096, alpha), source, weight)


def _beta_reason(fit: Fit) -> str:
    if fit.training_type != "preference_tuning":
        return "Not used: only preference_tuning compares the model with the one it was."
    return "The preset's: how closely the model stays to the one it was."


def type_notes(fit: Fit, wished: Fit) -> list[str]:
    """What a person should know about a training type that changed, or that has its own conditions."""
    notes = []
    where = "on the disk" if wished.fits else "in memory"
    if "lora" in fit.changed:
        notes.append(f"A small adapter is trained instead of all weights, because all weights do not fit {where}.")
    if "qlora" in fit.changed:
        notes.append(
            f"A small adapter on a base of four bits is trained, because {TYPE_TEXTS[wished.training_type]} would not "
            f"fit {where}. Answers are a little less exact than with the base as it is."
        )
    if fit.training_type == QLORA:
        notes.append("The result is an adapter: it can be used on the base as it is, not only on one of four bits.")
    return notes
