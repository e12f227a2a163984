"""Answering token by token with the keys and values of what came before, several conversations at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from btmd.trainer.model import elementwise
from btmd.trainer.model.attention import attend
from btmd.trainer.model.fused_weights import FusedWeights
from btmd.trainer.model.layout import bucket, round_up
from btmd.trainer.model.llama_layer import LlamaLayer
from btmd.trainer.model.products import STEP
from btmd.trainer.model.rotary import RotaryTable

_Look = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Of a layer's number, q, k and v: what the heads see, (places, heads * width)."""


class LlamaCache:
    """``conversations`` of up to ``capacity`` tokens each. Lengths are padded to buckets, as in training.

    For one token a conversation every weight is read once for all of them, which is most of what a token costs.
    """

    def __init__(
        self, weights: FusedWeights, rotary: RotaryTable, capacity: int, *, base: bool, conversations: int = 1
    ) -> None:
        self._weights = weights
        self._rotary = rotary
        self._base = base
        self._lengths: list[int] = []
        layer = weights.layers[0]
        size = (conversations, bucket(capacity), layer.kv_heads, layer.head_width)
        self._keys = [weights.embedding.new_zeros(size) for _ in weights.layers]
        self._values = [weights.embedding.new_zeros(size) for _ in weights.layers]

    @torch.no_grad()
    def next_logits(self, given: Sequence[Sequence[int]]) -> Tensor:
        """Logits (conversations, vocabulary): after the whole prompts in the first call, one token each later."""
        if self._lengths:
            if any(len(ids) != 1 for ids in given):
                raise ValueError("after the prompt tokens come one by one")
            x = self._next_tokens([ids[0] for ids in given])
        else:
            x = self._prompts(given)
        norm = self._weights.norm
        last, _ = elementwise.rms_norm(x, norm.weight, norm.epsilon)
        return torch.mm(last, self._weights.head.t())

    def _prompts(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """The last layer's output at the end of each prompt; all of them stand on one flat axis."""
        ends = list(itertools.accumulate(len(prompt) for prompt in prompts))
        rows = tuple((end - len(prompt), end) for end, prompt in zip(ends, prompts, strict=True))
        places = round_up(max(start + bucket(end - start) for start, end in rows), STEP)
        ids = torch.zeros(places, dtype=torch.long)
        positions = torch.zeros(places, dtype=torch.long)
        for (start, end), prompt in zip(rows, prompts, strict=True):
            ids[start:end] = torch.tensor(prompt)
            positions[start:end] = torch.arange(end - start)

        def look(number: int, q: Tensor, k: Tensor, values: Tensor) -> Tensor:
            for conversation, (start, end) in enumerate(rows):
                self._keys[number][conversation, : end - start] = k[start:end]
                self._values[number][conversation, : end - start] = values[start:end]
            return attend(q, k, values, rows)

        x = self._through_layers(ids, positions, look)
        self._lengths = [end - start for start, end in rows]
        return x[[end - 1 for _, end in rows]]

    def _next_tokens(self, ids: list[int]) -> Tensor:
        device = self._weights.embedding.device
        positions = torch.tensor(self._lengths)
        there = (torch.arange(len(ids), device=device), positions.to(device))
        seen = min(bucket(max(self._lengths) + 1), self._keys[0].shape[1])
        mask = (torch.arange(seen, device=device).unsqueeze(0) <= there[1].unsqueeze(1)).view(len(ids), 1, 1, seen)

        def look(number: int, q: Tensor, k: Tensor, values: Tensor) -> Tensor:
            self._keys[number][there] = k
            self._values[number][there] = values
            out = functional.scaled_dot_product_attention(
                q.unsqueeze(2),
                self._keys[number][:, :seen].transpose(1, 2),
                self._values[number][:, :seen].transpose(1, 2),
                attn_mask=mask,
                enable_gqa=q.shape[1] != k.shape[1],
            )
            return out.flatten(1)

        x = self._through_layers(torch.tensor(ids), positions, look)
        self._lengths = [length + 1 for length in self._lengths]
        return x

    def _through_layers(self, ids: Tensor, positions: Tensor, look: _Look) -> Tensor:
        device = self._weights.embedding.device
        cos, sin = self._rotary.at(positions.to(device))
        x = self._weights.embedding.index_select(0, ids.to(device))
        for number, layer in enumerate(self._weights.layers):
            x = self._layer(number, layer, x, cos, sin, look)
        return x

    def _layer(self, number: int, layer: LlamaLayer, x: Tensor, cos: Tensor, sin: Tensor, look: _Look) -> Tensor:
        normed, _ = elementwise.rms_norm(x, layer.first_norm.weight, layer.first_norm.epsilon)
        qkv, _ = layer.qkv.forward(normed, training=False, base=self._base)
        plain, values = layer.split_heads(qkv)
        rotated = elementwise.rotate(plain, cos, sin)
        attended = look(number, rotated[:, : layer.heads], rotated[:, layer.heads :], values)
        out, _ = layer.output.forward(attended, training=False, base=self._base)
        middle = out.add_(x)
        normed, _ = elementwise.rms_norm(middle, layer.second_norm.weight, layer.second_norm.epsilon)
        wide, _ = layer.gate_up.forward(normed, training=False, base=self._base)
        out, _ = layer.down.forward(elementwise.swiglu(wide), training=False, base=self._base)
        return out.add_(middle)
