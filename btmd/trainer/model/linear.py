"""Linear layers that share an input, as one matrix product, with their adapters or their weight gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from btmd.trainer.model import adapter
from btmd.trainer.model.interface import LoraSettings
from btmd.trainer.model.masters import Masters
from btmd.trainer.model.products import add_product, multiply, product_over_tokens
from btmd.trainer.model.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Kept:
    """What the backward pass needs besides the input: the scaled products with A, and the dropout mask."""

    low: Tensor | None = None
    mask: Tensor | None = None


class FusedLinear:
    """The layers ``names``, stacked: ``y = x Wt + bias + scale * (dropout(x) At) Bt``.

    The A matrices are stacked too, and the B matrices stand in one block matrix, so that any number of layers costs
    three products. Only what is trained gets a gradient: with adapters the product for W's is never made.
    Layers of one group share one dropout mask, a third of peft's for q, k and v.
    """

    def __init__(self, names: tuple[str, ...], weight: Tensor, bias: Tensor | None, sizes: tuple[int, ...]) -> None:
        self.names = names
        self.sizes = sizes
        self.weight = weight
        """(outputs of all layers, inputs)"""
        self.bias = bias
        self.trained: tuple[nn.Parameter, ...] = ()
        """Masters in the order ``backward`` returns their gradients."""
        self._adapted: list[int] = []
        self._rank = 0
        self._scale = 1.0
        self._dropout = 0.0
        self._down: Tensor | None = None
        self._up: Tensor | None = None
        self._full = False

    def adapt(self, masters: Masters, lora: LoraSettings) -> None:
        """Put adapters on those layers that ``masters`` holds adapters for."""
        self._adapted = [i for i, name in enumerate(self.names) if adapter.tensor_name(name, "A") in masters]
        if not self._adapted:
            return
        self._rank, self._scale, self._dropout = lora.r, lora.scale, lora.dropout
        width = self._rank * len(self._adapted)
        self._down = self.weight.new_empty(width, self.weight.shape[1])
        self._up = self.weight.new_zeros(self.weight.shape[0], width)
        trained: list[nn.Parameter] = []
        for block, layer in enumerate(self._adapted):
            columns = slice(block * self._rank, (block + 1) * self._rank)
            for part, target in (("A", self._down[columns]), ("B", self._up[self._outputs(layer), columns])):
                trained.append(masters.follow_from(adapter.tensor_name(self.names[layer], part), target))
        self.trained = tuple(trained)

    def train_weights(self, masters: Masters) -> None:
        """Train the weights (and biases) themselves."""
        self._full = True
        self.trained = tuple(masters.follow_from(name, target) for name, target in self.named_weights())

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Weight and bias of each layer: views of the stacked ones."""
        for layer, name in enumerate(self.names):
            yield f"{name}.weight", self.weight[self._outputs(layer)]
            if self.bias is not None:
                yield f"{name}.bias", self.bias[self._outputs(layer)]

    def _outputs(self, layer: int) -> slice:
        first = sum(self.sizes[:layer])
        return slice(first, first + self.sizes[layer])

    def forward(
        self,
        x: Tensor,
        *,
        training: bool,
        base: bool = False,
        space: Workspace | None = None,
        out: Tensor | None = None,
    ) -> tuple[Tensor, Kept]:
        """Output for x (tokens, inputs). ``base`` leaves the adapters out; results are put into ``space``."""
        turned = self.weight.t()
        if out is None and space is not None:
            out = space.take(x.dtype, x.shape[0], turned.shape[1])
        out = multiply(x, turned, out=out)
        if self.bias is not None:
            out += self.bias
        if self._down is None or self._up is None or base:
            return out, Kept()
        mask = None
        if training and self._dropout > 0:
            keep = 1.0 - self._dropout
            mask = (space.like(x) if space is not None else torch.empty_like(x)).bernoulli_(keep)
            mask.mul_(self._scale / keep)
            low = self._low(x * mask, space)
        else:
            low = self._low(x, space).mul_(self._scale)
        return add_product(out, low, self._up.t()), Kept(low, mask)

    def _low(self, x: Tensor, space: Workspace | None) -> Tensor:
        assert self._down is not None
        out = space.take(x.dtype, x.shape[0], self._down.shape[0]) if space is not None else None
        return multiply(x, self._down.t(), out=out)

    def backward(
        self, gradient: Tensor, x: Tensor, kept: Kept, *, input_wanted: bool = True
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Gradients of x (None unless wanted) and, in fp32, of ``trained``."""
        low_gradient = self.low_gradient(gradient, kept)
        x_gradient = self.input_gradient(gradient, low_gradient, kept) if input_wanted else None
        return x_gradient, self.trained_gradients(gradient, x, low_gradient, kept)

    def low_gradient(self, gradient: Tensor, kept: Kept) -> Tensor | None:
        """Gradient of the products with A, (tokens, ranks); None without adapters."""
        if self._up is None or kept.low is None:
            return None
        low_gradient = multiply(gradient, self._up)
        return low_gradient.mul_(self._scale) if kept.mask is None else low_gradient

    def input_gradient(self, gradient: Tensor, low_gradient: Tensor | None, kept: Kept) -> Tensor:
        x_gradient = multiply(gradient, self.weight)
        if self._down is None or low_gradient is None:
            return x_gradient
        if kept.mask is None:
            return add_product(x_gradient, low_gradient, self._down)
        return x_gradient.addcmul_(multiply(low_gradient, self._down), kept.mask)

    def trained_gradients(self, gradient: Tensor, x: Tensor, low_gradient: Tensor | None, kept: Kept) -> list[Tensor]:
        """Gradients of ``trained`` in fp32."""
        if self._full:
            return self._weight_gradients(gradient, x)
        if low_gradient is None or kept.low is None:
            return []
        seen = x if kept.mask is None else x * kept.mask
        down_gradient = product_over_tokens(low_gradient, seen)
        up_gradient = product_over_tokens(kept.low, gradient).t()
        gradients: list[Tensor] = []
        for block, layer in enumerate(self._adapted):
            columns = slice(block * self._rank, (block + 1) * self._rank)
            gradients += [down_gradient[columns], up_gradient[self._outputs(layer), columns]]
        return gradients

    def _weight_gradients(self, gradient: Tensor, x: Tensor) -> list[Tensor]:
        whole = product_over_tokens(gradient, x)
        bias = gradient.float().sum(0) if self.bias is not None else None
        gradients: list[Tensor] = []
        for layer in range(len(self.names)):
            gradients.append(whole[self._outputs(layer)])
            if bias is not None:
                gradients.append(bias[self._outputs(layer)])
        return gradients
