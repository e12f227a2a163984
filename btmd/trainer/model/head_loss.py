"""Vocabulary projection and cross-entropy in chunks: logits never stand in memory as a whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from btmd.trainer.model.products import BLOCK, STEP
from btmd.trainer.model.workspace import Workspace

LOGIT_BYTES = 64_000_000
"""Logits held at once. The weight is read once for each chunk, so a chunk should not be small."""

WIDE_BYTES = 8_000_000
"""Logits held in fp32 at once: small enough to stay in the cache."""


def _rows_per_chunk(vocabulary: int, itemsize: int) -> int:
    return min(BLOCK, max(STEP, LOGIT_BYTES // (vocabulary * itemsize) // STEP * STEP))


def head_loss_sum(hidden: Tensor, weight: Tensor, targets: Tensor, workspace: Workspace) -> Tensor:
    """Sum of cross-entropy in fp32, without gradient. Arguments as in ``head_loss``."""
    total = torch.zeros((), dtype=torch.float32, device=hidden.device)
    step = _rows_per_chunk(weight.shape[0], weight.element_size())
    for first in range(0, targets.numel(), step):
        with workspace.borrowed():
            chunk_loss, _ = _chunk(hidden[first : first + step], weight, targets[first : first + step], workspace)
        total += chunk_loss
    return total


def head_loss(hidden: Tensor, weight: Tensor, targets: Tensor, master: Tensor | None, workspace: Workspace) -> Tensor:
    """Sum of cross-entropy in fp32, with the gradient computed on the way forward.

    ``hidden`` (at least len(targets), width) is the final norm's output at the predicting places, ``weight``
    (vocabulary, width), ``targets`` int64. Rows of ``hidden`` beyond the targets are padding. With a ``master`` (fp32,
    the weight's shape) its gradient is computed too. Logits stand in ``workspace``.
    """
    loss: Tensor = _HeadLoss.apply(hidden, weight, targets, master, workspace)  # type: ignore[no-untyped-call]
    return loss


def head_sequence_losses(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    counts: list[int],
    master: Tensor | None,
    workspace: Workspace,
) -> Tensor:
    """Sum of cross-entropy of each sequence, fp32, (len(counts),): the targets come ``counts[i]`` a sequence.

    The other arguments as in ``head_loss``.
    """
    losses: Tensor = _HeadSequenceLosses.apply(hidden, weight, targets, counts, master, workspace)  # type: ignore[no-untyped-call]
    return losses


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, master: Tensor | None, workspace: Workspace
    ) -> Tensor:
        gradient = torch.zeros_like(hidden)
        wanted = master is not None and ctx.needs_input_grad[3]
        weight_gradient = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if wanted else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        step = _rows_per_chunk(weight.shape[0], weight.element_size())
        for first in range(0, targets.numel(), step):
            part = slice(first, min(first + step, hidden.shape[0]))
            with workspace.borrowed():
                chunk_loss, excess = _chunk(hidden[part], weight, targets[first : first + step], workspace)
                total += chunk_loss
                torch.mm(excess, weight, out=gradient[part])
                if weight_gradient is not None:
                    weight_gradient += torch.mm(excess.t(), hidden[part])
        ctx.save_for_backward(gradient, weight_gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        gradient, weight_gradient = ctx.saved_tensors
        scaled = weight_gradient.mul_(above[0]) if weight_gradient is not None else None
        return gradient.mul_(above[0].to(gradient.dtype)), None, None, scaled, None


class _HeadSequenceLosses(torch.autograd.Function):
    """As _HeadLoss, with a loss for each sequence.

    How much each of them counts is only known in the backward pass. The gradient of ``hidden`` made on the way forward
    is then scaled place by place; that of the weight, a sum over all places, is made there from logits computed anew.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        counts: list[int],
        master: Tensor | None,
        workspace: Workspace,
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        gradient = torch.zeros_like(hidden) if wanted else None
        losses = torch.zeros(targets.shape, dtype=torch.float32, device=hidden.device)
        step = _rows_per_chunk(weight.shape[0], weight.element_size())
        for first in range(0, targets.numel(), step):
            part = slice(first, min(first + step, hidden.shape[0]))
            with workspace.borrowed():
                chunk = targets[first : first + step]
                _, excess = _chunk(hidden[part], weight, chunk, workspace, losses[first : first + step])
                if gradient is not None:
                    torch.mm(excess, weight, out=gradient[part])
        ctx.save_for_backward(hidden, weight, targets, gradient)
        ctx.counts, ctx.workspace = counts, workspace
        return torch.stack([part.sum() for part in torch.split(losses, counts)])

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, gradient = ctx.saved_tensors
        counts = torch.tensor(ctx.counts, device=hidden.device)
        shares = torch.zeros(hidden.shape[0], 1, dtype=hidden.dtype, device=hidden.device)
        shares[: targets.numel(), 0] = above[0].repeat_interleave(counts).to(hidden.dtype)
        weight_gradient = None
        if ctx.needs_input_grad[4]:
            weight_gradient = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
            step = _rows_per_chunk(weight.shape[0], weight.element_size())
            for first in range(0, targets.numel(), step):
                part = slice(first, min(first + step, hidden.shape[0]))
                with ctx.workspace.borrowed():
                    _, excess = _chunk(hidden[part], weight, targets[first : first + step], ctx.workspace)
                    weight_gradient += torch.mm(excess.mul_(shares[part]).t(), hidden[part])
        return gradient.mul_(shares), None, None, None, weight_gradient, None


def _chunk(
    hidden: Tensor, weight: Tensor, targets: Tensor, workspace: Workspace, losses: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Loss sum of a chunk, and the gradient of its logits: probability minus one at the target, zero at padding.

    The loss of each target is written into ``losses``. Probabilities are fp32, a few rows at a time through one small
    buffer, and overwrite the logits.
    """
    logits = torch.mm(hidden, weight.t(), out=workspace.take(hidden.dtype, hidden.shape[0], weight.shape[0]))
    total = torch.zeros((), dtype=torch.float32, device=hidden.device)
    rows = max(1, WIDE_BYTES // (weight.shape[0] * 4))
    buffer = workspace.take(torch.float32, min(rows, targets.numel()), weight.shape[0])
    for first in range(0, targets.numel(), rows):
        at = targets[first : first + rows].unsqueeze(1)
        part = logits[first : first + at.shape[0]]
        wide = buffer[: at.shape[0]].copy_(part)
        highest, place = wide.max(dim=-1, keepdim=True)
        wanted = wide.gather(1, at)
        torch.softmax(wide, dim=-1, out=wide)
        # The likeliest token's probability is at least 1 / vocabulary: the sum comes back from it without underflow.
        each = highest - wide.gather(1, place).log() - wanted
        total += each.sum()
        if losses is not None:
            losses[first : first + at.shape[0]] = each.squeeze(1)
        wide.scatter_add_(1, at, wide.new_full(at.shape, -1.0))
        part.copy_(wide)
    logits[targets.numel() :] = 0
    return total, logits
