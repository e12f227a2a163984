"""The history of the settings as people see it: changes, each with who, when and why, and what differs."""

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from btmd.domain.event import Actor, Event
from btmd.domain.settings import SettingChanged
from btmd.domain.settings_schema import Value


class Entry(Struct, frozen=True):
    """An event with its place in the log. Times in microseconds since the epoch."""

    seq: int
    recorded_at_us: int
    wall_at_us: int
    actor: Actor
    correlation_id: str | None
    event: Event


class ValueChange(Struct, frozen=True):
    """One setting's value before and after; None stands for the default."""

    key: str
    before: Value | None
    after: Value | None


class Change(Struct, frozen=True):
    """What one command changed. ``number`` is that of its last event: the state after it is the one at ``number``."""

    number: int
    first_seq: int
    recorded_at_us: int
    wall_at_us: int
    actor: Actor
    why: str
    correlation_id: str | None
    values: tuple[ValueChange, ...]

    @property
    def before(self) -> dict[str, Value | None]:
        """By setting, what the change found."""
        found: dict[str, Value | None] = {}
        for one in self.values:
            found.setdefault(one.key, one.before)
        return found

    @property
    def after(self) -> dict[str, Value | None]:
        return {one.key: one.after for one in self.values}


def changes_of(newest_first: Iterable[Entry]) -> Iterator[Change]:
    """The changes that these entries of the stream belong to, newest first."""
    group: list[Entry] = []
    for entry in newest_first:
        if not isinstance(entry.event, SettingChanged):
            continue
        if group and not _together(entry, group[-1]):
            yield _change(group)
            group = []
        group.append(entry)
    if group:
        yield _change(group)


def _together(one: Entry, following: Entry) -> bool:
    """Whether both were recorded by one command."""
    if one.correlation_id is not None or following.correlation_id is not None:
        return one.correlation_id == following.correlation_id
    # Rows of before changes had ids: those of one command stand side by side, of one process at one time.
    return (one.seq + 1, one.wall_at_us, one.actor) == (following.seq, following.wall_at_us, following.actor)


def _change(newest_first: list[Entry]) -> Change:
    first, last = newest_first[-1], newest_first[0]
    happened = [entry.event for entry in reversed(newest_first) if isinstance(entry.event, SettingChanged)]
    return Change(
        number=last.seq,
        first_seq=first.seq,
        recorded_at_us=last.recorded_at_us,
        wall_at_us=last.wall_at_us,
        actor=first.actor,
        why=happened[0].why,
        correlation_id=first.correlation_id,
        values=tuple(ValueChange(one.key, one.before, one.after) for one in happened),
    )


def difference(before: Mapping[str, Value], after: Mapping[str, Value]) -> list[ValueChange]:
    """What differs between two sets of values, in the order of the keys."""
    return [
        ValueChange(key, before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) or type(before.get(key)) is not type(after.get(key))
    ]
