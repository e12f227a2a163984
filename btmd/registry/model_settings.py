"""Training values that were set for one model: plans begin with them, and say so."""

from collections.abc import Mapping, Set

from msgspec.structs import replace

from btmd.domain.preset import Preset
from btmd.planning import Plan
from btmd.planning.plan import Value

_ADAPTER_KEYS = ("lora_r", "lora_alpha", "lora_dropout", "target_modules")


def beginning_with(
    settings: Mapping[str, object], asked: Mapping[str, object], preset: Preset, allow: Set[str]
) -> dict[str, object]:
    """The overrides of a plan: what was asked for, then the model's own. Those of an adapter go where there is none."""
    merged = {**settings, **asked}
    whole = str(merged.get("training_type", preset.training_type)) not in ("lora_adaptation", "qlora_adaptation")
    if whole and not {"lora", "qlora"} & allow:
        idle = [key for key in _ADAPTER_KEYS if key in settings and key not in asked]
        merged = {key: value for key, value in merged.items() if key not in idle}
    return merged


def told_as_settings(plan: Plan, settings: Mapping[str, object], asked: Mapping[str, object], model: str) -> Plan:
    """The plan, in which values that came from the model's settings say so."""
    values = dict(plan.values)
    for key in settings.keys() - asked.keys():
        value = values.get(key)
        if value is not None and value.source == "user":
            reason = f"Set for this model: `btmctl models set {model} {key}=...` changes it."
            values[key] = Value(value.value, "setting", reason)
    return replace(plan, values=values)
