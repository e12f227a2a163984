"""Cosines and sines for rotary position embeddings."""

from __future__ import annotations

import torch
from torch import Tensor


class RotaryTable:
    """Angles ``position / theta ** (2 i / width)``, computed in fp32 and rounded once, for as many as were asked."""

    def __init__(self, width: int, theta: float, *, dtype: torch.dtype, device: torch.device) -> None:
        exponents = torch.arange(0, width, 2, dtype=torch.float32) / width
        self._frequencies = 1.0 / (theta**exponents)
        self._dtype = dtype
        self._device = device
        self._grow(512)

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin (positions, 1, width) in the form ``elementwise.rotate`` takes."""
        longest = int(positions.max()) + 1
        if longest > self._cos.shape[0]:
            self._grow(max(longest, 2 * self._cos.shape[0]))
        return self._cos[positions].unsqueeze(1), self._sin[positions].unsqueeze(1)

    def _grow(self, length: int) -> None:
        angles = torch.outer(torch.arange(length, dtype=torch.float32), self._frequencies)
        cos, sin = angles.cos(), angles.sin()
        self._cos = torch.cat((cos, cos), dim=-1).to(self._device, self._dtype)
        self._sin = torch.cat((-sin, sin), dim=-1).to(self._device, self._dtype)
