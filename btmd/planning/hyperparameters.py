"""Every value of a training that a person can set: its type, range and meaning, and how it is read."""

import difflib
import math
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from btmd.domain.preset import TRAINING_TYPES
from btmd.errors import InvalidValue, UnknownKey

HyperparameterValue = int | float | bool | str | tuple[str, ...]
Kind = Literal["int", "float", "bool", "str", "names"]
KIND_TEXTS: dict[Kind, str] = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a word",
    "names": "names separated by commas",
}
TRUE_WORDS = ("true", "yes", "on", "1")
FALSE_WORDS = ("false", "no", "off", "0")
MAX_NAMES = 64


class Hyperparameter(Struct, frozen=True):
    """One value of a training. ``minimum`` and ``maximum`` are inclusive, in ``unit``."""

    key: str
    kind: Kind
    meaning: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def range_text(self) -> str:
        """The allowed values in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        text = KIND_TEXTS[self.kind] + (f" of {self.unit}" if self.unit else "")
        if self.minimum is not None and self.maximum is not None:
            text += f" from {_number(self.minimum)} to {_number(self.maximum)}"
        elif self.minimum is not None:
            text += f" of at least {_number(self.minimum)}"
        return text

    def read(self, given: object) -> HyperparameterValue:
        """The value in its own type, from that type or from text. Raises InvalidValue."""
        if self.kind == "bool":
            return self._read_bool(given)
        if self.kind == "str":
            return self._read_word(given)
        if self.kind == "names":
            return self._read_names(given)
        return self._read_number(given)

    def _refuse(self, given: object) -> InvalidValue:
        shown = str(given) if isinstance(given, (int, float, bool)) else repr(given)
        if len(shown) > 60:
            shown = shown[:57] + "..."
        hint = f"{self.meaning} `btmctl plan MODEL DATASET` shows what is chosen where you name none."
        return InvalidValue(f"{self.key} cannot be {shown}: it must be {self.range_text}.", hint=hint)

    def _read_bool(self, given: object) -> bool:
        if isinstance(given, bool):
            return given
        word = given.strip().lower() if isinstance(given, str) else ""
        if word in TRUE_WORDS:
            return True
        if word in FALSE_WORDS:
            return False
        raise self._refuse(given)

    def _read_word(self, given: object) -> str:
        word = given.strip().lower() if isinstance(given, str) else ""
        if not word or (self.choices and word not in self.choices):
            raise self._refuse(given)
        return word

    def _read_names(self, given: object) -> tuple[str, ...]:
        parts = given.split(",") if isinstance(given, str) else given
        if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
            raise self._refuse(given)
        names = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
        if len(names) > MAX_NAMES or not all(name.replace("_", "").replace(".", "").isalnum() for name in names):
            raise self._refuse(given)
        return names

    def _read_number(self, given: object) -> int | float:
        if isinstance(given, bool) or not isinstance(given, (int, float, str)):
            raise self._refuse(given)
        try:
            number: int | float = float(given)
            if self.kind == "int":
                if not float(number).is_integer():
                    raise self._refuse(given)
                number = int(given) if isinstance(given, int) else int(number)
        except (ValueError, OverflowError):
            raise self._refuse(given) from None
        # NaN compares false with everything, so it is asked for by name.
        if isinstance(number, float) and not math.isfinite(number):
            raise self._refuse(given)
        if (self.minimum is not None and number < self.minimum) or (self.maximum is not None and number > self.maximum):
            raise self._refuse(given)
        return number


def _number(number: float) -> str:
    """``1,000,000``, ``0.5``, ``1e-07``: no trailing zeros and no needless exponent."""
    return f"{int(number):,}" if float(number).is_integer() else f"{number:g}"


_ALL = (
    Hyperparameter(
        "training_type",
        "str",
        "What is trained and how: a small adapter or all weights, on answers, texts or pairs.",
        choices=TRAINING_TYPES,
    ),
    Hyperparameter("num_epochs", "int", "How often the training goes through the data.", "epochs", 1, 1000),
    Hyperparameter(
        "max_steps",
        "int",
        "Ends the training after so many steps; 0: as many as the epochs take.",
        "steps",
        0,
        10_000_000,
    ),
    Hyperparameter(
        "time_limit_s",
        "float",
        "Ends the training, with a whole model, within this time from its start; 0: no limit.",
        "seconds",
        0,
        30 * 86_400,
    ),
    Hyperparameter("learning_rate", "float", "How far each step moves the weights.", "", 1e-8, 0.1),
    Hyperparameter("batch_size", "int", "Rows that one step learns from.", "rows", 1, 4096),
    Hyperparameter(
        "micro_batch_size", "int", "Rows computed at once; a step adds up as many as its batch needs.", "rows", 1, 4096
    ),
    Hyperparameter(
        "max_length", "int", "Longest row that is trained; longer ones are left out whole.", "tokens", 16, 1_048_576
    ),
    Hyperparameter("warmup_ratio", "float", "Share of the steps over which the learning rate rises.", "", 0, 0.9),
    Hyperparameter(
        "lr_scheduler",
        "str",
        "How the learning rate falls after the warm-up.",
        choices=("cosine", "linear", "constant"),
    ),
    Hyperparameter("weight_decay", "float", "How strongly weights are pulled towards zero.", "", 0, 1),
    Hyperparameter("max_gradient_norm", "float", "Longer gradients are shortened to this; 0: never.", "", 0, 1000),
    Hyperparameter(
        "lora_r",
        "int",
        "Rank of the adapter: how much it can learn; 0, in continued_pretraining and preference_tuning: all weights.",
        "",
        0,
        1024,
    ),
    Hyperparameter("lora_alpha", "int", "Weight of the adapter; usually twice its rank.", "", 1, 4096),
    Hyperparameter("lora_dropout", "float", "Share of adapter inputs dropped at random.", "", 0, 0.9),
    Hyperparameter("target_modules", "names", "Linear layers that get an adapter; empty: all but the head."),
    Hyperparameter(
        "dpo_beta",
        "float",
        "In preference_tuning, how closely the model stays to the one it was; larger: closer.",
        "",
        0.001,
        10,
    ),
    Hyperparameter("precision", "str", "Number format of the computation.", choices=("bf16", "fp16", "fp32")),
    Hyperparameter("gradient_checkpointing", "bool", "Computes activations twice to save memory."),
    Hyperparameter("packing", "bool", "Joins short rows into one sequence."),
    Hyperparameter("compile", "bool", "Compiles the model first: minutes of preparation, faster steps."),
    Hyperparameter("held_out_fraction", "float", "Share of the rows kept back to measure the training by.", "", 0, 0.9),
    Hyperparameter(
        "held_out_limit", "int", "At most so many held-out rows are measured each time; 0: all.", "rows", 0, 10_000_000
    ),
    Hyperparameter(
        "eval_every",
        "int",
        "Steps between two held-out measurements; 0: only before and after.",
        "steps",
        0,
        10_000_000,
    ),
    Hyperparameter("save_every", "int", "Steps between two checkpoints.", "steps", 1, 10_000_000),
    Hyperparameter(
        "patience",
        "int",
        "Measurements without gain before the training ends early; 0: never.",
        "measurements",
        0,
        1000,
    ),
    Hyperparameter("keep_checkpoints", "int", "Newest checkpoints kept beside the best one.", "checkpoints", 1, 100),
    Hyperparameter("seed", "int", "Start of everything random: the same seed repeats the run.", "", 0, 2**31 - 1),
    Hyperparameter("threads", "int", "CPU threads that compute.", "threads", 1, 1024),
    Hyperparameter("device", "str", "Where the training computes: cpu, cuda for any GPU, or cuda:0 for the first one."),
    Hyperparameter("sample_answers", "int", "Held-out prompts answered before and after.", "prompts", 0, 200),
    Hyperparameter("sample_tokens", "int", "Longest sample answer.", "tokens", 1, 4096),
    Hyperparameter(
        "general_questions", "int", "Everyday questions measured before and after, to notice forgetting.", "", 0, 60
    ),
    Hyperparameter(
        "scored_answers",
        "int",
        "Held-out prompts with short answers that are answered before and after, and compared word by word.",
        "prompts",
        0,
        1000,
    ),
)
HYPERPARAMETERS: dict[str, Hyperparameter] = {entry.key: entry for entry in _ALL}


def hyperparameter(key: str) -> Hyperparameter:
    """The one called ``key``. Raises UnknownKey, which names the nearest one."""
    found = HYPERPARAMETERS.get(key)
    if found is not None:
        return found
    shown = key if len(key) <= 60 else key[:57] + "..."
    nearest = difflib.get_close_matches(key[:60].strip().lower().replace("-", "_"), HYPERPARAMETERS, n=1, cutoff=0.5)
    hint = f"Did you mean {nearest[0]}?" if nearest else f"The keys are: {', '.join(HYPERPARAMETERS)}."
    raise UnknownKey(f"There is no training value called {shown!r}.", hint=hint)


def read_overrides(overrides: Mapping[str, object]) -> dict[str, HyperparameterValue]:
    """The overrides, each checked and in its own type. Raises UnknownKey, InvalidValue."""
    return {key: hyperparameter(key).read(given) for key, given in overrides.items()}
