"""The held-out loss. It draws no random number, so that evaluating more often changes nothing else."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from btmd.data.sequences import Rows, micro_batches
from btmd.trainer.failures import TrainingFailed
from btmd.trainer.model import TrainableModel
from btmd.trainer.objective import NEXT_TOKEN, Objective
from btmd.trainer.row_losses import RowLosses
from btmd.trainer.step import make_batch


@dataclass(frozen=True, slots=True)
class Evaluation:
    """``loss`` is the mean over learned tokens, in nats, or over pairs; the last two are means over pairs."""

    loss: float
    tokens: int
    rows: RowLosses
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
    lines: list[int] = []
    losses: list[float] = []
    counts: list[int] = []
    tokens, margin, preferred = 0, 0.0, 0.0
    for together in micro_batches(members, micro_batch_size):
        before_each()
        found = objective.measure(model, make_batch(rows, together))
        lines += objective.lines(rows, together)
        losses += found.losses
        counts += found.counts
        tokens += found.tokens
        margin += found.margin
        preferred += found.preferred
    by_line = RowLosses.gathered(lines, losses, counts)
    if not np.isfinite(by_line.mean):
        raise _not_a_number(by_line)
    if not objective.compares:
        return Evaluation(by_line.mean, tokens, by_line)
    return Evaluation(by_line.mean, tokens, by_line, margin / len(members), preferred / len(members))


def _not_a_number(found: RowLosses) -> TrainingFailed:
    """Blamed on the rows that have no loss, unless none has one: then it is the model."""
    bad = tuple(line for line, loss in zip(found.lines, found.losses, strict=True) if not np.isfinite(loss))
    text = "The held-out loss is not a number: the training has diverged."
    return TrainingFailed("not_a_number", text, rows=bad if len(bad) < len(found.lines) else ())
