"""The weights of a Llama model, stacked for few large products, under the names of the Hugging Face folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from btmd.trainer.model.interface import LoraSettings
from btmd.trainer.model.linear import FusedLinear
from btmd.trainer.model.llama_layer import LlamaLayer, Norm
from btmd.trainer.model.llama_shape import LlamaShape
from btmd.trainer.model.masters import Masters
from btmd.trainer.model.safetensors_folder import SafetensorsFolder

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
NORM = "model.norm.weight"


class _Embedding(torch.autograd.Function):
    """Rows of the embedding, whose gradient goes to the fp32 master."""

    @staticmethod
    def forward(ctx: Any, ids: Tensor, weight: Tensor, master: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.shape = master.shape
        return weight.index_select(0, ids)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (ids,) = ctx.saved_tensors
        out = torch.zeros(ctx.shape, dtype=torch.float32, device=ids.device)
        return None, None, out.index_add_(0, ids, gradients[0].float())


@dataclass(slots=True)
class FusedWeights:
    embedding: Tensor
    """(vocabulary, width)"""
    head: Tensor
    """The embedding itself where they are tied."""
    norm: Norm
    layers: list[LlamaLayer]
    embedding_master: nn.Parameter | None = field(default=None)
    head_master: nn.Parameter | None = field(default=None)

    def embed(self, ids: Tensor) -> Tensor:
        if self.embedding_master is None:
            return self.embedding.index_select(0, ids)
        out: Tensor = _Embedding.apply(ids, self.embedding, self.embedding_master)  # type: ignore[no-untyped-call]
        return out

    def linear_layers(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of every linear layer but the head, in the model's order."""
        layers: dict[str, tuple[int, int]] = {}
        for group in self._groups():
            inputs = group.weight.shape[1]
            layers.update((name, (inputs, size)) for name, size in zip(group.names, group.sizes, strict=True))
        return layers

    def adapt(self, masters: Masters, lora: LoraSettings) -> None:
        for group in self._groups():
            group.adapt(masters, lora)

    def train_all(self) -> Masters:
        """Make fp32 masters of every weight, tied ones once, and let the weights follow them."""
        weights = dict(self._named())
        masters = Masters({name: nn.Parameter(weight.float()) for name, weight in weights.items()})
        self.embedding_master = masters.follow_from(EMBEDDING, self.embedding)
        tied = self.head is self.embedding
        self.head_master = self.embedding_master if tied else masters.follow_from(HEAD, self.head)
        self.norm.master = masters.follow_from(NORM, self.norm.weight)
        for number, layer in enumerate(self.layers):
            prefix = f"model.layers.{number}."
            layer.first_norm.master = masters.follow_from(f"{prefix}input_layernorm.weight", layer.first_norm.weight)
            layer.second_norm.master = masters.follow_from(
                f"{prefix}post_attention_layernorm.weight", layer.second_norm.weight
            )
        for group in self._groups():
            group.train_weights(masters)
        return masters

    def count(self) -> int:
        return sum(weight.numel() for _, weight in self._named())

    def _groups(self) -> Iterator[FusedLinear]:
        for layer in self.layers:
            yield from (layer.qkv, layer.output, layer.gate_up, layer.down)

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        """Every weight under the name it has in the folder."""
        yield EMBEDDING, self.embedding
        for number, layer in enumerate(self.layers):
            prefix = f"model.layers.{number}."
            yield f"{prefix}input_layernorm.weight", layer.first_norm.weight
            for group in (layer.qkv, layer.output):
                yield from group.named_weights()
            yield f"{prefix}post_attention_layernorm.weight", layer.second_norm.weight
            for group in (layer.gate_up, layer.down):
                yield from group.named_weights()
        yield NORM, self.norm.weight
        if self.head is not self.embedding:
            yield HEAD, self.head


def load_weights(folder: Path, shape: LlamaShape, *, dtype: torch.dtype, device: torch.device) -> FusedWeights:
    """Read a Llama folder in the compute format; raises NotAModel or ModelDamaged."""
    with SafetensorsFolder(folder) as files:

        def read(name: str, *sizes: int) -> Tensor:
            return files.read(name, sizes).to(device, dtype, copy=True)

        embedding = read(EMBEDDING, shape.vocabulary, shape.width)
        head = embedding if shape.tied else read(HEAD, shape.vocabulary, shape.width)
        layers = [_load_layer(files, number, shape, dtype, device) for number in range(shape.layers)]
        return FusedWeights(embedding, head, Norm(read(NORM, shape.width), shape.epsilon), layers)


def _load_layer(
    files: SafetensorsFolder, number: int, shape: LlamaShape, dtype: torch.dtype, device: torch.device
) -> LlamaLayer:
    prefix = f"model.layers.{number}."
    queries, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width

    def norm(name: str) -> Norm:
        weight = files.read(f"{prefix}{name}.weight", (shape.width,))
        return Norm(weight.to(device, dtype, copy=True), shape.epsilon)

    def stacked(part: str, sizes: dict[str, int], inputs: int, *, biased: bool) -> FusedLinear:
        names = tuple(f"{prefix}{part}.{name}" for name in sizes)
        weight = torch.empty(sum(sizes.values()), inputs, dtype=dtype, device=device)
        bias = torch.empty(weight.shape[0], dtype=dtype, device=device) if biased else None
        first = 0
        for name, size in zip(names, sizes.values(), strict=True):
            weight[first : first + size] = files.read(f"{name}.weight", (size, inputs))
            if bias is not None:
                bias[first : first + size] = files.read(f"{name}.bias", (size,))
            first += size
        return FusedLinear(names, weight, bias, tuple(sizes.values()))

    wide = shape.intermediate
    return LlamaLayer(
        first_norm=norm("input_layernorm"),
        qkv=stacked(
            "self_attn", {"q_proj": queries, "k_proj": keys, "v_proj": keys}, shape.width, biased=shape.qkv_bias
        ),
        output=stacked("self_attn", {"o_proj": shape.width}, queries, biased=shape.output_bias),
        second_norm=norm("post_attention_layernorm"),
        gate_up=stacked("mlp", {"gate_proj": wide, "up_proj": wide}, shape.width, biased=shape.mlp_bias),
        down=stacked("mlp", {"down_proj": shape.width}, wide, biased=shape.mlp_bias),
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_width=shape.head_width,
    )
