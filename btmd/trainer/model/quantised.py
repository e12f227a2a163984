"""A frozen base in four bits under an adapter in full precision: Dettmers et al., "QLoRA", 2023."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from btmd.errors import ModelRefused, PackageMissing

INSTALL = "`btmctl doctor` shows the command that installs it."


def require_quantising(device: torch.device) -> None:
    """Raises ModelRefused without a GPU, PackageMissing without the library that computes in four bits."""
    if device.type != "cuda":
        raise ModelRefused(
            "A base of four bits is computed on NVIDIA GPUs only.", hint="Use --set training_type=lora_adaptation."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise PackageMissing("QLoRA needs the package bitsandbytes, which is not installed.", hint=INSTALL)


def quantisation(dtype: torch.dtype) -> Any:
    """Four-bit NormalFloat with its scales quantised once more; products are computed in ``dtype``."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=torch.uint8,
    )


def count_weights(model: Any) -> int:
    """Weights of the model, those that stand packed counted as what they stand for; tied ones count once."""
    total = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        total += state.shape.numel() if state is not None else parameter.numel()
    return total
