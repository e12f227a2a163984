"""The plan: what was asked, what the machine and the data allow, and a reason for each value."""

from collections.abc import Mapping

from msgspec.structs import replace

from btmd.errors import BtmdError, InvalidValue, NotEnoughDisk, NotEnoughMemory
from btmd.planning.choices import Choices
from btmd.planning.compiling import choose_compile
from btmd.planning.data import share_data
from btmd.planning.disk import choose_checkpoints
from btmd.planning.fit import Fit, find_fit
from btmd.planning.fixed_values import fixed_values
from btmd.planning.hyperparameters import HYPERPARAMETERS, HyperparameterValue, read_overrides
from btmd.planning.machine import on_usable_devices
from btmd.planning.notes import notes_for, simpler_note
from btmd.planning.plan import Plan, Source
from btmd.planning.request import PlanRequest, read_allow
from btmd.planning.row_kinds import PACKED_TYPE, PAIR_TYPE
from btmd.planning.schedule import choose_schedule
from btmd.planning.scoring import choose_scoring
from btmd.planning.shape_values import choose_shape
from btmd.planning.simpler import simpler_request
from btmd.planning.training_types import EITHER_WAY_TYPES

LORA_LEARNING_RATE_FACTOR = 10
"""Adapters learn best at about ten times the rate of full fine-tuning ("LoRA Without Regret", 2025)."""

PAIR_LEARNING_RATE_FACTOR = 20
"""Preference tuning is usually done at a small part of the rate that answers are learned with."""


def make_plan(request: PlanRequest) -> Plan:
    """Choose every value of a training.

    The same request always gives the same plan. Raises UnknownKey, InvalidValue, NothingToLearn, DatasetRefused,
    GpuUnusable, NotEnoughMemory and NotEnoughDisk; each says what is wrong and what to do.
    """
    chosen = read_overrides(request.overrides)
    allow = read_allow(request.allow)
    request = on_usable_devices(request, chosen, allow)
    try:
        return _plan(request, chosen, allow)
    except (NotEnoughMemory, NotEnoughDisk):
        simpler = simpler_request(request, chosen, allow)
        if simpler is None:
            raise
        try:
            plan = _plan(simpler, chosen, allow)
        except BtmdError:
            simpler = None
        if simpler is None:
            raise
        note = simpler_note(request.preset.name, simpler.preset.name)
        return replace(plan, notes=(note, *plan.notes))


def _plan(request: PlanRequest, chosen: Mapping[str, HyperparameterValue], allow: frozenset[str]) -> Plan:
    fit, wished = find_fit(request, chosen, allow)
    _refuse_idle_adapter_values(request, fit)
    choices = Choices(request, chosen)
    choose_shape(choices, fit, wished)
    _refuse_unknown_layers(choices)
    _choose_learning(choices, fit)
    share = share_data(choices, fit.length.max_length, packed=choices.values["training_type"].value == PACKED_TYPE)
    total_steps = choose_schedule(choices, fit, share)
    choose_scoring(choices, fit, share, total_steps)
    choose_compile(choices, fit, total_steps)
    disk = choose_checkpoints(choices, fit.memory.trained_parameters, adapter=fit.adapter)
    values = {key: choices.values[key] for key in HYPERPARAMETERS}
    return Plan(
        preset=request.preset.key,
        values=values,
        total_steps=total_steps,
        train_rows=share.train_rows,
        held_out_rows=share.held_out_rows,
        left_out_rows=share.left_out_rows,
        memory=fit.memory,
        memory_available_bytes=fit.available_bytes,
        disk=disk,
        notes=notes_for(request, fit, wished, share, values, total_steps),
        fixed=fixed_values(choices, fit),
    )


