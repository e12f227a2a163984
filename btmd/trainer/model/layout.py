"""Rows of a batch on one flat axis of tokens, in few different lengths."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from btmd.trainer.model.interface import Batch
from btmd.trainer.model.products import STEP


def bucket(length: int) -> int:
    """The next of a bounded series of lengths: steps of 32 up to 512, then of 1/16 to 1/8 of the length.

    For attention, which cannot be cut into blocks as other products are.
    """
    step = STEP
    while length > step * 16:
        step *= 2
    return round_up(length, step)


def round_up(count: int, step: int) -> int:
    """The next multiple of ``step``."""
    return -(-count // step) * step


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each row stands on the flat axis.

    The places are a multiple of STEP, and enough for ``bucket(length)`` of them from the start of every row. What
    follows the last row is padding, which no real token attends to and no loss is computed from.
    """

    ids: Tensor
    """int64, (places,)"""
    positions: Tensor
    """int64, (places,): within the row"""
    rows: tuple[tuple[int, int], ...]
    """First place and end of each row"""
    predicting: Tensor
    """int64: places whose next token is learned, then place 0 up to a multiple of STEP"""
    targets: Tensor
    """int64: the learned tokens, one for each real place in ``predicting``"""


def lay_out(batch: Batch, device: torch.device) -> Layout:
    """Arrange a batch; padding is token 0."""
    lengths = [tokens.numel() for tokens in batch.input_ids]
    ends = list(itertools.accumulate(lengths))
    rows = tuple((end - length, end) for end, length in zip(ends, lengths, strict=True))
    places = round_up(max(start + bucket(end - start) for start, end in rows), STEP)
    ids = torch.zeros(places, dtype=torch.long)
    positions = torch.zeros(places, dtype=torch.long)
    predicting: list[Tensor] = []
    targets: list[Tensor] = []
    for (start, end), tokens, learned in zip(rows, batch.input_ids, batch.learned, strict=True):
        ids[start:end] = tokens
        positions[start:end] = torch.arange(end - start)
        at = learned[1:].nonzero().squeeze(1)
        predicting.append(at + start)
        targets.append(tokens[1:][at])
    wanted = torch.cat(targets)
    spare = round_up(max(wanted.numel(), 1), STEP) - wanted.numel()
    predicting.append(torch.zeros(spare, dtype=torch.long))
    return Layout(ids.to(device), positions.to(device), rows, torch.cat(predicting).to(device), wanted.to(device))
