"""What a step makes smaller: the part of the loop that differs between learning answers and comparing them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from btmd.data.sequences import Rows
from btmd.trainer.model import Batch, TrainableModel


@dataclass(frozen=True, slots=True)
class Measured:
    """Each sequence's or pair's loss, a sum over so many counted ones; the last two are sums over all pairs."""

    losses: list[float]
    counts: list[int]
    tokens: int
    """Learned tokens."""
    margin: float = 0.0
    preferred: float = 0.0
    """Pairs whose chosen side is the likelier one; half of those where neither is."""


class Objective(Protocol):
    """A loss that is a sum over what it counts, so that a step may be cut into any micro-batches."""

    compares: bool
    """Whether it is about pairs, and a model that they are compared with."""

    def count(self, rows: Rows, members: Sequence[int] | NDArray[np.int64]) -> int:
        """What the loss sum over these rows is divided by."""

    def loss_sum(self, model: TrainableModel, batch: Batch) -> Tensor:
        """An fp32 scalar to call ``backward()`` on."""

    def measure(self, model: TrainableModel, batch: Batch) -> Measured:
        """The same without gradient, dropout or randomness."""

    def lines(self, rows: Rows, members: Sequence[int] | NDArray[np.int64]) -> list[int]:
        """The line of the dataset that each loss of these rows belongs to, in the order of ``measure``."""


class NextToken:
    """Predict each learned token from those before it; counted in tokens."""

    compares = False

    def count(self, rows: Rows, members: Sequence[int] | NDArray[np.int64]) -> int:
        return int(rows.learned_counts[members].sum())

    def loss_sum(self, model: TrainableModel, batch: Batch) -> Tensor:
        return model.loss_sum(batch)

    def measure(self, model: TrainableModel, batch: Batch) -> Measured:
        losses = model.evaluate_sequence_losses(batch).tolist()
        counts = batch.learned_counts()
        return Measured(losses, counts, sum(counts))

    def lines(self, rows: Rows, members: Sequence[int] | NDArray[np.int64]) -> list[int]:
        return [int(rows.lines_of_sequences[number]) for index in members for number in rows.sequences(int(index))]


NEXT_TOKEN: Final = NextToken()


@dataclass(frozen=True, slots=True)
class Preference:
    """Make the chosen answer likelier against the rejected one than it was in the reference model; counted in pairs.

    For a pair with log-probabilities p and, in the reference, r the loss is -log sigmoid(m) of the margin
    m = beta ((p - r) of the chosen answer - (p - r) of the rejected one): equation 7 of Rafailov et al., "Direct
    Preference Optimization", 2023. The reference is the model without its adapter, or what was computed of it
    before the first step.
    """

    beta: float
    compares = True

    def count(self, rows: Rows, members: Sequence[int] | NDArray[np.int64]) -> int:
        return len(members)

    def loss_sum(self, model: TrainableModel, batch: Batch) -> Tensor:
        # The reference first: a model keeps the values of one pass only.
        references = _references(model, batch)
        return functional.softplus(-self._margins(model.sequence_losses(batch), references)).sum()

    def measure(self, model: TrainableModel, batch: Batch) -> Measured:
        references = _references(model, batch)
        margins = self._margins(model.evaluate_sequence_losses(batch), references).double()
        return Measured(
            losses=functional.softplus(-margins).tolist(),
            counts=[1] * len(margins),
            tokens=batch.count_learned(),
            margin=float(margins.sum()),
            preferred=float((margins.sign() + 1).sum() / 2),
        )

    def lines(self, rows: Rows, members: Sequence[int] | NDArray[np.int64]) -> list[int]:
        return [int(rows.lines_of_sequences[rows.firsts[index]]) for index in members]

    def _margins(self, losses: Tensor, references: Tensor) -> Tensor:
        """One for each pair; a loss is a log-probability with its sign changed."""
        gains = references - losses
        return self.beta * (gains[0::2] - gains[1::2])


def _references(model: TrainableModel, batch: Batch) -> Tensor:
    if batch.references is not None:
        return batch.references.to(model.device)
    return model.evaluate_sequence_losses(batch, base=True)


def objective_of(training_type: str, *, dpo_beta: float) -> Objective:
    """The objective of a training type."""
    return Preference(dpo_beta) if training_type == "preference_tuning" else NEXT_TOKEN


@torch.no_grad()
def reference_losses(model: TrainableModel, batch: Batch, *, base: bool) -> NDArray[np.float32]:
    """The loss of each sequence under the reference: the model as it is, or ``base``, without its adapter."""
    found: NDArray[np.float32] = model.evaluate_sequence_losses(batch, base=base).cpu().numpy()
    return found
