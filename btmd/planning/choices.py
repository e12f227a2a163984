"""The values chosen so far; what the user set always wins."""

from collections.abc import Mapping

from btmd.planning.hyperparameters import HYPERPARAMETERS, HyperparameterValue
from btmd.planning.plan import Source, Value
from btmd.planning.request import PlanRequest

USER_REASON = "As you asked."


class Choices:
    """Collects one value for each key, with its source and reason."""

    def __init__(self, request: PlanRequest, chosen: Mapping[str, HyperparameterValue]) -> None:
        self.request = request
        self.chosen = chosen
        self.values: dict[str, Value] = {}

    def choose(self, key: str, value: HyperparameterValue, source: Source, reason: str) -> None:
        """Take ``value`` unless the user has set this key."""
        assert key in HYPERPARAMETERS
        if key in self.chosen:
            self.values[key] = Value(self.chosen[key], "user", USER_REASON)
        else:
            self.values[key] = Value(value, source, reason)

    def settle(self, key: str, value: HyperparameterValue, source: Source, reason: str) -> None:
        """Take ``value`` even though the user may have set this key: it was permitted, or says the same."""
        self.values[key] = Value(value, source, reason)

    def choose_setting(self, key: str, setting: str, default: int | float, reason: str) -> None:
        """Take the setting in force unless the user has set this key for this training."""
        self.choose(key, self.setting(setting, default), "setting", f"{reason} Setting {setting}.")

    def setting(self, key: str, default: int | float) -> int | float:
        """The setting's number, or ``default`` where it is not given."""
        value = self.request.settings.get(key, default)
        assert isinstance(value, (int, float))
        return value

    def integer(self, key: str) -> int:
        value = self.values[key].value
        assert isinstance(value, int)
        return value

    def number(self, key: str) -> float:
        value = self.values[key].value
        assert isinstance(value, (int, float))
        return float(value)
