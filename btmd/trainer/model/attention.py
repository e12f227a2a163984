"""Causal attention of each row by itself, forward and backward.

torch's flash kernel for the CPU is fast forward; its backward took 3.2 ms where the matrix products below take
0.5 ms (192 tokens, 9 heads of 64, bf16 with AMX), so the backward is written out.

A row is computed over ``bucket(its length)`` places, to keep the number of shapes small. What stands behind its end,
another row or padding, comes later than every token of the row, which therefore does not see it; nothing is taken from
those places, and no gradient is let in there.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from btmd.trainer.model.layout import bucket

QUERY_BLOCK = 512
"""Queries whose scores are held at once in the backward pass: heads * 512 * length of them."""


def attend(q: Tensor, k: Tensor, v: Tensor, rows: tuple[tuple[int, int], ...], *, out: Tensor | None = None) -> Tensor:
    """Attention output (places, heads * width) of q (places, heads, width) and k, v (places, kv heads, width)."""
    if out is None:
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
    out[rows[-1][1] :] = 0
    for start, end in rows:
        there = slice(start, start + bucket(end - start))
        out[start:end] = _attend_row(q[there], k[there], v[there])[: end - start]
    return out.flatten(1)


def attend_backward(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, rows: tuple[tuple[int, int], ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v, shaped as they are, from that of the output (places, heads * width)."""
    out_gradient = gradient.view(q.shape)
    results = (torch.zeros_like(q), torch.zeros(k.shape, dtype=k.dtype, device=k.device), torch.zeros_like(v))
    row_backward = _cpu_row_backward if q.device.type == "cpu" else _kernel_row_backward
    for start, end in rows:
        length, places = end - start, bucket(end - start)
        there = slice(start, start + places)
        above = functional.pad(out_gradient[start:end], (0, 0, 0, 0, 0, places - length))
        parts = row_backward(above, q[there], k[there], v[there])
        for result, part in zip(results, parts, strict=True):
            result[start:end] = part[:length]
    return results


def _attend_row(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    out = functional.scaled_dot_product_attention(
        q.transpose(0, 1).unsqueeze(0),
        k.transpose(0, 1).unsqueeze(0),
        v.transpose(0, 1).unsqueeze(0),
        is_causal=True,
        enable_gqa=k.shape[1] != q.shape[1],
    )
    return out[0].transpose(0, 1)


def _kernel_row_backward(gradient: Tensor, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    """Through the device's own attention kernel, run forward once more."""
    inputs = [tensor.detach().requires_grad_() for tensor in (q, k, v)]
    with torch.enable_grad():
        out = _attend_row(*inputs)
    return torch.autograd.grad(out, inputs, gradient)


def _cpu_row_backward(gradient: Tensor, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    length, heads, width = q.shape
    kv_heads = k.shape[1]
    scale = 1.0 / math.sqrt(width)
    keys = k.transpose(0, 1).contiguous()
    values = v.transpose(0, 1).contiguous()
    q_gradient = torch.empty_like(q)
    k_gradient = torch.zeros_like(keys)
    v_gradient = torch.zeros_like(values)
    for first in range(0, length, QUERY_BLOCK):
        end = min(first + QUERY_BLOCK, length)
        queries = _by_kv_head(q[first:end], kv_heads).mul_(scale)
        above = _by_kv_head(gradient[first:end], kv_heads)
        mask = _causal_mask(first, end, heads // kv_heads, q.dtype)
        chances = torch.softmax(torch.baddbmm(mask, queries, keys[:, :end].transpose(1, 2)), dim=-1)
        v_gradient[:, :end].baddbmm_(chances.transpose(1, 2), above)
        score_gradient = torch._softmax_backward_data(
            torch.bmm(above, values[:, :end].transpose(1, 2)), chances, -1, q.dtype
        )
        k_gradient[:, :end].baddbmm_(score_gradient.transpose(1, 2), queries)
        mine = torch.bmm(score_gradient, keys[:, :end]).mul_(scale)
        grouped = mine.view(kv_heads, heads // kv_heads, end - first, width).permute(2, 0, 1, 3)
        q_gradient[first:end].view(end - first, kv_heads, heads // kv_heads, width).copy_(grouped)
    return q_gradient, k_gradient.transpose(0, 1), v_gradient.transpose(0, 1)


def _by_kv_head(x: Tensor, kv_heads: int) -> Tensor:
    """(tokens, heads, width) to (kv heads, heads per kv head * tokens, width), copied."""
    tokens, heads, width = x.shape
    grouped = x.reshape(tokens, kv_heads, heads // kv_heads, width).permute(1, 2, 0, 3)
    return grouped.reshape(kv_heads, heads // kv_heads * tokens, width).clone(memory_format=torch.contiguous_format)


@lru_cache(maxsize=8)
def _causal_mask(first: int, end: int, group: int, dtype: torch.dtype) -> Tensor:
    """Zero where query ``first + i`` may look, minus infinity where not: (1, group * queries, end)."""
    mask = torch.full((end - first, end), -math.inf, dtype=dtype).triu_(first + 1)
    return mask.repeat(group, 1).unsqueeze(0)
