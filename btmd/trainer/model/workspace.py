"""Memory for what a forward pass keeps, used again by the next one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

SMALLEST_BLOCK_BYTES = 64_000_000
"""More than malloc ever takes from its heap. What has not been touched of a block is not in memory."""

_ALIGNMENT = 64


class Workspace:
    """A stack of tensors in a few large blocks; on a GPU torch's own allocator, which does the same.

    Kept values have another size for every length of batch. Taken from malloc they lie between oneDNN's kernels,
    which stay for good, and each new length needs fresh memory beside holes that are all a little too small:
    resident memory grew by 20 % after every length had been seen once.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._reuses = device.type == "cpu"
        self._blocks: list[Tensor] = []
        self._block = 0
        self._used_bytes = 0

    def clear(self) -> None:
        """Take back everything."""
        self._block = self._used_bytes = 0

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Take back at the end whatever was taken inside."""
        before = self._block, self._used_bytes
        try:
            yield
        finally:
            self._block, self._used_bytes = before

    def take(self, dtype: torch.dtype, *sizes: int) -> Tensor:
        """A tensor of undefined values, valid until it is taken back."""
        if not self._reuses:
            return torch.empty(sizes, dtype=dtype, device=self._device)
        size_bytes = -(-math.prod(sizes) * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
        while self._block < len(self._blocks) and self._used_bytes + size_bytes > self._blocks[self._block].numel():
            self._block += 1
            self._used_bytes = 0
        if self._block == len(self._blocks):
            whole = sum(block.numel() for block in self._blocks)
            self._blocks.append(torch.empty(max(size_bytes, whole, SMALLEST_BLOCK_BYTES), dtype=torch.uint8))
        storage = self._blocks[self._block].untyped_storage()
        first = self._used_bytes // dtype.itemsize
        self._used_bytes += size_bytes
        # Not a view: autograd would hold each change of one tensor against all others of the block.
        strides = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
        return torch.empty(0, dtype=dtype).set_(storage, first, sizes, strides)

    def like(self, x: Tensor) -> Tensor:
        """``take`` with the type and the sizes of ``x``."""
        return self.take(x.dtype, *x.shape)
