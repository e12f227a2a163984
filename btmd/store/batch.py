"""Turning queued appends into rows: conflicts, ids, times and hashes, all before any SQL is written."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from btmd.domain.event import Event
from btmd.errors import BtmdError, IdempotencyMismatch
from btmd.store.codec import encode_event
from btmd.store.errors import DuplicateEvent, VersionConflict
from btmd.store.reader import is_tick_stream, last_version, read_head, read_log
from btmd.store.recorded import COLUMNS, Recorded, row_hash
from btmd.store.segments import Segment

IDEMPOTENCY_LIFETIME_US = 24 * 3600 * 1_000_000
MAX_KNOWN_STREAMS = 50_000

_INSERT = {table: f"INSERT INTO {table} ({COLUMNS}) VALUES ({','.join('?' * 16)})" for table in ("events", "ticks")}


class StreamAppend(msgspec.Struct, frozen=True):
    """Events for one stream.

    ``expected_version`` is the version the stream must have (None: any). Given ``event_ids`` make a repeated append
    fail with DuplicateEvent; otherwise they are made up.
    """

    stream: str
    events: tuple[Event, ...]
    expected_version: int | None = None
    event_ids: tuple[str, ...] | None = None


class IdempotencyKey(msgspec.Struct, frozen=True):
    """A key that a user chose for a request, and the hash of that request; kept for 24 hours."""

    uid: int
    key: str
    request_hash: str


class SnapshotOf(msgspec.Struct, frozen=True):
    """State of ``stream`` at ``version``, which the append reaches; ``state`` is JSON."""

    stream: str
    version: int
    state_version: int
    state: str


class Appended(msgspec.Struct, frozen=True):
    """The rows of an append. ``repeated``: they, and the answer, are those of an earlier request with the same key."""

    events: list[Recorded]
    response: bytes | None = None
    repeated: bool = False


class EncodedAppend(msgspec.Struct, frozen=True, gc=False):
    stream: str
    events: tuple[tuple[str, Event], ...]
    expected_version: int | None
    event_ids: tuple[str, ...] | None


class AppendRequest(msgspec.Struct, frozen=True):
    """One transaction as it was asked for, events already encoded."""

    appends: tuple[EncodedAppend, ...]
    actor_json: str
    correlation_id: str | None = None
    causation_id: str | None = None
    idempotency: IdempotencyKey | None = None
    response: bytes | Callable[[list[Recorded]], bytes] | None = None
    snapshots: tuple[SnapshotOf, ...] = ()
    segment: Segment | None = None
    """Ticks that were condensed: put in with the event that announces it, and its rows let go."""


class Tail:
    """What the writer knows about the end of the log, so that a conflict is refused before any SQL."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        head = read_head(connection)
        self.seq, self.hash, self.epoch = head.seq, head.hash, head.epoch
        newest = read_log(connection, head.seq - 1, limit=1) if head.seq else []
        self.recorded_at_us = newest[0].recorded_at_us if newest else 0
        self.wall_at_us = newest[0].wall_at_us if newest else None
        self.versions: dict[str, int] = {}

    def version_of(self, connection: sqlite3.Connection, stream: str) -> int:
        version = self.versions.get(stream)
        if version is None:
            if len(self.versions) >= MAX_KNOWN_STREAMS:
                self.versions.clear()
            version = self.versions[stream] = last_version(connection, stream)
        return version


