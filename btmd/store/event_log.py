"""The store as everybody sees it: append, read, follow, verify."""

import asyncio
import os
import sqlite3
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from btmd.domain.event import Actor
from btmd.domain.event_log import STREAM
from btmd.errors import StoreFailed
from btmd.store.batch import (
    Appended,
    AppendRequest,
    IdempotencyKey,
    SnapshotOf,
    StreamAppend,
    encode_append,
    find_earlier,
)
from btmd.store.condensing import Condensed, CondenseRule, next_segment
from btmd.store.connection import Connect, connect_reader, connect_writer, opening_error, unreadable
from btmd.store.durations import Durations
from btmd.store.migrations import Unmigrated, expected_schema, prepare_database, released_migrations
from btmd.store.projection_engine import Projection, ProjectionEngine
from btmd.store.projection_rebuild import Rebuild, follow, rebuild_now
from btmd.store.reader import read_log, read_stream
from btmd.store.readers import Readers
from btmd.store.recorded import Head, Recorded, encode_actor
from btmd.store.schema import require_schema
from btmd.store.verification import Verification, verify_log, verify_tail
from btmd.store.writer import Clock, Writer, monotonic_us

if TYPE_CHECKING:
    from sqlmodel.ext.asyncio.session import AsyncSession

MAX_READ_ROWS = 10_000
RECENT_ROWS = 2048

Result = TypeVar("Result")


