"""The memory-bound pieces of a Llama layer, forward and backward, as plain functions of tensors.

Written to touch memory few times; statistics and derivatives of the norms are fp32, products are rounded where
transformers rounds them. None of them keeps anything for autograd: the layer calls forward and backward itself.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def rms_norm(x: Tensor, weight: Tensor, epsilon: float, *, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """``x / rms(x) * weight`` over the last axis, and ``1 / rms`` in fp32 for the way back (Zhang, Sennrich 2019)."""
    wide = x.float()
    inverse = torch.rsqrt(wide.square().mean(-1, keepdim=True).add_(epsilon))
    return torch.mul((wide * inverse).to(x.dtype), weight, out=out), inverse


def rms_norm_backward(gradient: Tensor, x: Tensor, inverse: Tensor, weight: Tensor, carry: Tensor) -> Tensor:
    """Gradient of x, plus ``carry``, the gradient that reaches x past the norm."""
    scaled = (gradient * weight).float()
    wide = x.float()
    along = (scaled * wide).mean(-1, keepdim=True) * inverse.pow(3)
    return scaled.mul_(inverse).addcmul_(wide, along, value=-1.0).add_(carry).to(x.dtype)


def rms_norm_weight_gradient(gradient: Tensor, x: Tensor, inverse: Tensor) -> Tensor:
    """Gradient of the norm's weight in fp32."""
    return (gradient.float() * (x.float() * inverse)).sum(0)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Rotary position embedding (Su et al. 2021) of ``x`` (tokens, heads, width), halves paired as in Llama.

    ``cos`` and ``sin`` are (tokens, 1, width), the first half of ``sin`` negated. With ``-sin`` it turns back, which
    is the backward pass.
    """
    half = x.shape[-1] // 2
    swapped = torch.cat((x[..., half:], x[..., :half]), dim=-1)
    return torch.mul(x, cos, out=out).addcmul_(swapped, sin)


def swiglu(both: Tensor) -> Tensor:
    """``silu(gate) * up`` of (tokens, 2 * width), gate first (Shazeer 2020)."""
    gate, up = both.chunk(2, dim=-1)
    return functional.silu(gate).mul_(up)


def swiglu_backward(gradient: Tensor, both: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of ``both``, written over it, and the forward value again, which the linear layer behind needs."""
    gate, up = both.chunk(2, dim=-1)
    opened = functional.silu(gate)
    value = opened * up
    torch.ops.aten.silu_backward.grad_input(up.mul_(gradient), gate, grad_input=gate)
    torch.mul(gradient, opened, out=up)
    return both, value
