"""A preset as TOML: a new text with every value, or a person's text with values exchanged and comments kept."""

from typing import Any

from btmd.domain.preset import Preset
from btmd.domain.preset_definition import differing, values_of
from btmd.files.toml_text import put, toml
from btmd.planning.hyperparameters import HYPERPARAMETERS
from btmd.presets.reading import TOP_KEYS, PresetRefused, parse_preset

TABLE = "hyperparameters"


def rendered(preset: Preset) -> str:
    """A new text with all values of ``preset``, each said what it may be."""
    values = values_of(preset)
    lines = [f"{name} = {toml(values[name])}" for name in TOP_KEYS if name in values]
    lines += ["", f"[{TABLE}]"]
    for name, value in values.items():
        if name not in TOP_KEYS:
            known = HYPERPARAMETERS.get(name)
            lines += [] if known is None else [f"# {known.meaning} It is {known.range_text}."]
            lines.append(f"{name} = {toml(value)}")
    return "\n".join(lines) + "\n"


def written(text: str | None, preset: Preset, source: str) -> str:
    """``text`` with exactly the values of ``preset``, its comments and order kept; None makes a new text."""
    if text is None:
        return rendered(preset)
    import tomlkit

    try:
        present = parse_preset(text, source)
        document: Any = tomlkit.parse(text)
        values = values_of(preset)
        for name in differing(present, preset):
            put(document, [name] if name in TOP_KEYS else [TABLE, name], values[name])
        made: str = tomlkit.dumps(document)
        if parse_preset(made, source) == preset:
            return made
    except (
        tomlkit.exceptions.TOMLKitError,
        PresetRefused,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ):
        # Tables in a form that cannot be edited in place: below, they are written anew.
        pass
    return rendered(preset)
