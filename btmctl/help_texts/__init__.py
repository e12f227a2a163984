"""What every error code means, why it comes about, and what to do; read only when somebody asks for help."""

from collections.abc import Mapping
from importlib import import_module

from btmctl.help_texts.form import Help

GROUPS = {
    "commands": "What was typed",
    "people": "Who may do what",
    "data": "Datasets",
    "data_files": "Files of data that cannot be read",
    "models": "Models",
    "presets_settings": "Presets and settings",
    "trainings": "Trainings",
    "training_ends": "Why a training ended",
    "machine": "The machine",
    "daemon": "The daemon",
    "backups": "Backups and earlier states",
    "damage": "Damage",
}
"""The module of each group of codes, and what the group is about."""


def groups() -> dict[str, Mapping[str, Help]]:
    """The codes of each group with what there is to say about them, by the group's heading."""
    return {heading: import_module(f"{__name__}.{name}").HELP for name, heading in GROUPS.items()}


def codes() -> dict[str, Help]:
    """What there is to say about every code."""
    return {code: text for group in groups().values() for code, text in group.items()}
