"""Matrix products over the flat token axis, cut so that few shapes occur.

On the CPU oneDNN keeps a kernel for every shape of every product: 0.6 MB on the heap each, some thirty of them for a
length of the flat axis. Cut into blocks of 512 tokens and a rest, any length needs no more than ``512 / STEP`` shapes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 512
"""Tokens: enough for the fastest rate (bf16 with AMX: 1,000 GFLOP a CPU-second from 512 on, 600 at 128)."""

STEP = 32
"""The flat axis has a multiple of this."""


def multiply(x: Tensor, weight: Tensor, *, out: Tensor | None = None) -> Tensor:
    """``x @ weight`` for x (tokens, inputs)."""
    if out is None:
        out = x.new_empty(x.shape[0], weight.shape[1])
    for part in _blocks(x):
        torch.mm(x[part], weight, out=out[part])
    return out


def add_product(out: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """``out += x @ weight`` in place."""
    for part in _blocks(x):
        out[part].addmm_(x[part], weight)
    return out


def product_over_tokens(a: Tensor, b: Tensor) -> Tensor:
    """``a.T @ b`` in fp32 for a (tokens, m) and b (tokens, n); the blocks are added up in fp32."""
    first, *others = _blocks(a)
    total = torch.mm(a[first].t(), b[first]).float()
    for part in others:
        total += torch.mm(a[part].t(), b[part])
    return total


def _blocks(x: Tensor) -> Iterator[slice]:
    tokens = x.shape[0]
    size = BLOCK if x.device.type == "cpu" else tokens
    for first in range(0, tokens, size):
        yield slice(first, min(first + size, tokens))
