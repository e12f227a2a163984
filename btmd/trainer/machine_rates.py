"""How fast this machine multiplies and copies, measured in a fraction of a second."""

import time
from collections.abc import Callable

import torch

from btmd.trainer.model import TrainableModel

_ROWS, _INPUTS, _OUTPUTS = 512, 1024, 1024
_COPIED_BYTES = 16 * 1024 * 1024
_ROUNDS = 8


def measure_rates(model: TrainableModel) -> tuple[float, float]:
    """Operations a second in products of 512 rows, and bytes copied a second; the best of some rounds."""
    device = model.device
    a = torch.ones(_ROWS, _INPUTS, dtype=model.dtype, device=device)
    b = torch.ones(_INPUTS, _OUTPUTS, dtype=model.dtype, device=device)
    out = torch.empty(_ROWS, _OUTPUTS, dtype=model.dtype, device=device)
    source = torch.ones(_COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product_s = _least_seconds(lambda: torch.mm(a, b, out=out), device)
    copy_s = _least_seconds(lambda: target.copy_(source), device)
    return 2 * _ROWS * _INPUTS * _OUTPUTS / product_s, _COPIED_BYTES / copy_s


def _least_seconds(work: Callable[[], object], device: torch.device) -> float:
    work()
    least = float("inf")
    for _ in range(_ROUNDS):
        began_s = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        least = min(least, time.perf_counter() - began_s)
    return least
