"""The held-out loss. It draws no random number, so that evaluating more often changes nothing else."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from btmd.data.sequences import Rows
from btmd.trainer.failures import TrainingFailed
from btmd.trainer.model import TrainableModel
from btmd.trainer.objective import NEXT_TOKEN, Objective
from btmd.trainer.step import cut


@dataclass(frozen=True, slots=True)
class Evaluation:
    """``loss`` is the mean over learned tokens, in nats, or over pairs; the last two are means over pairs."""

    loss: float
    tokens: int
    margin: float | None = None
    accuracy: float | None = None
    """Share of pairs whose chosen side is the likelier one, compared with the reference."""


def held_out_loss(
    model: TrainableModel,
    rows: Rows,
    *,
    micro_batch_size: int,
    before_each: Callable[[], None],
    objective: Objective = NEXT_TOKEN,
) -> Evaluation:
    """Evaluate all ``rows``; raises TrainingFailed(not_a_number), and whatever ``before_each`` raises."""
    members = rows.taking_part(np.lexsort((np.arange(len(rows)), -rows.lengths)))
    total, count, tokens, margin, preferred = 0.0, 0, 0, 0.0, 0.0
    for batch in cut(rows, members, done=0, micro_batch_size=micro_batch_size):
        before_each()
        found = objective.measure(model, batch)
        total += found.loss
        count += found.count
        tokens += found.tokens
        margin += found.margin
        preferred += found.preferred
    loss = total / count
    if not np.isfinite(loss):
        raise TrainingFailed("not_a_number", "The held-out loss is not a number: the training has diverged.")
    if not objective.compares:
        return Evaluation(loss, tokens)
    return Evaluation(loss, tokens, margin / count, preferred / count)
