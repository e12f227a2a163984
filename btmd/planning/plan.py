"""A plan: every value a training will use, with where it came from and why."""

from typing import Literal

from msgspec import Struct, field

from btmd.planning.hyperparameters import HyperparameterValue
from btmd.planning.memory import MemoryEstimate

Source = Literal["preset", "hardware", "data", "model", "user", "setting"]


class Value(Struct, frozen=True):
    """One chosen value; ``reason`` is a sentence for people."""

    value: HyperparameterValue
    source: Source
    reason: str


class DiskEstimate(Struct, frozen=True):
    """Bytes that the job folder will hold at most."""

    checkpoint_bytes: int
    checkpoints: int
    """How many stand there at once, the one being written and the best included."""
    result_bytes: int
    total_bytes: int


class Plan(Struct, frozen=True):
    """What would run. Row counts and ``total_steps`` are exact once the trainer has split the data."""

    preset: str
    values: dict[str, Value]
    total_steps: int
    train_rows: int
    held_out_rows: int
    left_out_rows: int
    memory: MemoryEstimate
    memory_available_bytes: int
    disk: DiskEstimate
    notes: tuple[str, ...] = ()
    fixed: dict[str, Value] = field(default_factory=dict)
    """What follows from the values and cannot be set, such as ``gradient_accumulation``."""

    def integer(self, key: str) -> int:
        value = self.values[key].value
        assert isinstance(value, int)
        return value

    def number(self, key: str) -> float:
        value = self.values[key].value
        assert isinstance(value, (int, float))
        return float(value)

    def text(self, key: str) -> str:
        value = self.values[key].value
        assert isinstance(value, str)
        return value

    def flag(self, key: str) -> bool:
        value = self.values[key].value
        assert isinstance(value, bool)
        return value

    def names(self, key: str) -> tuple[str, ...]:
        value = self.values[key].value
        assert isinstance(value, tuple)
        return value
