"""Presets as TOML files: the built-in ones, and the check of any other."""

import difflib
import importlib.resources
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from msgspec.structs import asdict

from btmd.domain.preset import DIFFICULTIES, Preset
from btmd.errors import InvalidValue, UnknownPreset
from btmd.planning.hyperparameters import HYPERPARAMETERS

MAX_PRESET_BYTES = 64 * 1024
MAX_TEXT = 500
REQUIRED_TEXTS = ("key", "name", "description", "difficulty", "training_type", "estimated_time")
REQUIRED_NUMBERS = ("num_epochs", "learning_rate", "batch_size", "max_length", "warmup_ratio")
OPTIONAL_VALUES = (
    "lora_r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "weight_decay",
    "lr_scheduler",
    "max_gradient_norm",
    "dpo_beta",
    "gradient_checkpointing",
)
TOP_KEYS = (*REQUIRED_TEXTS, "recommended_for", "memory_requirements_gb", "hyperparameters")
KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
KEY_TEXT = "small letters, digits, - and _, at most 64 of them"
CHOOSE_KEY = "auto"
"""Says in the setting training.preset that none is named, so no preset can be called so."""
_CHOOSE_KEY_MEANS = "stands for the choice by model, data and machine"
VALUE_KEYS = (*REQUIRED_NUMBERS, *OPTIONAL_VALUES, "use_mixed_precision")


class PresetRefused(InvalidValue):
    """A preset file cannot be used; ``key`` and ``line`` (from 1; 0 when it is missing) say where."""

    code, title = "preset_refused", "The preset cannot be used"

    def __init__(self, source: str, key: str, line: int, reason: str) -> None:
        where = f"{source}, line {line}" if line else source
        super().__init__(f"{where}: {key + ': ' if key else ''}{reason}")
        self.key, self.line, self.reason = key, line, reason


def load_builtin_presets() -> dict[str, Preset]:
    """The presets that come with btmd, by key, in the order of their difficulty."""
    folder = importlib.resources.files("presets")
    found = [
        parse_preset(entry.read_text("utf-8"), entry.name) for entry in folder.iterdir() if entry.name.endswith(".toml")
    ]
    found.sort(key=lambda preset: (DIFFICULTIES.index(preset.difficulty), preset.num_epochs, preset.key))
    return {preset.key: preset for preset in found}


def find_preset(presets: Mapping[str, Preset], wanted: str) -> Preset:
    """The preset with this key or display name, in any case. Raises UnknownPreset with the nearest one."""
    by_name = {preset.key.casefold(): preset for preset in presets.values()}
    for preset in presets.values():
        # The first one has the name: no later preset can take it from those that come with btmd.
        by_name.setdefault(preset.name.casefold(), preset)
    word = " ".join(wanted.split()).casefold()
    found = by_name.get(word)
    if found is not None:
        return found
    nearest = difflib.get_close_matches(word[:100], by_name, n=1, cutoff=0.5)
    hint = f"Did you mean {by_name[nearest[0]].key}?" if nearest else f"There are: {', '.join(presets)}."
    shown = wanted if len(wanted) <= 60 else wanted[:57] + "..."
    raise UnknownPreset(f"There is no preset called {shown!r}.", hint=hint)


def preset_of(values: Mapping[str, object]) -> Preset:
    """A preset from its values by name, checked as a file is. Raises PresetRefused."""
    document: dict[str, Any] = {"hyperparameters": {}}
    for name, value in values.items():
        (document if name in TOP_KEYS else document["hyperparameters"])[name] = value
    uses = document.get("recommended_for")
    if isinstance(uses, str):
        document["recommended_for"] = [use.strip() for use in uses.split(",") if use.strip()]
    return _Reader("", "The preset", document).read()


def why_unusable(preset: Preset) -> str:
    """Why this release cannot use a preset of an earlier one; nothing where it can."""
    try:
        preset_of(asdict(preset))
    except PresetRefused as error:
        return f"{error.key}: {error.reason}"
    return ""


def require_key(key: str) -> None:
    """Raises InvalidValue for what cannot be the key of a preset."""
    if not KEY.fullmatch(key):
        shown = key if len(key) <= 60 else key[:57] + "..."
        raise InvalidValue(f"{shown!r} cannot be a preset's key.", hint=f"It is made of {KEY_TEXT}.")
    if key == CHOOSE_KEY:
        raise InvalidValue(f"{key!r} cannot be a preset's key: it {_CHOOSE_KEY_MEANS}.", hint="Choose another key.")


