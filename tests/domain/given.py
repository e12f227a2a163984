"""Given these events, when this is asked, then these events follow - or this refusal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from btmd.domain.commands import DECIDERS
from btmd.domain.event import Event
from btmd.errors import BtmdError


@dataclass
class Given:
    """A history, to be asked something."""

    history: Sequence[Event]

    def when(self, command: Any) -> "When":
        decider = DECIDERS[type(command)]
        return When(lambda: decider.decide(command, decider.fold(None, self.history)))

    def state(self, command_type: type[Any]) -> Any:
        return DECIDERS[command_type].fold(None, self.history)


class When:
    def __init__(self, run: Any) -> None:
        self._run = run

    def then(self, *events: Event) -> None:
        assert self._run() == list(events)

    def then_nothing(self) -> None:
        assert self._run() == []

    def then_refused(self, error: type[BtmdError], *words: str) -> None:
        with pytest.raises(error) as caught:
            self._run()
        told = f"{caught.value.detail} {caught.value.hint}"
        for word in words:
            assert word in told


def given(*history: Event) -> Given:
    return Given(history)
