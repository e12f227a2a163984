"""A tiny model with an adapter that changes what it says a great deal, as a job leaves it."""

from pathlib import Path
from typing import Any

import torch

from btmd.exporting.requests import ExportRequest
from btmd.exporting.weights import TunedWeights
from btmd.trainer.model.adapter import new_adapter, write_adapter
from btmd.trainer.model.interface import LoraSettings

LORA = LoraSettings(r=4, alpha=8.0)


def make_adapter(folder: Path, base: Path, *, strength: float = 0.1) -> Path:
    """Random values, so large that attention is far from even."""
    shapes = TunedWeights(base, None).shapes
    layers = {
        name.removesuffix(".weight"): (shape[1], shape[0])
        for name, shape in shapes.items()
        if name.endswith("_proj.weight")
    }
    draws = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(value.shape, generator=draws) * (strength if "lora_B" in name else 0.5)
        for name, value in new_adapter(layers, LORA, seed=0, device=torch.device("cpu")).items()
    }
    write_adapter(folder, tensors, LORA, modules=list(layers), base=base)
    return folder


def wish(base: Path, adapter: Path | None, folder: Path, kind: str, **changes: Any) -> ExportRequest:
    values: dict[str, Any] = {
        "format": kind,
        "folder": str(folder),
        "base": str(base),
        "result": str(adapter or base),
        "is_adapter": adapter is not None,
        "base_name": "org/tiny",
        "name": "tiny-job",
        "training_type": "lora_adaptation",
        "max_length": 512,
        "submitted_us": 0,
        "prompts": 6,
        "card": "# A card\n",
    }
    return ExportRequest(**(values | changes))


def no_progress(_share: float, _text: str) -> None:
    """Nobody watches."""
