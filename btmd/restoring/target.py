"""What a restore leads to: the state after an event of the log, or the one that a backup holds."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from btmd.backup.requests import StatesAnswer
from btmd.backups.keeper import Backups
from btmd.child.caller import OnProgress, ignore_progress
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

    @property
    def contents(self) -> frozenset[str]:
        """The files of datasets, by their SHA-256, that can be brought back with it."""

    async def bring_back(self, contents: Collection[str]) -> None:
        """Put those files back where they lay. Raises what is wrong with one of them."""


class Archive(Struct, frozen=True):
    """A backup that was read through, to bring files back from."""

    row: BackupRow
    backups: Backups
    answer: StatesAnswer

    @property
    def contents(self) -> frozenset[str]:
        return frozenset(self.answer.contents)

    async def bring_back(self, contents: Collection[str]) -> None:
        await self.backups.bring_back(self.row, contents)


class LogTarget:
    """The state after event ``seq`` of the present log; a backup that ends there may hold less of it."""

    def __init__(self, history: History, seq: int, archive: Archive | None = None) -> None:
        self._history, self._archive = history, archive
        self.seq = seq
        self.backup_id = "" if archive is None else archive.row.backup_id
        self.held = frozenset(NAMEABLE) if archive is None else parts_held(archive.answer.components)

    @property
    def contents(self) -> frozenset[str]:
        return frozenset() if self._archive is None else self._archive.contents

    async def bring_back(self, contents: Collection[str]) -> None:
        assert self._archive is not None, "without a backup there are no contents"
        await self._archive.bring_back(contents)

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

    def __init__(self, archive: Archive) -> None:
        answer = archive.answer
        self._archive = archive
        self.seq, self.backup_id = answer.head_seq, archive.row.backup_id
        self.held = parts_held(answer.components)
        self._ids = frozenset(one.event_id for past in answer.streams.values() for one in past)
        self._events = {
            stream: known(decode_event(one.type, one.schema_version, one.data_json) for one in past)
            for stream, past in answer.streams.items()
        }

    @property
    def contents(self) -> frozenset[str]:
        return self._archive.contents

    async def bring_back(self, contents: Collection[str]) -> None:
        await self._archive.bring_back(contents)

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


async def target_in_backup(
    row: BackupRow, backups: Backups, store: Store, history: History, on_progress: OnProgress = ignore_progress
) -> RestoreTarget:
    """The state that a backup holds, which is read through first.

    Where the present log holds the backup's last event, everything before it is the same: the chain says so. Raises
    what ``Backups.states`` does.
    """
    answer = await backups.states(row, PREFIXES, on_progress)
    archive, seq = Archive(row, backups, answer), answer.head_seq
    found = await store.query(lambda connection: read_log(connection, seq - 1, limit=1, upto=seq)) if seq else []
    if found and found[0].hash.hex() == answer.head_hash:
        return LogTarget(history, seq, archive)
    return BackupTarget(archive)