class Store:
    """The event log of one state folder. Made by :meth:`open`; every call from the event loop that opened it."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        monotonic_clock: Clock,
        boot_id: str,
        new_id: Callable[[], str],
        projections: Sequence[Projection],
        connect: Connect,
    ) -> None:
        self.path = path
        self.store_id = ""
        self.unmigrated: Unmigrated | None = None
        """Set where the database is one of an older version, because lifting it failed."""
        self.acknowledged = Durations()
        """From asking for an append to knowing that it is on the disk."""
        self._clock = clock
        self._monotonic_clock = monotonic_clock
        self._boot_id = boot_id
        self._new_id = new_id
        self._projections = projections
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._readers = Readers(path)
        self._recent: deque[Recorded] = deque(maxlen=RECENT_ROWS)
        self._waiting: list[tuple[Any, asyncio.Future[Any]]] = []
        self._committed = asyncio.Event()
        self._closed = False
        self._readable = asyncio.Event()
        """Not set while the database is opened again: a reader would keep open what is to be recovered."""
        self._readable.set()
        self._rebuilding = asyncio.Lock()
        self._condensing = asyncio.Lock()
        self._daemon = Actor(os.getuid(), os.getgid(), os.getpid(), (), "daemon")
        self._writer: Writer
        self._head: Head

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        clock: Clock,
        boot_id: str,
        new_id: Callable[[], str],
        projections: Sequence[Projection] = (),
        connect: Connect = connect_writer,
        monotonic_clock: Clock = monotonic_us,
    ) -> "Store":
        """Open or create the database at ``path``; when this returns, it is migrated, verified and caught up.

        ``clock`` gives microseconds since the epoch.
        Raises StoreTooNew, Damaged, SchemaChanged, StateFolderReadOnly, StoreFull, StoreFailed.
        """
        store = cls(
            path,
            clock=clock,
            monotonic_clock=monotonic_clock,
            boot_id=boot_id,
            new_id=new_id,
            projections=projections,
            connect=connect,
        )
        await store._loop.run_in_executor(None, store._prepare)
        store._writer.start()
        return store

    @property
    def head(self) -> Head:
        """The newest committed row."""
        return self._head

    @property
    def closed(self) -> bool:
        return self._closed

    async def append(
        self,
        appends: Sequence[StreamAppend],
        *,
        actor: Actor,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        idempotency: IdempotencyKey | None = None,
        response: bytes | Callable[[list[Recorded]], bytes] | None = None,
    ) -> list[Recorded]:
        """Append in one transaction; returns once it is on the disk.

        With an idempotency key that was used before for the same request, the rows of that time are returned.
        Raises VersionConflict, DuplicateEvent, IdempotencyMismatch, EventUndecodable, StoreFull, StoreFailed.
        """
        appended = await self.commit(
            appends,
            actor=actor,
            correlation_id=correlation_id,
            causation_id=causation_id,
            idempotency=idempotency,
            response=response,
        )
        return appended.events

    async def commit(
        self,
        appends: Sequence[StreamAppend],
        *,
        actor: Actor,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        idempotency: IdempotencyKey | None = None,
        response: bytes | Callable[[list[Recorded]], bytes] | None = None,
        snapshots: tuple[SnapshotOf, ...] = (),
    ) -> Appended:
        """As :meth:`append`, with the stored answer, and with snapshots of the states that are reached.

        A callable ``response`` is asked, in the writer's thread, for the answer to the rows.
        """
        request = AppendRequest(
            tuple(encode_append(append) for append in appends),
            encode_actor(actor),
            correlation_id,
            causation_id,
            idempotency,
            response,
            snapshots,
        )
        began_s = time.monotonic()
        result: Appended = await self._submit(request)
        self.acknowledged.add(time.monotonic() - began_s)
        return result

    async def earlier(self, key: IdempotencyKey) -> Appended | None:
        """What a request with this key did in the last 24 hours. Raises IdempotencyMismatch."""
        now_us = self._clock()
        return await self._read(lambda connection: find_earlier(connection, key, now_us))

    async def read(
        self,
        after: int = 0,
        *,
        limit: int = 1000,
        upto: int | None = None,
        streams: Sequence[str] | None = None,
        types: Sequence[str] | None = None,
        since_us: int | None = None,
    ) -> list[Recorded]:
        """Rows with ``after < seq <= upto`` in order; ``limit`` is cut to 10,000."""
        limit = min(limit, MAX_READ_ROWS)
        return await self._read(
            lambda connection: read_log(
                connection, after, limit=limit, upto=upto, streams=streams, types=types, since_us=since_us
            )
        )

    async def read_stream(self, stream: str, after_version: int = 0, *, limit: int | None = None) -> list[Recorded]:
        """All rows of a stream above a version, oldest first, or the first ``limit`` of them."""
        return await self._read(lambda connection: read_stream(connection, stream, after_version, limit=limit))

    async def load(self, stream: str, state_version: int) -> tuple[tuple[int, str] | None, list[Recorded]]:
        """The newest snapshot (version, JSON) of ``stream`` made by this version of the code, and the rows after it."""

        def newest(connection: sqlite3.Connection) -> tuple[tuple[int, str] | None, list[Recorded]]:
            row: tuple[int, str] | None = connection.execute(
                "SELECT version, state FROM snapshots WHERE stream = ? AND state_version = ?"
                " ORDER BY version DESC LIMIT 1",
                (stream, state_version),
            ).fetchone()
            return row, read_stream(connection, stream, row[0] if row else 0)

        return await self._read(newest)

    async def query(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        """Ask something of a read-only connection, in a reader's thread and for well under a second."""
        return await self._read(query)

    def recent(self, after: int, limit: int) -> list[Recorded] | None:
        """Rows after ``after`` from memory; None where they reach further back than what is kept."""
        if not self._recent or after < self._recent[0].seq - 1:
            return None
        start = after - self._recent[0].seq + 1
        return list(islice(self._recent, start, start + limit))

    async def wait_beyond(self, seq: int) -> bool:
        """Wait until the log goes beyond ``seq``; False when the store is closed."""
        while self._head.seq <= seq and not self._closed:
            await self._committed.wait()
        return not self._closed

    @asynccontextmanager
    async def session(self) -> AsyncIterator["AsyncSession"]:
        """A read-only session for the tables of projections; keep it for well under a second."""
        await self._require_readable()
        async with self._readers.session() as session:
            yield session

    async def verify(self, from_seq: int = 1) -> Verification:
        """Check the chain from ``from_seq`` to the head; names the first bad event."""
        return await self._read(lambda connection: verify_log(connection, from_seq))

    async def condense(self, rule: CondenseRule) -> Condensed | None:
        """Put the oldest ticks that may go into one segment, in one transaction; None where there are too few.

        Readers find the same rows as before. Raises Damaged, StoreFull, StoreFailed.
        """
        async with self._condensing:
            found = await self._read(lambda connection: next_segment(connection, rule))
            if found is None:
                return None
            segment, event = found
            append = encode_append(StreamAppend(STREAM, (event,)))
            await self._submit(AppendRequest((append,), encode_actor(self._daemon), segment=segment))
        return Condensed(segment.first_seq, segment.last_seq, segment.row_count, len(segment.body))

    async def rebuild_projections(self, names: Sequence[str] | None = None) -> dict[str, str | None]:
        """Rebuild these projections (None: all) aside; by name the error, or None where it runs again."""
        engine = self._writer.engine
        chosen = [status.projection.name for status in engine.statuses] if names is None else names

        rebuilds: list[Rebuild] = []

        def followed(connection: sqlite3.Connection) -> None:
            rebuilds.extend(Rebuild(engine.get(name), self.path.parent) for name in chosen)
            follow(rebuilds, connection)

        def finished(rebuild: Rebuild, connection: sqlite3.Connection) -> None:
            engine.rebuilt(rebuild.projection.name, rebuild.finish(connection))

        # One at a time: each has its file under its name.
        async with self._rebuilding:
            try:
                await self._read(followed)
            except Exception as error:  # noqa: BLE001 - reported to the caller
                for one in rebuilds:
                    one.fail(error)
            for one in rebuilds:
                if one.error is None:
                    try:
                        await self._submit(partial(finished, one))
                    except Exception as error:  # noqa: BLE001 - reported to the caller
                        # One that ran before still runs on its old tables.
                        one.fail(error)
        return {one.projection.name: one.error for one in rebuilds}

    async def round_trip(self) -> None:
        """Once through the queue and the writer: proves that it lives. Raises StoreFailed."""
        await self._submit(lambda connection: None)

    def health(self) -> dict[str, Any]:
        """State of the writer, of each projection, and of the write-ahead log."""
        failure = self._writer.failure
        return {
            "writer": "closed" if self._closed else "failed" if failure else "running",
            "error": failure.detail if failure else None,
            "head_seq": self._head.seq,
            "epoch": self._head.epoch,
            "waiting": self._writer.waiting + len(self._waiting),
            "wal_size_bytes": self.wal_size_bytes,
            "checkpoint_error": self._writer.last_checkpoint_error,
            "projections": [
                {
                    "name": status.projection.name,
                    "code_version": status.projection.code_version,
                    "position": status.position,
                    "error": status.error,
                }
                for status in self._writer.engine.statuses
            ],
        }

    @property
    def wal_size_bytes(self) -> int:
        try:
            return os.stat(f"{self.path}-wal").st_size
        except FileNotFoundError:
            return 0

    async def reopen(self) -> None:
        """After a failure of the storage: close, open again, verify, accept again; reading waits meanwhile.

        Raises as :meth:`open`.
        """
        if self._writer.failure is None:
            return
        # What was asked for just before is refused by the writer that failed; behind its end it would wait for ever.
        self._flush()
        self._readable.clear()
        try:
            await self._loop.run_in_executor(None, self._writer.stop)
            await self._readers.close()
            self._readers = Readers(self.path)
            self._recent.clear()
            await self._loop.run_in_executor(None, self._prepare)
            self._writer.start()
        finally:
            self._readable.set()
        self._announce()

    async def close(self) -> None:
        """Write what is queued, checkpoint and close; subscribers end."""
        if self._closed:
            return
        self._flush()
        self._closed = True
        self._announce()
        # Readers first: the last connection to close clears the write-ahead log away, and a reader cannot.
        await self._readers.close()
        await self._loop.run_in_executor(None, self._writer.stop)

    # --- the writer's side ---------------------------------------------------------------------

    def _prepare(self) -> None:
        """Migrate, verify, catch up; no thread runs yet. Raises as :meth:`open`."""
        try:
            prepared = prepare_database(self.path, clock=self._clock, new_id=self._new_id)
            self.unmigrated = prepared.unmigrated
            self._inspect(prepared.version)
            self._writer = self._new_writer()
        except (sqlite3.Error, OSError) as error:
            raise opening_error(error, self.path) from error
        except (TypeError, ValueError, OverflowError) as error:
            # Values of the wrong kind, or text that is none: what a damaged page reads like.
            raise unreadable(error) from error
        self._head = self._writer.head

    def _inspect(self, version: int) -> None:
        """Look before anything is written."""
        migrations = released_migrations()[:version]
        with closing(connect_reader(self.path)) as reader, closing(expected_schema(migrations)) as expected:
            require_schema(reader, expected)
            verify_tail(reader)
            self.store_id = reader.execute("SELECT store_id FROM meta").fetchone()[0]

    def _new_writer(self) -> Writer:
        writer = Writer(
            self.path,
            connect=self._connect,
            clock=self._clock,
            monotonic_clock=self._monotonic_clock,
            boot_id=self._boot_id,
            new_id=self._new_id,
            daemon=self._daemon,
            engine=ProjectionEngine(self._projections),
            deliver=self._deliver,
        )
        try:
            stale = writer.engine.load(writer.connection)
            rebuild_now(writer.engine, stale, writer.connection, self.path.parent)
        except BaseException:
            writer.connection.close()
            raise
        return writer

    def _submit(self, entry: Any) -> "asyncio.Future[Any]":
        self._require_open()
        if self._writer.failure is not None:
            raise self._writer.failure.with_traceback(None)
        future: asyncio.Future[Any] = self._loop.create_future()
        # All that is asked in one turn of the loop goes to the writer at once: one commit, not one each.
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append((entry, future))
        return future

    def _flush(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._writer.put(waiting)

    def _deliver(self, outcomes: list[tuple["asyncio.Future[Any]", Any]], rows: list[Recorded], head: Head) -> None:
        """From the writer's thread. A loop that is closed has nobody left to tell."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, outcomes, rows, head)

    def _settle(self, outcomes: list[tuple["asyncio.Future[Any]", Any]], rows: list[Recorded], head: Head) -> None:
        if rows and self._recent and rows[0].seq != self._recent[-1].seq + 1:
            # Another program appended in between: what is kept must be without a gap.
            self._recent.clear()
        self._recent.extend(rows)
        if head.seq != self._head.seq:
            self._head = head
            self._announce()
        for future, outcome in outcomes:
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    def _require_open(self) -> None:
        if self._closed:
            raise StoreFailed("The event log is closed.", hint="Start btmd again.")

    async def _require_readable(self) -> None:
        self._require_open()
        if not self._readable.is_set():
            await self._readable.wait()
            self._require_open()

    def _announce(self) -> None:
        committed, self._committed = self._committed, asyncio.Event()
        committed.set()

    async def _read(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        await self._require_readable()
        return await self._readers.run(query)


__all__ = [
    "Appended",
    "Head",
    "IdempotencyKey",
    "Recorded",
    "SnapshotOf",
    "Store",
    "StreamAppend",
]
