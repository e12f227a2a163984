"""What the training loop knows of a model, whichever implementation stands behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

TrainingType = Literal[
    "lora_adaptation", "qlora_adaptation", "fine_tuning", "continued_pretraining", "preference_tuning"
]
Precision = Literal["bf16", "fp16", "fp32"]
Implementation = Literal["fused", "plain"]

NO_ADAPTER = "A full fine-tune has no adapter to leave out; ask the base model itself."

COMPUTE_DTYPE: dict[Precision, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
}


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences of different lengths, without padding; each one sees only itself.

    ``input_ids`` are int64 and ``learned`` bool, one-dimensional and of one length per row. ``learned[t]`` means that
    the loss covers predicting token ``t`` from those before it; the first token of a row has none before it, so
    its mark has no effect.
    """

    input_ids: list[Tensor]
    learned: list[Tensor]
    rows: int = 0
    """Rows of the data that the sequences come from; 0: as many as there are sequences."""
    references: Tensor | None = None
    """Loss of each sequence under the model that it is compared with, where that was computed beforehand."""

    def __post_init__(self) -> None:
        if not self.input_ids or len(self.input_ids) != len(self.learned):
            raise ValueError("a batch needs at least one row and one mask per row")
        for ids, learned in zip(self.input_ids, self.learned, strict=True):
            if ids.dim() != 1 or ids.shape != learned.shape or ids.numel() == 0:
                raise ValueError(f"a row of shape {tuple(ids.shape)} does not fit a mask of {tuple(learned.shape)}")

    def count_learned(self) -> int:
        """Tokens that the loss of this batch is a sum over."""
        return sum(self.learned_counts())

    def count_rows(self) -> int:
        return self.rows or len(self.input_ids)

    def learned_counts(self) -> list[int]:
        """Learned tokens of each sequence."""
        return [int(learned[1:].sum()) for learned in self.learned]

    def count_tokens(self) -> int:
        """Real tokens of all rows."""
        return sum(ids.numel() for ids in self.input_ids)


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Adapter values: rank, scale ``alpha / r``, dropout before A, and the last parts of the names of the layers.

    Empty ``target_modules`` means every linear layer but the head.
    """

    r: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()

    @property
    def scale(self) -> float:
        return self.alpha / self.r


class TrainableModel(Protocol):
    """A model and what is trained of it. Made by ``load_trainable``."""

    implementation: Implementation
    device: torch.device
    dtype: torch.dtype
    """Of the computation; the trained parameters are fp32 always."""

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The fp32 masters that the optimizer changes in place, always in the same order."""

    def loss_sum(self, batch: Batch) -> Tensor:
        """Sum of cross-entropy over the learned tokens: an fp32 scalar to divide and call ``backward()`` on.

        One ``backward()`` must follow each call before the masters change or the next call is made.
        """

    def evaluate_loss_sum(self, batch: Batch) -> tuple[float, int]:
        """Loss sum and number of learned tokens; no gradient, no dropout, no randomness consumed."""

    def sequence_losses(self, batch: Batch) -> Tensor:
        """Sum of cross-entropy of each sequence by itself, fp32, (sequences,); the rules of ``loss_sum`` hold."""

    def evaluate_sequence_losses(self, batch: Batch, *, base: bool = False) -> Tensor:
        """The same without gradient or dropout; ``base`` leaves the adapter out, and raises Conflict where none is."""

    def generate(
        self,
        prompt_ids: list[int],
        *,
        max_new_tokens: int,
        eos_ids: set[int],
        temperature: float = 0.0,
        seed: int = 0,
        base: bool = False,
    ) -> Iterator[int]:
        """Continue a prompt token by token, the end mark left out.

        ``temperature`` 0 takes the likeliest token; otherwise draws come from ``seed`` alone. ``base`` answers
        without the adapter and raises Conflict where there is none. Training may go on between two tokens.
        """

    def answer_all(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: Sequence[int],
        eos_ids: set[int],
        base: bool = False,
        between: Callable[[], None] = lambda: None,
    ) -> list[list[int]]:
        """The likeliest continuation of each prompt, up to its own number of tokens, the end mark left out.

        Prompts given together are answered together where that is faster, and then need memory together. ``between``
        is called before each token and may raise to leave.
        """

    def state_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must hold: the fp32 masters by name. Not copies."""

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take masters back; raises Damaged when a name or a shape differs."""

    def save_result(self, folder: Path) -> None:
        """Write a peft adapter, or a whole bf16 model folder, into ``folder`` (made if missing)."""

    def count_parameters(self) -> tuple[int, int]:
        """Trainable parameters and all of them; tied weights count once."""