class Batch:
    """The appends that share one commit. Nothing here changes ``tail`` before ``committed``."""

    def __init__(
        self, connection: sqlite3.Connection, tail: Tail, *, wall_at_us: int, boot_id: str, new_id: Callable[[], str]
    ) -> None:
        self._connection = connection
        self._tail = tail
        self._wall_at_us = wall_at_us
        self._boot_id = boot_id
        self._new_id = new_id
        self._seq, self._hash, self._recorded_at_us = tail.seq, tail.hash, tail.recorded_at_us
        self._versions: dict[str, int] = {}
        self._ids: set[str] = set()
        self._keys: dict[tuple[int, str], tuple[IdempotencyKey, Appended]] = {}
        self._snapshots: list[tuple[Any, ...]] = []
        self._segments: list[tuple[Segment, int]] = []
        self.groups: list[list[Recorded]] = []

    def add(self, request: AppendRequest) -> Appended:
        """The rows that ``request`` will become. Raises VersionConflict, DuplicateEvent, IdempotencyMismatch.

        A request that raises leaves no trace in the batch.
        """
        if request.idempotency is not None:
            earlier = self._earlier(request.idempotency)
            if earlier is not None:
                return earlier
        versions = self._expected_versions(request)
        ids = self._event_ids(request)
        rows = self._rows(request, ids, versions)
        response = request.response(rows) if callable(request.response) else request.response
        appended = Appended(rows, response)
        if request.idempotency is not None:
            key = request.idempotency
            self._keys[key.uid, key.key] = (key, appended)
        if rows:
            self._seq, self._hash, self._recorded_at_us = rows[-1].seq, rows[-1].hash, rows[-1].recorded_at_us
            self._versions.update(versions)
            self._ids.update(ids)
            self.groups.append(rows)
            if request.segment is not None:
                self._segments.append((request.segment, rows[-1].seq))
            for snapshot in request.snapshots:
                self._snapshots.append(
                    (snapshot.stream, snapshot.version, rows[-1].seq, snapshot.state_version, snapshot.state)
                )
        return appended

    @property
    def is_empty(self) -> bool:
        return not self.groups and not self._keys

    @property
    def rows_let_go(self) -> int:
        """How many condensed ticks leave their table."""
        return sum(segment.row_count for segment, _ in self._segments)

    def write(self) -> None:
        """Insert everything, inside the transaction that the caller began."""
        run: list[tuple[Any, ...]] = []
        table = "events"
        for group in self.groups:
            for row in group:
                belongs = "ticks" if is_tick_stream(row.stream) else "events"
                if belongs != table and run:
                    self._connection.executemany(_INSERT[table], run)
                    run = []
                table = belongs
                run.append(row.row())
        if run:
            self._connection.executemany(_INSERT[table], run)
        for segment, event_seq in self._segments:
            self._exchange(segment, event_seq)
        if self._snapshots:
            self._connection.executemany("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?)", self._snapshots)
        if self._keys:
            self._write_keys()

    def committed(self) -> None:
        tail = self._tail
        tail.seq, tail.hash, tail.recorded_at_us = self._seq, self._hash, self._recorded_at_us
        tail.wall_at_us = self._wall_at_us
        tail.versions.update(self._versions)

    def _exchange(self, segment: Segment, event_seq: int) -> None:
        """The segment for its rows; the schema's guards see to it that it holds every one of them."""
        # The guard on segments looks into the event's JSON, and not every SQLite counts that among the functions that a
        # schema may use unasked. The schema was compared with ours when the store was opened.
        self._connection.execute("PRAGMA trusted_schema=ON")
        try:
            self._connection.execute(
                "INSERT INTO segments (first_seq, last_seq, row_count, event_seq, encoding, body, prev_hash, hash)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    segment.first_seq,
                    segment.last_seq,
                    segment.row_count,
                    event_seq,
                    segment.encoding,
                    segment.body,
                    segment.prev_hash,
                    segment.hash,
                ),
            )
        finally:
            self._connection.execute("PRAGMA trusted_schema=OFF")
        self._connection.execute("DELETE FROM ticks WHERE seq BETWEEN ? AND ?", (segment.first_seq, segment.last_seq))

    def _write_keys(self) -> None:
        oldest_us = self._wall_at_us - IDEMPOTENCY_LIFETIME_US
        self._connection.execute("DELETE FROM idempotency WHERE created_at < ?", (oldest_us,))
        self._connection.executemany(
            "INSERT INTO idempotency (uid, key, request_hash, response, first_seq, last_seq, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    key.uid,
                    key.key,
                    key.request_hash,
                    appended.response,
                    appended.events[0].seq if appended.events else 0,
                    appended.events[-1].seq if appended.events else -1,
                    self._wall_at_us,
                )
                for key, appended in self._keys.values()
            ],
        )

    def _earlier(self, key: IdempotencyKey) -> Appended | None:
        pending = self._keys.get((key.uid, key.key))
        if pending is None:
            return find_earlier(self._connection, key, self._wall_at_us)
        require_same_request(pending[0].request_hash, key)
        return Appended(pending[1].events, pending[1].response, repeated=True)

    def _expected_versions(self, request: AppendRequest) -> dict[str, int]:
        """The streams' versions before the request, checked. Raises VersionConflict."""
        versions: dict[str, int] = {}
        ahead: dict[str, int] = {}
        for append in request.appends:
            actual = versions.get(append.stream)
            if actual is None:
                actual = self._versions.get(append.stream)
                if actual is None:
                    actual = self._tail.version_of(self._connection, append.stream)
                versions[append.stream] = actual
            actual += ahead.get(append.stream, 0)
            if append.expected_version is not None and append.expected_version != actual:
                raise VersionConflict(append.stream, expected=append.expected_version, actual=actual)
            ahead[append.stream] = ahead.get(append.stream, 0) + len(append.events)
        return versions

    def _event_ids(self, request: AppendRequest) -> list[str]:
        """The ids of all events of the request, in order. Raises DuplicateEvent."""
        ids: list[str] = []
        for append in request.appends:
            if append.event_ids is None:
                ids.extend(self._new_id() for _ in append.events)
                continue
            table = "ticks" if is_tick_stream(append.stream) else "events"
            for event_id in append.event_ids:
                known = self._connection.execute(f"SELECT 1 FROM {table} WHERE event_id = ?", (event_id,)).fetchone()
                if known or event_id in self._ids or event_id in ids:
                    raise DuplicateEvent(event_id)
                ids.append(event_id)
        return ids

    def _rows(self, request: AppendRequest, ids: Sequence[str], versions: dict[str, int]) -> list[Recorded]:
        """The rows, chained to the batch; ``versions`` is moved on."""
        rows: list[Recorded] = []
        seq, digest, recorded_at_us = self._seq, self._hash, self._recorded_at_us
        for append in request.appends:
            version = versions[append.stream]
            for data, event in append.events:
                seq, version = seq + 1, version + 1
                recorded_at_us = max(self._wall_at_us, recorded_at_us + 1)
                values = (
                    seq,
                    self._tail.epoch,
                    append.stream,
                    version,
                    ids[len(rows)],
                    event.TYPE,
                    event.SCHEMA_VERSION,
                    recorded_at_us,
                    self._wall_at_us,
                    self._boot_id,
                    request.actor_json,
                    request.correlation_id,
                    request.causation_id,
                    data,
                )
                before, digest = digest, row_hash(digest, values)
                rows.append(Recorded(*values, before, digest, event))
            versions[append.stream] = version
        return rows


