"""LoRA adapters as tensors: their first values, and peft's files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from btmd.errors import Conflict, ModelDamaged
from btmd.trainer.model.interface import LoraSettings

PREFIX = "base_model.model."


def tensor_name(module: str, part: str) -> str:
    """Name in peft's adapter file of ``part`` (``A`` or ``B``) at the linear layer ``module``."""
    return f"{PREFIX}{module}.lora_{part}.weight"


def new_adapter(
    layers: Mapping[str, tuple[int, int]], lora: LoraSettings, *, seed: int, device: torch.device
) -> dict[str, nn.Parameter]:
    """First values for adapters at ``layers`` (name -> inputs, outputs): A uniform, B zero, as peft does.

    A is drawn on the CPU in the order given, so the values depend on nothing but the seed and the layers.
    Kaiming's bound with a = sqrt(5) comes to 1 / sqrt(inputs).
    """
    draws = torch.Generator().manual_seed(seed)
    masters: dict[str, nn.Parameter] = {}
    for module, (inputs, outputs) in layers.items():
        bound = 1.0 / math.sqrt(inputs)
        down = torch.empty(lora.r, inputs).uniform_(-bound, bound, generator=draws)
        masters[tensor_name(module, "A")] = nn.Parameter(down.to(device))
        masters[tensor_name(module, "B")] = nn.Parameter(torch.zeros(outputs, lora.r, device=device))
    return masters


def read_settings(folder: Path) -> LoraSettings:
    """Settings of an adapter folder; raises ModelDamaged, or Conflict for a form of LoRA not trained here."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        settings = LoraSettings(
            r=int(config["r"]),
            alpha=float(config["lora_alpha"]),
            dropout=float(config.get("lora_dropout") or 0.0),
            target_modules=_targets(config["target_modules"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelDamaged(f"The adapter's settings cannot be read: {error}.") from error
    odd = [
        key
        for key in ("use_dora", "use_rslora", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias")
        if config.get(key)
    ]
    if config.get("peft_type") != "LORA" or odd or config.get("bias", "none") != "none":
        raise Conflict(
            f"This adapter is of a kind that cannot be trained further here ({', '.join(odd) or 'not plain LoRA'}).",
            hint="Merge it into its base model and start from the merged model.",
        )
    return settings


def _targets(value: object) -> tuple[str, ...]:
    if value == "all-linear":
        return ()
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(sorted(value))
    raise ValueError("target_modules is neither a list of names nor all-linear")


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of an adapter folder in fp32; raises ModelDamaged."""
    try:
        tensors = load_file(folder / "adapter_model.safetensors")
    except (OSError, SafetensorError) as error:
        raise ModelDamaged(f"The adapter's weights cannot be read: {error}.") from error
    return {name: tensor.float() for name, tensor in tensors.items()}


def write_adapter(
    folder: Path, tensors: Mapping[str, Tensor], lora: LoraSettings, *, modules: list[str], base: Path
) -> None:
    """Write ``tensors`` in fp32 with a configuration that ``peft.PeftModel.from_pretrained`` reads.

    ``modules`` are the full names of the adapted layers; only their last parts go into the file.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": lora.r,
        "lora_alpha": int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": sorted({module.rsplit(".", 1)[-1] for module in modules}),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "use_dora": False,
        "use_rslora": False,
        "modules_to_save": None,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    whole = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}
    save_file(whole, folder / "adapter_model.safetensors", metadata={"format": "pt"})
