"""Answering token by token with the keys and values of what came before."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from btmd.trainer.model import elementwise
from btmd.trainer.model.attention import attend
from btmd.trainer.model.fused_weights import FusedWeights
from btmd.trainer.model.layout import bucket
from btmd.trainer.model.llama_layer import LlamaLayer
from btmd.trainer.model.rotary import RotaryTable


class LlamaCache:
    """One conversation of up to ``capacity`` tokens. Lengths are padded to buckets, as in training."""

    def __init__(self, weights: FusedWeights, rotary: RotaryTable, capacity: int, *, base: bool) -> None:
        self._weights = weights
        self._rotary = rotary
        self._base = base
        self._length = 0
        layer = weights.layers[0]
        size = (bucket(capacity), layer.kv_heads, layer.head_width)
        self._keys = [weights.embedding.new_zeros(size) for _ in weights.layers]
        self._values = [weights.embedding.new_zeros(size) for _ in weights.layers]

    @torch.no_grad()
    def next_logits(self, ids: list[int]) -> Tensor:
        """Logits (vocabulary,) after ``ids``: the whole prompt in the first call, one token in each later one."""
        first, count = self._length, len(ids)
        if first > 0 and count != 1:
            raise ValueError("after the prompt tokens come one by one")
        places = bucket(count) if first == 0 else 1
        given = torch.zeros(places, dtype=torch.long)
        given[:count] = torch.tensor(ids)
        positions = torch.arange(first, first + places)
        device = self._weights.embedding.device
        cos, sin = self._rotary.at(positions.to(device))
        x = self._weights.embedding.index_select(0, given.to(device))
        for number, layer in enumerate(self._weights.layers):
            x = self._layer(number, layer, x, cos, sin)
        self._length = first + count
        norm = self._weights.norm
        last, _ = elementwise.rms_norm(x[count - 1 : count], norm.weight, norm.epsilon)
        return torch.mm(last, self._weights.head.t())[0]

    def _layer(self, number: int, layer: LlamaLayer, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        normed, _ = elementwise.rms_norm(x, layer.first_norm.weight, layer.first_norm.epsilon)
        qkv, _ = layer.qkv.forward(normed, training=False, base=self._base)
        plain, values = layer.split_heads(qkv)
        rotated = elementwise.rotate(plain, cos, sin)
        q, k = rotated[:, : layer.heads], rotated[:, layer.heads :]
        # The padding of a prompt may reach past the last place; what stands there is written over, token by token.
        room = slice(self._length, min(self._length + x.shape[0], self._keys[number].shape[0]))
        self._keys[number][room] = k[: room.stop - room.start]
        self._values[number][room] = values[: room.stop - room.start]
        attended = attend(q, k, values, ((0, x.shape[0]),)) if self._length == 0 else self._look_back(number, q)
        out, _ = layer.output.forward(attended, training=False, base=self._base)
        middle = out.add_(x)
        normed, _ = elementwise.rms_norm(middle, layer.second_norm.weight, layer.second_norm.epsilon)
        wide, _ = layer.gate_up.forward(normed, training=False, base=self._base)
        out, _ = layer.down.forward(elementwise.swiglu(wide), training=False, base=self._base)
        return out.add_(middle)

    def _look_back(self, number: int, q: Tensor) -> Tensor:
        """Attention of one token over everything up to itself."""
        seen = min(bucket(self._length + 1), self._keys[number].shape[0])
        mask = torch.arange(seen, device=q.device).unsqueeze(0) <= self._length
        out = functional.scaled_dot_product_attention(
            q.transpose(0, 1).unsqueeze(0),
            self._keys[number][:seen].transpose(0, 1).unsqueeze(0),
            self._values[number][:seen].transpose(0, 1).unsqueeze(0),
            attn_mask=mask,
            enable_gqa=q.shape[1] != self._keys[number].shape[1],
        )
        return out[0].transpose(0, 1).flatten(1)
