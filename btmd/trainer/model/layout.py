"""Rows of a batch on one flat axis of tokens, in few different lengths."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from btmd.trainer.model.interface import Batch

FINEST_BUCKET = 16


def bucket(length: int) -> int:
    """The next of a bounded series of lengths: steps of 16 up to 256, then of 1/16 to 1/8 of the length.

    oneDNN keeps a kernel for every shape it has seen, so ever new lengths would fill the memory; padding to this
    series costs 3 % on average.
    """
    step = FINEST_BUCKET
    while length > step * FINEST_BUCKET:
        step *= 2
    return -(-length // step) * step


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each row stands on the flat axis.

    A row takes ``bucket(its length)`` places. What follows its last token is padding, which no real token attends to
    and no loss is computed from, so it changes no result.
    """

    ids: Tensor
    """int64, (places,)"""
    positions: Tensor
    """int64, (places,): within the row"""
    rows: tuple[tuple[int, int], ...]
    """First place and end of each row, padding included"""
    predicting: Tensor
    """int64: places whose next token is learned, then place 0 up to a bucket"""
    targets: Tensor
    """int64: the learned tokens, one for each real place in ``predicting``"""


def lay_out(batch: Batch, device: torch.device) -> Layout:
    """Arrange a batch; padding is token 0."""
    starts: list[tuple[int, int]] = []
    end = 0
    for tokens in batch.input_ids:
        starts.append((end, end + bucket(tokens.numel())))
        end = starts[-1][1]
    places = bucket(end)
    ids = torch.zeros(places, dtype=torch.long)
    positions = torch.zeros(places, dtype=torch.long)
    predicting: list[Tensor] = []
    targets: list[Tensor] = []
    for (start, stop), tokens, learned in zip(starts, batch.input_ids, batch.learned, strict=True):
        ids[start : start + tokens.numel()] = tokens
        positions[start:stop] = torch.arange(stop - start)
        at = learned[1:].nonzero().squeeze(1)
        predicting.append(at + start)
        targets.append(tokens[1:][at])
    wanted = torch.cat(targets)
    spare = bucket(max(wanted.numel(), 1)) - wanted.numel()
    predicting.append(torch.zeros(spare, dtype=torch.long))
    return Layout(
        ids.to(device), positions.to(device), tuple(starts), torch.cat(predicting).to(device), wanted.to(device)
    )
