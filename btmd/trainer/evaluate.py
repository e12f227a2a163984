"""The held-out loss. It draws no random number, so that evaluating more often changes nothing else."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from btmd.trainer.data import Rows
from btmd.trainer.failures import TrainingFailed
from btmd.trainer.model import TrainableModel
from btmd.trainer.step import cut


@dataclass(frozen=True, slots=True)
class Evaluation:
    """``loss`` is the mean over learned tokens, in nats."""

    loss: float
    tokens: int


def held_out_loss(
    model: TrainableModel, rows: Rows, *, micro_batch_size: int, before_each: Callable[[], None]
) -> Evaluation:
    """Evaluate all ``rows``; raises TrainingFailed(not_a_number), and whatever ``before_each`` raises."""
    members = np.lexsort((np.arange(len(rows)), -rows.lengths))
    total, tokens = 0.0, 0
    for batch in cut(rows, members, done=0, micro_batch_size=micro_batch_size):
        before_each()
        loss_sum, count = model.evaluate_loss_sum(batch)
        total += loss_sum
        tokens += count
    loss = total / tokens
    if not np.isfinite(loss):
        raise TrainingFailed("not_a_number", "The held-out loss is not a number: the training has diverged.")
    return Evaluation(loss, tokens)
