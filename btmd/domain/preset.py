"""A preset: a named set of training values, made for people who do not want to choose each one."""

from msgspec import Struct

TRAINING_TYPES = (
    "lora_adaptation",
    "qlora_adaptation",
    "fine_tuning",
    "continued_pretraining",
    "preference_tuning",
)
DIFFICULTIES = ("beginner", "intermediate", "advanced")


class Preset(Struct, frozen=True):
    """Hyperparameters with the words a person chooses them by.

    ``batch_size`` is effective: rows an optimizer step. ``max_length`` in tokens. ``estimated_time`` and
    ``memory_requirements_gb`` are the catalogue's figures, not a forecast for one machine.
    """

    key: str
    name: str
    description: str
    difficulty: str
    training_type: str
    num_epochs: int
    learning_rate: float
    batch_size: int
    max_length: int
    warmup_ratio: float
    recommended_for: tuple[str, ...]
    estimated_time: str
    memory_requirements_gb: float
    use_mixed_precision: bool = True
    gradient_checkpointing: bool = True
    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    target_modules: tuple[str, ...] = ()
    weight_decay: float = 0.0
    lr_scheduler: str = "cosine"
    max_gradient_norm: float = 1.0
    dpo_beta: float = 0.1
