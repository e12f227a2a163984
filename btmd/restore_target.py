"""What a restore leads to: the state after an event of the log, or the one that a backup holds."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from btmd.backup.requests import StatesAnswer
from btmd.backups import Backups
from btmd.domain.decider import Decider
from btmd.domain.event import Event
from btmd.domain.restore import NAMEABLE
from btmd.history import History
from btmd.projections.backup import BackupRow
from btmd.store.codec import RawEvent, decode_event
from btmd.store.event_log import Store
from btmd.store.reader import read_log
from btmd.store.recorded import Recorded

PREFIXES = ("settings", "preset-", "model-", "dataset-", "access")
"""The streams that a restore is made of, by the beginnings of their names."""


class RestoreTarget(Protocol):
    """An earlier state, stream by stream. ``backup_id`` is empty where no backup was named."""

    @property
    def seq(self) -> int:
        """The event it is the state after, in the log that it comes from."""

    @property
    def backup_id(self) -> str: ...

    @property
    def held(self) -> frozenset[str]:
        """The parts it knows something of, of ``NAMEABLE``: any other must stay as it is."""

    def streams(self, prefix: str) -> frozenset[str]:
        """The names of its streams that begin so and that the present log may not have."""

    def events(self, stream: str, now: Sequence[Recorded]) -> list[Event]:
        """What had happened to a stream; ``now`` is what the present log has of it."""

    async def state(self, stream: str, decider: Decider) -> Any:
        """What that folds to; None before the stream's first event."""

    def knows(self, row: Recorded) -> bool:
        """Whether an event of the present log had happened."""


class LogTarget:
    """The state after event ``seq`` of the present log; a backup that ends there may ``hold`` less of it."""

    def __init__(self, history: History, seq: int, *, backup_id: str = "", held: frozenset[str] | None = None) -> None:
        self._history = history
        self.seq, self.backup_id = seq, backup_id
        self.held = frozenset(NAMEABLE) if held is None else held

    def streams(self, prefix: str) -> frozenset[str]:
        return frozenset()

    def events(self, stream: str, now: Sequence[Recorded]) -> list[Event]:
        return known(row.event for row in now if row.seq <= self.seq)

    async def state(self, stream: str, decider: Decider) -> Any:
        return await self._history.state_at(stream, decider, self.seq)

    def knows(self, row: Recorded) -> bool:
        return row.seq <= self.seq


class BackupTarget:
    """What a backup holds, whatever became of the log since."""

    def __init__(self, backup_id: str, answer: StatesAnswer) -> None:
        self.seq, self.backup_id = answer.head_seq, backup_id
        self.held = parts_held(answer.components)
        self._ids = frozenset(one.event_id for past in answer.streams.values() for one in past)
        self._events = {
            stream: known(decode_event(one.type, one.schema_version, one.data_json) for one in past)
            for stream, past in answer.streams.items()
        }

    def streams(self, prefix: str) -> frozenset[str]:
        return frozenset(stream for stream in self._events if stream.startswith(prefix))

    def events(self, stream: str, now: Sequence[Recorded]) -> list[Event]:
        return self._events.get(stream, [])

    async def state(self, stream: str, decider: Decider) -> Any:
        return decider.fold(None, self._events.get(stream, []))

    def knows(self, row: Recorded) -> bool:
        return row.event_id in self._ids


def parts_held(components: Sequence[str]) -> frozenset[str]:
    """The parts of a restore that a backup of these components knows; consents stand with their datasets."""
    held = set(components) & set(NAMEABLE)
    return frozenset(held | {"consent"} if "datasets" in held else held)


def known(events: Iterable[Event]) -> list[Event]:
    """Without those that this release does not know."""
    return [one for one in events if not isinstance(one, RawEvent)]


async def target_in_backup(row: BackupRow, backups: Backups, store: Store, history: History) -> RestoreTarget:
    """The state that a backup holds, which is read through first.

    Where the present log holds the backup's last event, everything before it is the same: the chain says so. Raises
    what ``Backups.states`` does.
    """
    answer = await backups.states(row, PREFIXES)
    seq = answer.head_seq
    found = await store.query(lambda connection: read_log(connection, seq - 1, limit=1, upto=seq)) if seq else []
    if found and found[0].hash.hex() == answer.head_hash:
        return LogTarget(history, seq, backup_id=row.backup_id, held=parts_held(answer.components))
    return BackupTarget(row.backup_id, answer)
