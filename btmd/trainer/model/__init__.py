"""The model being trained: one interface, a fast implementation for Llama's family and a general one."""

from btmd.trainer.model.interface import Batch, Implementation, LoraSettings, Precision, TrainableModel, TrainingType
from btmd.trainer.model.loading import load_trainable

__all__ = [
    "Batch",
    "Implementation",
    "LoraSettings",
    "Precision",
    "TrainableModel",
    "TrainingType",
    "load_trainable",
]
