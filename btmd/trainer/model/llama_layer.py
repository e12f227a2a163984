"""One decoder layer of Llama's family on the flat token axis, with its own backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from btmd.trainer.model import elementwise
from btmd.trainer.model.attention import attend, attend_backward
from btmd.trainer.model.linear import FusedLinear, Kept
from btmd.trainer.model.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Context:
    """What all layers share for one batch; ``cos`` and ``sin`` are (places, 1, head width)."""

    rows: tuple[tuple[int, int], ...]
    cos: Tensor
    sin: Tensor
    training: bool
    workspace: Workspace
    base: bool = False
    """Whether adapters are left out."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The values of a forward pass that its backward pass needs. They lie in the workspace; the backward
    pass writes over ``wide``, so a trace serves once.
    """

    first_normed: Tensor
    first_inverse: Tensor
    qkv_kept: Kept
    rotated: Tensor
    values: Tensor
    attended: Tensor
    output_kept: Kept
    middle: Tensor
    second_normed: Tensor
    second_inverse: Tensor
    wide_kept: Kept
    wide: Tensor
    down_kept: Kept


@dataclass(slots=True)
class Norm:
    """An RMS norm; ``master`` is set when its weight is trained."""

    weight: Tensor
    epsilon: float
    master: nn.Parameter | None = None

    def weight_gradient(self, gradient: Tensor, x: Tensor, inverse: Tensor) -> list[Tensor]:
        if self.master is None:
            return []
        return [elementwise.rms_norm_weight_gradient(gradient, x, inverse)]


@dataclass(slots=True)
class LlamaLayer:
    first_norm: Norm
    qkv: FusedLinear
    output: FusedLinear
    second_norm: Norm
    gate_up: FusedLinear
    down: FusedLinear
    heads: int
    kv_heads: int
    head_width: int

    def trained(self) -> list[nn.Parameter]:
        """Masters in the order ``backward`` returns their gradients."""
        found: list[nn.Parameter] = []
        for norm, groups in ((self.first_norm, (self.qkv, self.output)), (self.second_norm, (self.gate_up, self.down))):
            found += [norm.master] if norm.master is not None else []
            for group in groups:
                found += group.trained
        return found

    def split_heads(self, qkv: Tensor) -> tuple[Tensor, Tensor]:
        """q and k heads (places, heads + kv heads, width), and the v heads."""
        all_heads = qkv.view(qkv.shape[0], -1, self.head_width)
        return all_heads[:, : self.heads + self.kv_heads], all_heads[:, self.heads + self.kv_heads :]

    def output_only(self, x: Tensor, context: Context) -> Tensor:
        """The layer's output, in the workspace; nothing else of the pass is kept."""
        out = context.workspace.like(x)
        with context.workspace.borrowed():
            self.forward(x, context, out)
        return out

    def forward(self, x: Tensor, context: Context, out: Tensor) -> Trace:
        """Write the layer's output for x (places, width) into ``out``."""
        training, base, space = context.training, context.base, context.workspace
        first, first_inverse = elementwise.rms_norm(
            x, self.first_norm.weight, self.first_norm.epsilon, out=space.like(x)
        )
        qkv, qkv_kept = self.qkv.forward(first, training=training, base=base, space=space)
        plain, values = self.split_heads(qkv)
        rotated = elementwise.rotate(plain, context.cos, context.sin, out=space.like(plain))
        q, k = rotated[:, : self.heads], rotated[:, self.heads :]
        attended = attend(q, k, values, context.rows, out=space.like(q))
        middle, output_kept = self.output.forward(attended, training=training, base=base, space=space)
        middle.add_(x)
        second, second_inverse = elementwise.rms_norm(
            middle, self.second_norm.weight, self.second_norm.epsilon, out=space.like(x)
        )
        wide, wide_kept = self.gate_up.forward(second, training=training, base=base, space=space)
        _, down_kept = self.down.forward(elementwise.swiglu(wide), training=training, base=base, space=space, out=out)
        out.add_(middle)
        return Trace(
            first, first_inverse, qkv_kept, rotated, values, attended, output_kept, middle,
            second, second_inverse, wide_kept, wide, down_kept,
        )  # fmt: skip

    def backward(
        self, gradient: Tensor, x: Tensor, trace: Trace, context: Context, *, input_wanted: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Gradients of x and, in fp32, of ``trained()``."""
        wide_gradient, down = self._swiglu_backward(gradient, trace)
        normed_gradient, gate_up = self.gate_up.backward(wide_gradient, trace.second_normed, trace.wide_kept)
        assert normed_gradient is not None
        second = self.second_norm.weight_gradient(normed_gradient, trace.middle, trace.second_inverse)
        middle_gradient = elementwise.rms_norm_backward(
            normed_gradient, trace.middle, trace.second_inverse, self.second_norm.weight, gradient
        )
        attended_gradient, output = self.output.backward(middle_gradient, trace.attended, trace.output_kept)
        assert attended_gradient is not None
        qkv_gradient = self._attention_backward(attended_gradient, trace, context)
        normed_gradient, qkv = self.qkv.backward(
            qkv_gradient,
            trace.first_normed,
            trace.qkv_kept,
            input_wanted=input_wanted or self.first_norm.master is not None,
        )
        after_norm = qkv + output + second + gate_up + down
        if normed_gradient is None:
            return None, after_norm
        first = self.first_norm.weight_gradient(normed_gradient, x, trace.first_inverse)
        x_gradient = elementwise.rms_norm_backward(
            normed_gradient, x, trace.first_inverse, self.first_norm.weight, middle_gradient
        )
        return x_gradient, first + after_norm

    def _swiglu_backward(self, gradient: Tensor, trace: Trace) -> tuple[Tensor, list[Tensor]]:
        """Back through the down projection, whose input is computed again here rather than kept."""
        kept = trace.down_kept
        low = self.down.low_gradient(gradient, kept)
        wide, activated = elementwise.swiglu_backward(self.down.input_gradient(gradient, low, kept), trace.wide)
        return wide, self.down.trained_gradients(gradient, activated, low, kept)

    def _attention_backward(self, gradient: Tensor, trace: Trace, context: Context) -> Tensor:
        q, k = trace.rotated[:, : self.heads], trace.rotated[:, self.heads :]
        q_gradient, k_gradient, v_gradient = attend_backward(gradient, q, k, trace.values, context.rows)
        turned = elementwise.rotate(torch.cat((q_gradient, k_gradient), dim=1), context.cos, -context.sin)
        return torch.cat((turned, v_gradient), dim=1).flatten(1)


class _LayerFunction(torch.autograd.Function):
    """Joins a layer's own forward and backward to autograd. Masters are arguments so that they get their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: LlamaLayer, context: Context, recompute: bool, *_masters: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.layer, ctx.context = layer, context
        ctx.random_state, ctx.trace = None, None
        if recompute:
            ctx.random_state = random_state(x.device)
            return layer.output_only(x, context)
        out = context.workspace.like(x)
        ctx.trace = layer.forward(x, context, out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        layer: LlamaLayer = ctx.layer
        context: Context = ctx.context
        with context.workspace.borrowed():
            trace = ctx.trace
            if trace is None:
                with as_before(ctx.random_state, x.device):
                    trace = layer.forward(x, context, context.workspace.like(x))
            # On a GPU a trace is a few MB a layer: gone as soon as it has been used, not when the whole graph is.
            ctx.trace = None
            x_gradient, trained = layer.backward(
                gradients[0].contiguous(), x, trace, context, input_wanted=ctx.needs_input_grad[0]
            )
        return (x_gradient, None, None, None, *trained)


def run_layer(x: Tensor, layer: LlamaLayer, context: Context, *, recompute: bool) -> Tensor:
    """The layer's output with gradients for x and its masters; ``recompute`` trades time for memory."""
    out: Tensor = _LayerFunction.apply(x, layer, context, recompute, *layer.trained())  # type: ignore[no-untyped-call]
    return out


def random_state(device: torch.device) -> Tensor:
    """State of the generator that dropout on ``device`` draws from."""
    return torch.get_rng_state() if device.type == "cpu" else torch.cuda.get_rng_state(device)


@contextmanager
def as_before(state: Tensor, device: torch.device) -> Iterator[None]:
    """Draw from ``state`` inside, and go on as if nothing had been drawn."""
    now = random_state(device)
    _set_random_state(state, device)
    try:
        yield
    finally:
        _set_random_state(now, device)


def _set_random_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cpu":
        torch.set_rng_state(state)
    else:
        torch.cuda.set_rng_state(state, device)
