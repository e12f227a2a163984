"""What a person should know about a plan before it runs, in sentences."""

from collections.abc import Mapping

from btmd.domain.units import format_count, format_duration
from btmd.planning.adapter_values import type_notes
from btmd.planning.data import DataShare
from btmd.planning.fit import Fit
from btmd.planning.plan import Value
from btmd.planning.request import PlanRequest
from btmd.planning.row_kinds import PACKED_TYPE, kind_note

FEW_ROWS = 100
FEW_STEPS = 20
BIG_ON_CPU = 1_000_000_000


def notes_for(
    request: PlanRequest, fit: Fit, wished: Fit, share: DataShare, values: Mapping[str, Value], total_steps: int
) -> tuple[str, ...]:
    return (
        *_changes(fit, wished),
        *kind_note(request.tokens, fit.training_type),
        *_data_notes(request, fit, share),
        *_length_notes(share, values, total_steps),
        *_machine_notes(request, fit, values),
    )


def simpler_note(asked: str, used: str) -> str:
    """Names of presets: the one that was asked for, and the one in its place."""
    return f"The preset {used} is used in place of {asked}, as you allowed: no form of that fits. The batch stays."


def _changes(fit: Fit, wished: Fit) -> list[str]:
    notes = type_notes(fit, wished)
    if "cpu" in fit.changed:
        notes.append("The CPU is used, because the GPU has too little free memory. It will take far longer.")
    if "shorter" in fit.changed:
        notes.append(
            f"Rows of up to {fit.length.max_length} tokens are trained instead of {wished.length.max_length}, "
            "because longer ones do not fit in memory."
        )
    return notes


def _data_notes(request: PlanRequest, fit: Fit, share: DataShare) -> list[str]:
    notes = []
    if share.left_out_rows:
        rows = format_count(share.left_out_rows, "row is", "rows are")
        left = f"{rows} longer than {fit.length.max_length} tokens and left out whole"
        notes.append(f"{left} ({share.left_out_rows / request.tokens.rows:.1%} of all): no answer is ever cut off.")
    if share.rows_without_learned:
        rows = format_count(share.rows_without_learned, "row has", "rows have")
        verb = "is" if share.rows_without_learned == 1 else "are"
        notes.append(f"{rows} no answer to learn from and {verb} left out.")
    is_text = fit.training_type == PACKED_TYPE
    if share.train_rows < FEW_ROWS and not is_text:
        notes.append(
            f"The data is very small ({format_count(share.train_rows, 'row')} to train on): the model can learn these "
            "answers, but hardly a new way of answering. A few hundred rows are a good start."
        )
    if share.held_out_rows == 0:
        notes.append("No rows are held out, so nobody can tell whether the training helped.")
    if not request.model.has_chat_template and not is_text:
        notes.append("This model has no chat format of its own; a plain one is used.")
    if request.model.quantised:
        notes.append(
            f"The base model had been compressed ({request.model.quantised}) before; some of its quality is gone."
        )
    return notes


def _length_notes(share: DataShare, values: Mapping[str, Value], total_steps: int) -> list[str]:
    if total_steps < FEW_STEPS:
        return [
            f"The whole run has only {format_count(total_steps, 'step')}, which changes little. "
            "More epochs help: --set num_epochs=..."
        ]
    every, patience = values["eval_every"].value, values["patience"].value
    assert isinstance(every, int)
    assert isinstance(patience, int)
    if patience and every and patience * every >= total_steps and values["patience"].source == "user":
        return [
            f"The run is too short to be ended early: {format_count(patience, 'measurement')} without gain are "
            f"{patience * every} steps, and it has {total_steps}."
        ]
    return []


def _machine_notes(request: PlanRequest, fit: Fit, values: Mapping[str, Value]) -> list[str]:
    notes = list(request.hardware.problems)
    if fit.device == "cpu" and values["precision"].value == "bf16" and not request.hardware.cpu.native_bf16:
        notes.append("This CPU does not multiply bf16 itself: fp32 would be faster.")
    if fit.device == "cpu" and request.model.parameters >= BIG_ON_CPU:
        notes.append(
            "A model of this size takes very long on a CPU. A GPU is worth it from about a billion parameters on; "
            "here a smaller model or fewer rows help."
        )
    limit_s = values["time_limit_s"].value
    assert isinstance(limit_s, (int, float))
    if limit_s:
        notes.append(
            f"It ends within {format_duration(limit_s)} of its start, pauses not counted, with the best state found. "
            "How many steps fit is decided after a few on trial, and the learning rate falls over these."
        )
    if values["compile"].value:
        notes.append("Compiling takes minutes before the first step.")
    return notes