def encode_append(append: StreamAppend) -> EncodedAppend:
    """The append with its events as JSON. Raises EventUndecodable; ValueError for what no caller may ask."""
    if append.event_ids is not None and len(append.event_ids) != len(append.events):
        raise ValueError("as many event ids as events")
    if not append.stream or "\0" in append.stream:
        raise ValueError("a stream needs a name")
    for event in append.events:
        if is_tick_stream(append.stream) != event.IS_TICK:
            raise ValueError(f"{event.TYPE} does not belong on the stream {append.stream}")
    events = tuple(encode_event(event) for event in append.events)
    return EncodedAppend(append.stream, events, append.expected_version, append.event_ids)


def find_earlier(connection: sqlite3.Connection, key: IdempotencyKey, now_us: int) -> Appended | None:
    """What an earlier request with this key did, if it is under 24 hours old. Raises IdempotencyMismatch."""
    row = connection.execute(
        "SELECT request_hash, response, first_seq, last_seq, created_at FROM idempotency WHERE uid = ? AND key = ?",
        (key.uid, key.key),
    ).fetchone()
    if row is None or row[4] < now_us - IDEMPOTENCY_LIFETIME_US:
        return None
    require_same_request(row[0], key)
    count = row[3] - row[2] + 1
    events = read_log(connection, row[2] - 1, limit=count, upto=row[3]) if count > 0 else []
    return Appended(events, row[1], repeated=True)


def require_same_request(request_hash: str, key: IdempotencyKey) -> None:
    if request_hash != key.request_hash:
        raise IdempotencyMismatch(
            f"The idempotency key {key.key} was used for another request.", hint="Use a new key for a new request."
        )


Outcome = Appended | BtmdError | Exception
