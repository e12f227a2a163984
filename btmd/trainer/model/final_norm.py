"""An RMS norm by itself, joined to autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from btmd.trainer.model import elementwise
from btmd.trainer.model.llama_layer import Norm


class _FinalNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: Norm, _master: Tensor | None) -> Tensor:
        out, inverse = elementwise.rms_norm(x, norm.weight, norm.epsilon)
        ctx.save_for_backward(x, inverse)
        ctx.norm = norm
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, inverse = ctx.saved_tensors
        norm: Norm = ctx.norm
        x_gradient = elementwise.rms_norm_backward(gradients[0], x, inverse, norm.weight, torch.zeros_like(x))
        weight_gradient = norm.weight_gradient(gradients[0], x, inverse)
        return x_gradient, None, weight_gradient[0] if weight_gradient else None


def final_norm(x: Tensor, norm: Norm) -> Tensor:
    """The norm of ``x`` (tokens, width), with gradients for it and for the norm's master."""
    out: Tensor = _FinalNorm.apply(x, norm, norm.master)  # type: ignore[no-untyped-call]
    return out
