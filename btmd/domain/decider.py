"""The shape that every noun of the domain has: a stream, a state, decide and evolve."""

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from btmd.domain.event import Event


class Decider(Struct, frozen=True):
    """How the commands of one noun are answered.

    ``decide`` returns the events that follow from a command, or raises a :class:`btmd.errors.BtmdError`; an empty
    list means that nothing changes. ``evolve`` folds one event into the state; the state before the first event is
    None. ``state_type`` is a frozen struct of JSON values, so that it can be kept as a snapshot.
    """

    noun: str
    stream: Callable[[Any], str]
    decide: Callable[[Any, Any], list[Event]]
    evolve: Callable[[Any, Event], Any]
    state_type: type[Any]

    def fold(self, state: Any, events: Iterable[Event]) -> Any:
        for happened in events:
            state = self.evolve(state, happened)
        return state