def parse_preset(text: str, source: str) -> Preset:
    """Read and check one preset; ``source`` is the file's name for messages. Raises PresetRefused."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_PRESET_BYTES:
        raise PresetRefused(source, "", 0, f"larger than {MAX_PRESET_BYTES // 1024} kB")
    # The mark that some editors put before the text.
    text = text.removeprefix("\ufeff")
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        line = re.search(r"at line (\d+)", str(error))
        raise PresetRefused(source, "", int(line[1]) if line else 0, f"not valid TOML ({error})") from None
    return _Reader(text, source, document).read()


class _Reader:
    """Checks one document key by key, knowing where in the file each stands."""

    def __init__(self, text: str, source: str, document: dict[str, Any]) -> None:
        self.text, self.source, self.document = text, source, document

    def read(self) -> Preset:
        values = self.document.get("hyperparameters")
        if not isinstance(values, dict):
            raise self._refuse("hyperparameters", "this table is missing")
        for key in self.document:
            if key not in TOP_KEYS:
                raise self._refuse(key, "there is no such key" + _nearest(key, TOP_KEYS))
        for key in values:
            if key not in VALUE_KEYS:
                raise self._refuse(key, "there is no such key" + _nearest(key, VALUE_KEYS))
        texts: dict[str, Any] = {key: self._text(key) for key in REQUIRED_TEXTS}
        if not KEY.fullmatch(texts["key"]):
            raise self._refuse("key", f"{KEY_TEXT} only")
        if texts["key"] == CHOOSE_KEY:
            raise self._refuse("key", f"{CHOOSE_KEY} {_CHOOSE_KEY_MEANS}; choose another key")
        if texts["difficulty"] not in DIFFICULTIES:
            raise self._refuse("difficulty", f"must be one of {', '.join(DIFFICULTIES)}")
        self._hyperparameter("training_type", texts["training_type"])
        for key in REQUIRED_NUMBERS:
            if key not in values:
                raise self._refuse(key, "missing from [hyperparameters]")
        numbers: dict[str, Any] = {
            key: self._hyperparameter(key, given) for key, given in values.items() if key != "use_mixed_precision"
        }
        mixed = values.get("use_mixed_precision", True)
        if not isinstance(mixed, bool):
            raise self._refuse("use_mixed_precision", "must be true or false")
        return Preset(
            **texts,
            **numbers,
            use_mixed_precision=mixed,
            recommended_for=self._recommended_for(),
            memory_requirements_gb=self._memory(),
        )

    def _text(self, key: str) -> str:
        given = self.document.get(key)
        if given is None:
            raise self._refuse(key, "missing")
        if not isinstance(given, str) or not given.strip() or len(given) > MAX_TEXT:
            raise self._refuse(key, f"must be a text of 1 to {MAX_TEXT} characters")
        return given.strip()

    def _hyperparameter(self, key: str, given: object) -> Any:
        expected = HYPERPARAMETERS[key]
        if isinstance(given, str) and expected.kind not in ("str", "names"):
            raise self._refuse(key, f"must be {expected.range_text}, without quotation marks")
        try:
            return expected.read(given)
        except InvalidValue as error:
            raise self._refuse(key, error.detail) from None

    def _recommended_for(self) -> tuple[str, ...]:
        given = self.document.get("recommended_for", [])
        is_list = isinstance(given, (list, tuple))
        if not is_list or not all(isinstance(use, str) and len(use) <= MAX_TEXT for use in given):
            raise self._refuse("recommended_for", "must be a list of texts")
        return tuple(given)

    def _memory(self) -> float:
        given = self.document.get("memory_requirements_gb")
        if given is None:
            raise self._refuse("memory_requirements_gb", "missing")
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 < given <= 10_000:
            raise self._refuse("memory_requirements_gb", "must be a number of GB above 0")
        return float(given)

    def _refuse(self, key: str, reason: str) -> PresetRefused:
        shown = key if len(key) <= 60 else key[:57] + "..."
        return PresetRefused(self.source, shown, self._line_of(key), reason)

    def _line_of(self, key: str) -> int:
        pattern = re.compile(rf"""\s*(?:\[\s*)?["']?{re.escape(key)}["']?\s*(?:=|\])""")
        for number, line in enumerate(self.text.splitlines(), 1):
            if pattern.match(line):
                return number
        return 0


def _nearest(key: str, known: tuple[str, ...]) -> str:
    nearest = difflib.get_close_matches(key[:60], known, n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]}?" if nearest else ""