def _refuse_idle_adapter_values(request: PlanRequest, fit: Fit) -> None:
    """An adapter value that was asked for and would do nothing is a misunderstanding to clear up beforehand."""
    if request.overrides.keys() & {"dpo_beta"} and fit.training_type != "preference_tuning":
        raise InvalidValue(
            f"dpo_beta has no effect here: {fit.training_type} compares nothing with the model it began with.",
            hint="Add training_type=preference_tuning, for data with chosen and rejected answers.",
        )
    if fit.adapter or "lora" in request.allow:
        return
    for key in ("lora_r", "lora_alpha", "lora_dropout", "target_modules"):
        if key in request.overrides and not (key == "lora_r" and fit.training_type in EITHER_WAY_TYPES):
            raise InvalidValue(
                f"{key} has no effect here: all weights are trained, without an adapter.",
                hint="Set lora_r above 0 to train an adapter."
                if fit.training_type in EITHER_WAY_TYPES
                else "Add training_type=lora_adaptation to train an adapter.",
            )


def _refuse_unknown_layers(choices: Choices) -> None:
    """A misspelt layer among others would be left out without a word, and one alone fail the training."""
    known = choices.request.model.linear_layers
    names = choices.values["target_modules"].value
    assert isinstance(names, tuple)
    unknown = [name for name in names if name not in known]
    if known and unknown and choices.integer("lora_r") and choices.values["training_type"].value != "fine_tuning":
        raise InvalidValue(
            f"target_modules cannot name {', '.join(map(str, unknown))}: the model has no such linear layer.",
            hint=f"It has: {', '.join(known)}.",
        )


def _choose_learning(choices: Choices, fit: Fit) -> None:
    preset = choices.request.preset
    source: Source = "preset"
    rate, reason = preset.learning_rate, "The preset's learning rate."
    as_preset = preset.training_type != "fine_tuning" and preset.lora_r > 0
    if fit.adapter != as_preset:
        to_adapter = fit.adapter
        rate = rate * LORA_LEARNING_RATE_FACTOR if to_adapter else rate / LORA_LEARNING_RATE_FACTOR
        source = choices.values["lora_r" if fit.training_type in EITHER_WAY_TYPES else "training_type"].source
        reason = (
            "Ten times the preset's: an adapter learns best at about ten times the rate of a full training."
            if to_adapter
            else "A tenth of the preset's: with all weights trained, an adapter's rate would be ten times too high."
        )
    if (fit.training_type == PAIR_TYPE) != (preset.training_type == PAIR_TYPE):
        to_pairs = fit.training_type == PAIR_TYPE
        rate = rate / PAIR_LEARNING_RATE_FACTOR if to_pairs else rate * PAIR_LEARNING_RATE_FACTOR
        source = choices.values["training_type"].source
        reason = (
            "A twentieth of what the preset's answers are learned with: comparing answers goes astray sooner."
            if to_pairs
            else "Twenty times the preset's, which is made for comparing answers."
        )
    choices.choose("learning_rate", float(f"{rate:.6g}"), source, reason)
    choices.choose("num_epochs", preset.num_epochs, "preset", "The preset's number of passes over the data.")
    choices.choose("max_steps", 0, "preset", "No limit: as many steps as the epochs take.")
    choices.choose("time_limit_s", 0.0, "preset", "No limit: it takes the time that its steps take.")
    choices.choose("batch_size", preset.batch_size, "preset", "The preset's; it is kept whatever the memory.")
    choices.choose("warmup_ratio", preset.warmup_ratio, "preset", "The preset's share of steps with a rising rate.")
    choices.choose("lr_scheduler", preset.lr_scheduler, "preset", "The rate falls gently towards the end.")
    choices.choose("weight_decay", preset.weight_decay, "preset", "The preset's.")
    choices.choose(
        "max_gradient_norm", preset.max_gradient_norm, "preset", "Single odd rows cannot throw the training off course."
    )
    choices.choose_setting("seed", "training.seed", 42, "The same seed repeats the same run.")
    choices.choose_setting(
        "sample_answers", "training.sample_answers", 3, "A few answers before and after, to see the difference."
    )
    choices.choose_setting("sample_tokens", "training.sample_tokens", 64, "Long enough to judge an answer.")
