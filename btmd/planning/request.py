"""What a plan is made from."""

from collections.abc import Mapping

from msgspec import Struct, field

from btmd.domain.hardware import Hardware
from btmd.domain.model import ModelFacts
from btmd.domain.preset import Preset
from btmd.errors import InvalidValue

ALLOWANCES = ("shorter", "lora", "qlora", "cpu", "simpler")
"""Changes of what was asked for that a person can permit beforehand."""


class TokenFacts(Struct, frozen=True):
    """A dataset as one model's tokenizer sees it; lengths in tokens.

    ``over_long`` gives for candidate lengths how many rows are longer. ``train_rows`` and ``held_out_rows`` are set
    when the file itself has a split.
    """

    rows: int
    total_tokens: int
    learned_tokens: int
    longest_row: int
    over_long: Mapping[int, int] = field(default_factory=dict)
    rows_without_learned: int = 0
    train_rows: int | None = None
    held_out_rows: int | None = None
    kind: str = "conversation"
    """Of the rows: ``conversation``, ``text`` or ``preference``. Of a pair, the longer side is its length, and both
    sides together its tokens."""

    def left_out_rows(self, max_length: int) -> int:
        """Rows longer than ``max_length``; of lengths that were not measured, the next shorter one's count."""
        if max_length >= self.longest_row:
            return 0
        known = [length for length in self.over_long if length <= max_length]
        return self.over_long[max(known)] if known else self.rows

    @property
    def mean_length(self) -> float:
        return self.total_tokens / self.rows if self.rows else 0.0


class PlanRequest(Struct, frozen=True):
    """Preset, facts and wishes. ``settings`` holds the settings in force by their full keys (``training.seed``)."""

    preset: Preset
    model: ModelFacts
    tokens: TokenFacts
    hardware: Hardware
    settings: Mapping[str, int | float | bool | str] = field(default_factory=dict)
    overrides: Mapping[str, object] = field(default_factory=dict)
    allow: frozenset[str] = frozenset()
    simpler: Preset | None = None
    """Takes the preset's place where nothing of that fits, if ``allow`` has ``simpler``."""
    shorter_than: int | None = None
    """Only lengths below this are tried; one that needs no permission has to be among them."""


def read_allow(words: frozenset[str]) -> frozenset[str]:
    """The permitted changes, with ``none`` taken out. Raises InvalidValue for a word that is none of them."""
    for word in words:
        if word not in (*ALLOWANCES, "none"):
            raise InvalidValue(f"{word!r} cannot be allowed.", hint=f"Choose from: {', '.join(ALLOWANCES)}, or none.")
    return words - {"none"}
