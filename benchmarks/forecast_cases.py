"""What forecasts are proved on: models of real shapes with random weights, rows of known lengths, configurations."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from btmd.data.encoding import Encoder
from btmd.errors import TemplateMismatch
from btmd.hardware.cpu import read_cpu
from tests.fixtures.tiny_model import make_tiny_llama

_WORDS = ("harbour", "hive", "wood", "valley", "island", "mill", "market", "bridge", "bell", "lamp", "boat", "wheel")
_ROWS = 240


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a Llama; ``parameters`` in millions."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    parameters: int


MODELS = (
    ModelShape("30M", 384, 12, 6, 2, 1024, 32_768, 30),
    ModelShape("135M", 576, 30, 9, 3, 1536, 49_152, 135),
    ModelShape("360M", 960, 32, 15, 5, 2560, 49_152, 360),
)
LENGTHS = (128, 384, 1024)
TRAINING_TYPES = ("lora_adaptation", "fine_tuning")

TOKENS_A_RUN = {
    ("30M", "lora_adaptation"): 60_000,
    ("30M", "fine_tuning"): 40_000,
    ("135M", "lora_adaptation"): 18_000,
    ("135M", "fine_tuning"): 12_000,
    ("360M", "lora_adaptation"): 8_000,
    ("360M", "fine_tuning"): 5_000,
}
"""So many tokens are trained that a run takes about a minute on two cores that multiply bf16 matrices."""
SHARE_WITHOUT_BF16 = 0.4
"""Of the tokens, where a step takes several times as long."""


@dataclass(frozen=True, slots=True)
class Case:
    """One configuration; ``length`` is that of the longest row, in tokens."""

    model: ModelShape
    training_type: str
    length: int
    batch_size: int
    micro_batch_size: int
    gradient_checkpointing: bool

    @property
    def name(self) -> str:
        kind = "lora" if self.training_type == "lora_adaptation" else "full"
        twice = "-checkpointing" if self.gradient_checkpointing else ""
        return f"{self.model.name}-{kind}-{self.length}x{self.micro_batch_size}of{self.batch_size}{twice}"

    @property
    def max_steps(self) -> int:
        """Rows have about 0.6 of the longest one's tokens."""
        share = 1.0 if read_cpu().native_bf16 else SHARE_WITHOUT_BF16
        tokens = 0.6 * self.length * self.batch_size
        return max(3, round(share * TOKENS_A_RUN[self.model.name, self.training_type] / tokens))

    def overrides(self) -> dict[str, Any]:
        """What is asked of a plan."""
        return {
            "training_type": self.training_type,
            "max_length": self.length,
            "batch_size": self.batch_size,
            "micro_batch_size": self.micro_batch_size,
            "gradient_checkpointing": self.gradient_checkpointing,
            "max_steps": self.max_steps,
            "num_epochs": 1 + self.max_steps * self.batch_size // (_ROWS * 8 // 10),
            "eval_every": 0,
            "patience": 0,
            "held_out_limit": 8,
            "sample_answers": 1,
            "sample_tokens": 16,
        }


def cases() -> list[Case]:
    """Every model, type and length, with batch sizes and checkpointing turned round; then six more the other way."""
    sizes = ((8, 4), (8, 2), (4, 1))
    found = []
    for index, (model, kind, length) in enumerate(itertools.product(MODELS, TRAINING_TYPES, LENGTHS)):
        batch, micro = sizes[(index + index // 3) % 3]
        found.append(Case(model, kind, length, batch, min(micro, 2) if length == 1024 else micro, index % 2 == 1))
    for index, (model, kind) in enumerate(itertools.product(MODELS, TRAINING_TYPES)):
        length = LENGTHS[(index + 1) % 3]
        found.append(Case(model, kind, length, 4, 2 if length == 1024 else 4, index % 2 == 0))
    return found


def write_model(folder: Path, model: ModelShape) -> Path:
    """The model's folder, made once."""
    if not (folder / "model.safetensors").exists():
        make_tiny_llama(
            folder,
            hidden=model.hidden,
            layers=model.layers,
            heads=model.heads,
            kv_heads=model.kv_heads,
            intermediate=model.intermediate,
            vocab=model.vocabulary,
            context=2048,
            dtype="bfloat16",
        )
    return folder


def write_rows(path: Path, model_folder: Path, length: int) -> Path:
    """Questions and answers of a quarter of ``length`` to just ``length`` tokens, always the same."""
    if path.exists():
        return path
    encoder = Encoder.load(model_folder)
    draws = random.Random(length)
    lines = []
    for index in range(_ROWS):
        wanted = length if index % 10 == 0 else draws.randint(length // 4, length)
        lines.append(json.dumps(_row(encoder, draws, wanted)))
    path.write_text("\n".join(lines) + "\n")
    return path


def _row(encoder: Encoder, draws: random.Random, tokens: int) -> dict[str, str]:
    words = [draws.choice(_WORDS) for _ in range(tokens)]
    low, high = 2, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _count(encoder, words[:middle]) <= tokens else (low, middle - 1)
    return _parts(words[:low])


def _parts(words: list[str]) -> dict[str, str]:
    cut = max(1, len(words) // 4)
    return {"prompt": " ".join(words[:cut]), "completion": " ".join(words[cut:])}


def _count(encoder: Encoder, words: list[str]) -> int:
    parts = _parts(words)
    turns: Any = [
        {"role": "user", "content": parts["prompt"]},
        {"role": "assistant", "content": parts["completion"]},
    ]
    (encoded,) = encoder.encode_many([{"line": 1, "messages": turns}])
    if isinstance(encoded, TemplateMismatch):
        raise encoded
    return len(encoded.input_ids)
