"""One optimizer step, the same whatever micro-batches it is cut into."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from btmd.data.sequences import Rows, micro_batches
from btmd.trainer.failures import TrainingFailed
from btmd.trainer.model import Batch, TrainableModel
from btmd.trainer.objective import NEXT_TOKEN, Objective
from btmd.trainer.optimizer import AdamW


class Accumulation(msgspec.Struct):
    """How far into a step we are; its partial gradients stand in the parameters' ``grad``."""

    rows_done: int = 0
    loss_sum: float = 0.0
    tokens: int = 0
    """Real tokens of the rows done."""


class StepResult(msgspec.Struct, frozen=True):
    """``loss`` is the mean over the learned tokens of the whole step, in nats, or over its pairs.

    ``gradient_norm`` is that before clipping.
    """

    loss: float
    gradient_norm: float
    tokens: int


class NotANumber(TrainingFailed):
    """A loss or a gradient is not finite. It came from ``count`` rows of the step, behind the first ``first`` of them;
    0: from nobody knows which.
    """

    def __init__(self, what: str, first: int = 0, count: int = 0) -> None:
        super().__init__("not_a_number", f"{what} is not a number any more: the training has diverged.")
        self.first, self.count = first, count


class GradientOverflow(Exception):
    """fp16 gradients passed the largest number of the format: repeat the step with a smaller loss scale."""


def optimizer_step(
    model: TrainableModel,
    optimizer: AdamW,
    batches: Iterable[Batch],
    *,
    divisor: int,
    learning_rate: float,
    max_gradient_norm: float,
    accumulation: Accumulation | None = None,
    loss_scale: float = 1.0,
    before_each: Callable[[], None] = lambda: None,
    objective: Objective = NEXT_TOKEN,
) -> StepResult:
    """Take one step over ``batches``, the micro-batches that are not in ``accumulation`` yet.

    ``divisor`` is the objective's count over the *whole* step: learned tokens, say, or pairs. Every micro-batch's
    gradient is divided by it, so cutting the step differently changes nothing but the order of a sum. ``before_each``
    may raise to leave in between; ``accumulation`` and the gradients are then whole. Raises NotANumber as soon as a
    micro-batch has given a loss or a gradient that is none, before any weight has changed.
    """
    done = accumulation if accumulation is not None else Accumulation()
    for batch in batches:
        before_each()
        loss_sum = objective.loss_sum(model, batch)
        (loss_sum * (loss_scale / divisor)).backward()  # type: ignore[no-untyped-call]
        loss = float(loss_sum.detach())
        if not math.isfinite(loss):
            raise NotANumber("The loss", done.rows_done, batch.count_rows())
        # Under a loss scale a gradient may pass the format's largest number; at the end of the step that is looked at.
        if loss_scale <= 1.0 and not optimizer.looks_finite():
            raise NotANumber("A gradient", done.rows_done, batch.count_rows())
        done.loss_sum += loss
        done.rows_done += batch.count_rows()
        done.tokens += batch.count_tokens()
    gradient_norm = _clip(optimizer.gradients(), max_gradient_norm, loss_scale)
    optimizer.step(learning_rate)
    optimizer.drop_gradients()
    return StepResult(done.loss_sum / divisor, gradient_norm, done.tokens)


def _clip(gradients: list[Tensor], max_norm: float, loss_scale: float) -> float:
    """Take the loss scale out of the gradients, limit their norm, and return what it was. 0 sets no limit."""
    norm = float(torch.nn.utils.get_total_norm(gradients)) / loss_scale
    if not math.isfinite(norm):
        if loss_scale > 1.0:
            raise GradientOverflow
        raise NotANumber("A gradient")
    factor = min(1.0, max_norm / (norm + 1e-6)) / loss_scale if max_norm > 0 else 1.0 / loss_scale
    if factor != 1.0:
        torch._foreach_mul_(gradients, factor)
    return norm


def make_batch(rows: Rows, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
    """The rows as tensors."""
    numbers = [number for index in indices for number in rows.sequences(int(index))]
    chosen = [rows.sequence(number) for number in numbers]
    return Batch(
        [torch.from_numpy(tokens.astype(np.int64)) for tokens, _ in chosen],
        [torch.from_numpy(learned.copy()) for _, learned in chosen],
        rows=len(indices),
        references=None if rows.references is None else torch.from_numpy(rows.references[numbers]),
    )


def cut(rows: Rows, members: NDArray[np.int64], *, done: int, micro_batch_size: int) -> Iterator[Batch]:
    """The micro-batches of a step whose first ``done`` rows have been seen."""
    for together in micro_batches(members, micro_batch_size, done=done):
        yield make_batch(rows, together)
