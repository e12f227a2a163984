"""From a model folder to a model that can be trained."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from btmd.errors import NotAModel
from btmd.trainer.model import adapter
from btmd.trainer.model.fused import FusedModel
from btmd.trainer.model.interface import LoraSettings, Precision, TrainableModel, TrainingType
from btmd.trainer.model.llama_shape import llama_shape, read_config
from btmd.trainer.model.quantised import require_quantising

# Read by the hub libraries when they are imported: nothing is ever looked up on the network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"


_ALWAYS_ADAPTER = ("lora_adaptation", "qlora_adaptation")


def load_trainable(
    model_folder: Path,
    *,
    training_type: TrainingType,
    precision: Precision,
    lora: LoraSettings | None,
    gradient_checkpointing: bool,
    seed: int,
    device: torch.device,
    adapter_folder: Path | None = None,
    compile: bool = False,
) -> TrainableModel:
    """Load a model folder for training; the masters start at ``adapter_folder``'s values where one is given.

    ``compile`` concerns the plain implementation only: the fused one is not compiled.
    ``seed`` sets the first values of a new adapter and nothing else; torch's random state is left alone. With an
    ``adapter_folder`` its rank, scale and layers hold, and of ``lora`` only the dropout. Raises NotAModel,
    ModelDamaged, ModelRefused, PackageMissing or Conflict.
    """
    if not (model_folder / "config.json").is_file():
        raise NotAModel(f"{model_folder.name} has no config.json.")
    if training_type == "fine_tuning" and (lora is not None or adapter_folder is not None):
        raise ValueError("a full fine-tune takes no adapter")
    settings = None
    if lora is not None or adapter_folder is not None or training_type in _ALWAYS_ADAPTER:
        settings = _adapter_settings(lora, adapter_folder)
    quantised = training_type == "qlora_adaptation"
    if quantised:
        require_quantising(device)
    shape = llama_shape(read_config(model_folder))
    model: TrainableModel
    if shape is not None and precision != "fp16" and not quantised:
        model = FusedModel(
            model_folder,
            shape,
            precision=precision,
            lora=settings,
            gradient_checkpointing=gradient_checkpointing,
            seed=seed,
            device=device,
        )
    else:
        model = _load_plain(
            model_folder,
            precision=precision,
            lora=settings,
            gradient_checkpointing=gradient_checkpointing,
            seed=seed,
            device=device,
            compile=compile,
            quantised=quantised,
        )
    if adapter_folder is not None:
        model.load_state_tensors(adapter.read_tensors(adapter_folder))
    return model


def _load_plain(
    model_folder: Path,
    *,
    precision: Precision,
    lora: LoraSettings | None,
    gradient_checkpointing: bool,
    seed: int,
    device: torch.device,
    compile: bool,
    quantised: bool,
) -> TrainableModel:
    # transformers and peft take seconds to import, and a Llama does not need them.
    from btmd.trainer.model.plain import PlainModel

    # They draw first values that are then replaced; the run's random state must not move by it.
    with torch.random.fork_rng():
        return PlainModel(
            model_folder,
            precision=precision,
            lora=lora,
            gradient_checkpointing=gradient_checkpointing,
            seed=seed,
            device=device,
            compile=compile,
            quantised=quantised,
        )


def _adapter_settings(lora: LoraSettings | None, adapter_folder: Path | None) -> LoraSettings:
    if adapter_folder is None:
        return lora if lora is not None else LoraSettings()
    held = adapter.read_settings(adapter_folder)
    dropout = lora.dropout if lora is not None else held.dropout
    return LoraSettings(r=held.r, alpha=held.alpha, dropout=dropout, target_modules=held.target_modules)
