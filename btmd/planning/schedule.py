"""When a training measures itself, saves itself, and gives up."""

from btmd.domain.units import format_count
from btmd.planning.choices import Choices
from btmd.planning.data import DataShare
from btmd.planning.fit import Fit
from btmd.planning.pace import planned_step_seconds

EVALUATION_SHARE = 0.1
"""Measurements beyond one an epoch may cost about this share of the training."""
EVALUATION_ROW_COST = 0.4
"""Cost of a measured row against a trained one: forward only."""
PATIENCE_FROM_EPOCHS = 3
MOST_EVALUATIONS_PER_EPOCH = 3


def choose_schedule(choices: Choices, fit: Fit, share: DataShare) -> int:
    """Choose measuring, saving and patience; returns the number of optimizer steps."""
    batch, epochs = choices.integer("batch_size"), choices.integer("num_epochs")
    steps_per_epoch = -(-share.train_rows // batch)
    total_steps = steps_per_epoch * epochs
    if limit := choices.integer("max_steps"):
        total_steps = min(total_steps, limit)
    _choose_patience(choices, share)
    _choose_eval_every(choices, share, total_steps, steps_per_epoch)
    _choose_save_every(choices, fit, total_steps)
    return total_steps


def _choose_eval_every(choices: Choices, share: DataShare, total_steps: int, steps_per_epoch: int) -> None:
    most = int(choices.setting("training.evaluations", 6))
    if share.measured_rows == 0:
        choices.choose("eval_every", 0, "data", "There are no held-out rows to measure with.")
        return
    if most == 0:
        choices.choose("eval_every", 0, "setting", "Only before and after (setting training.evaluations).")
        return
    trained_rows = total_steps * choices.integer("batch_size")
    affordable = int(EVALUATION_SHARE * trained_rows / (EVALUATION_ROW_COST * share.measured_rows))
    epochs = max(1, -(-total_steps // steps_per_epoch))
    per_epoch = max(1, min(MOST_EVALUATIONS_PER_EPOCH, most // epochs, affordable // epochs))
    patience = choices.integer("patience")
    # One is the best and so many more show no gain; the last is at the end, where nothing can be cut short any more.
    needed = patience + 2 if patience else 0
    if per_epoch * epochs < needed <= min(most, affordable):
        every = max(1, -(-total_steps // needed))
        reason = f"{format_count(needed, 'measurement')}, so that a run that no longer gets better can be ended early."
    elif epochs >= most:
        every = -(-total_steps // most)
        reason = f"About {format_count(most, 'measurement')} over the whole run (setting training.evaluations)."
    else:
        every = max(1, -(-min(total_steps, steps_per_epoch) // per_epoch))
        often = "Once an epoch" if per_epoch == 1 else f"About {per_epoch} times an epoch"
        reason = f"{often}, to keep the best state found; more would cost more than it tells."
    choices.choose("eval_every", every, "data", reason)


def _choose_save_every(choices: Choices, fit: Fit, total_steps: int) -> None:
    minutes = choices.setting("checkpoints.every_minutes", 10.0)
    step_s = planned_step_seconds(choices, fit)
    every = max(1, min(total_steps, int(minutes * 60 / step_s) if step_s > 0 else total_steps))
    text = f"About every {minutes:g} minutes, so little is lost by a power cut (setting checkpoints.every_minutes)."
    if (measured := choices.integer("eval_every")) and measured <= every:
        every, text = measured, "With each measurement, so that the best state found is kept."
    choices.choose("save_every", every, "hardware", text)


def _choose_patience(choices: Choices, share: DataShare) -> None:
    epochs = choices.integer("num_epochs")
    if share.measured_rows == 0:
        choices.choose("patience", 0, "data", "Without held-out rows nothing can be noticed.")
    elif epochs >= PATIENCE_FROM_EPOCHS:
        choices.choose_setting("patience", "training.patience", 3, "Ends early when it no longer gets better.")
    else:
        choices.choose("patience", 0, "preset", f"Under {PATIENCE_FROM_EPOCHS} epochs a run is not ended early.")
