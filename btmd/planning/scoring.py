"""What is measured of a training beside its held-out loss: everyday questions, and answers compared by their words."""

from btmd.domain.units import format_count
from btmd.planning.choices import Choices
from btmd.planning.data import DataShare
from btmd.planning.fit import Fit
from btmd.planning.pace import planned_step_seconds
from btmd.planning.row_kinds import PACKED_TYPE, PAIR_TYPE
from btmd.planning.schedule import EVALUATION_ROW_COST
from btmd.planning.time_estimate import (
    QUESTION_TOKENS,
    SCORED_TOKENS,
    TOGETHER,
    answer_token_seconds,
    are_answered_together,
    usual_rates,
)

SHARE = 0.01
"""Of the training's time, for each of the two, before and after together."""
LEAST_QUESTIONS = 20
"""Fewer tell nothing."""
FEWEST_SCORED = 5


def choose_scoring(choices: Choices, fit: Fit, share: DataShare, total_steps: int) -> None:
    """Choose both counts; ``total_steps`` optimizer steps will be taken."""
    training_s = total_steps * planned_step_seconds(choices, fit)
    _choose_questions(choices, training_s, total_steps)
    _choose_answers(choices, fit, share, training_s)


def _choose_questions(choices: Choices, training_s: float, total_steps: int) -> None:
    wanted = int(choices.setting("training.general_questions", 60))
    trained_rows = max(1, min(total_steps * choices.integer("batch_size"), 10**9))
    mean_length = max(1.0, choices.request.tokens.mean_length)
    question_s = EVALUATION_ROW_COST * training_s / trained_rows * QUESTION_TOKENS / mean_length
    affordable = int(SHARE * training_s / (2 * question_s)) if question_s > 0 else wanted
    count = min(wanted, max(LEAST_QUESTIONS, affordable))
    if count == wanted:
        text = "Everyday questions, before and after, to notice what it forgets. Setting training.general_questions."
        choices.choose("general_questions", count, "setting", text)
    else:
        text = f"Enough to notice what it forgets; all {wanted} would take too long beside so short a training."
        choices.choose("general_questions", count, "data", text)


def _choose_answers(choices: Choices, fit: Fit, share: DataShare, training_s: float) -> None:
    wanted = int(choices.setting("training.scored_answers", 24))
    kind = choices.values["training_type"].value
    if kind in (PACKED_TYPE, PAIR_TYPE) or choices.request.tokens.kind != "conversation":
        choices.choose("scored_answers", 0, "data", "Texts and pairs have no one right answer.")
        return
    if share.held_out_rows == 0 or choices.integer("sample_answers") == 0:
        text = "Without held-out rows there is nothing to compare with."
        if share.held_out_rows:
            text = "No sample answers are wanted."
        choices.choose("scored_answers", 0, "data", text)
        return
    count = min(wanted, share.held_out_rows, _affordable(choices, fit, str(kind), training_s))
    if count < FEWEST_SCORED:
        choices.choose("scored_answers", 0, "data", "Answering more prompts would take too long beside this training.")
        return
    text = f"Short answers to {format_count(count, 'held-out prompt')} are compared with the data's, word by word."
    choices.choose("scored_answers", count, "setting" if count == wanted else "data", text)


def _affordable(choices: Choices, fit: Fit, kind: str, training_s: float) -> int:
    """Those that are shown, and others that take SHARE of the training or fill up what is answered with the former."""
    model, threads = choices.request.model, choices.integer("threads")
    rates = usual_rates(choices.request.hardware, device=fit.device, precision=fit.precision, threads=threads)
    each_s = 2 * SCORED_TOKENS * answer_token_seconds(model, 4 if fit.precision == "fp32" else 2, rates)
    affordable, shown = int(SHARE * training_s / each_s), choices.integer("sample_answers")
    if not are_answered_together(model, kind, fit.precision):
        return shown + affordable
    return shown + -shown % TOGETHER + TOGETHER * affordable
