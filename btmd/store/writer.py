"""The one thread that writes: whole transactions from a queue, one commit for all that wait.

An append is answered only after the commit that holds it. A full disk refuses the appends of that commit and nothing
else. Any other failure of the storage, a failed fsync above all, ends the thread: what the kernel still has in memory
may differ from what the disk has, so the store is opened again and verified before it accepts anything.
"""

import queue
import sqlite3
import threading
import time
from asyncio import Future
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from btmd.domain.event import Actor
from btmd.domain.machine import STREAM as MACHINE_STREAM
from btmd.domain.machine import ClockJumped
from btmd.errors import BtmdError, StoreFailed, StoreFull
from btmd.store.batch import Appended, AppendRequest, Batch, EncodedAppend, Outcome, Tail
from btmd.store.codec import encode_event
from btmd.store.connection import Connect, is_storage_failure, storage_error
from btmd.store.errors import StoreBusy
from btmd.store.projection_engine import ProjectionEngine
from btmd.store.recorded import Head, Recorded, encode_actor

MAX_BATCH_REQUESTS = 256
CHECKPOINT_COMMITS = 128
CHECKPOINT_ROWS = 1000
CLOCK_JUMP_US = 2_000_000

Clock = Callable[[], int]
Task = Callable[[sqlite3.Connection], Any]
Deliver = Callable[[list[tuple["Future[Any]", Any]], list[Recorded], Head], None]


def monotonic_us() -> int:
    """Microseconds that also pass while the machine sleeps: waking up is no jump of the clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


class Writer:
    """Owns the writing connection, the tail of the log and the projections' positions.

    ``deliver`` is called from the writer's thread with the outcomes of a commit, its rows and the new head.
    """

    def __init__(
        self,
        path: Path,
        *,
        connect: Connect,
        clock: Clock,
        monotonic_clock: Clock,
        boot_id: str,
        new_id: Callable[[], str],
        daemon: Actor,
        engine: ProjectionEngine,
        deliver: Deliver,
    ) -> None:
        self.connection = connect(path)
        self.tail = Tail(self.connection)
        self.engine = engine
        self.failure: BtmdError | None = None
        self.last_checkpoint_error: str | None = None
        self._clock = clock
        self._monotonic_clock = monotonic_clock
        self._boot_id = boot_id
        self._new_id = new_id
        self._daemon_json = encode_actor(daemon)
        self._deliver = deliver
        self._queue: queue.SimpleQueue[Sequence[tuple[AppendRequest | Task, Future[Any]]] | None] = queue.SimpleQueue()
        self._clock_seen: tuple[int, int] | None = None
        self._commits_since_checkpoint = 0
        self._rows_since_checkpoint = 0
        self._thread = threading.Thread(target=self._run, name="btmd-writer", daemon=True)

    @property
    def head(self) -> Head:
        return Head(self.tail.seq, self.tail.hash, self.tail.epoch)

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def start(self) -> None:
        self._thread.start()

    def put(self, entries: Sequence[tuple[AppendRequest | Task, "Future[Any]"]]) -> None:
        self._queue.put(entries)

    def stop(self) -> None:
        """Write what is queued, checkpoint, close; blocks until the thread has ended."""
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join()
        self.connection.close()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            taken = self._queue.get()
            entries: list[tuple[AppendRequest | Task, Future[Any]]] = []
            while True:
                if taken is None:
                    stopping = True
                else:
                    entries.extend(taken)
                if stopping or len(entries) >= MAX_BATCH_REQUESTS or self._queue.empty():
                    break
                taken = self._queue.get()
            try:
                self._work_off(entries)
            except Exception as error:  # noqa: BLE001 - a thread that ended unseen would leave its callers waiting
                self.failure = StoreFailed(f"The writer failed ({error!r}).", hint="Restart btmd.")
                self._deliver([(future, self.failure) for _, future in entries], [], self.head)
            del entries, taken
        if self.failure is None:
            self._checkpoint()

    def _work_off(self, entries: list[tuple[AppendRequest | Task, "Future[Any]"]]) -> None:
        appends: list[tuple[AppendRequest, Future[Any]]] = []
        for entry, future in entries:
            if isinstance(entry, AppendRequest):
                appends.append((entry, future))
                continue
            self._commit(appends)
            appends = []
            self._perform(entry, future)
        self._commit(appends)

    def _perform(self, task: Task, future: "Future[Any]") -> None:
        outcome: Any = self.failure
        if outcome is None:
            try:
                outcome = task(self.connection)
            except Exception as error:  # noqa: BLE001 - it is the caller's: delivered through the future
                outcome = self._outcome_of(error)
        self._deliver([(future, outcome)], [], self.head)

    def _commit(self, appends: list[tuple[AppendRequest, "Future[Any]"]]) -> None:
        if not appends:
            return
        requests = [request for request, _ in appends]
        outcomes, rows = self._transact(requests)
        self._deliver(
            [(future, outcome) for (_, future), outcome in zip(appends, outcomes, strict=True)], rows, self.head
        )
        if self.failure is None and (
            self._commits_since_checkpoint >= CHECKPOINT_COMMITS or self._rows_since_checkpoint >= CHECKPOINT_ROWS
        ):
            self._checkpoint()

    def _transact(self, requests: Sequence[AppendRequest]) -> tuple[list[Outcome], list[Recorded]]:
        """One commit for all requests; one for each of them where the schema refused a row against expectation."""
        try:
            return self._attempt(requests)
        except sqlite3.IntegrityError:
            # Somebody else wrote: what is known of the tail is not so. Learn it again.
            self.tail = Tail(self.connection)
        outcomes: list[Outcome] = []
        rows: list[Recorded] = []
        for request in requests:
            try:
                single, its_rows = self._attempt([request])
            except sqlite3.IntegrityError as error:
                refused = StoreFailed(f"The database refused the event ({error}).", hint="Report this.")
                single, its_rows = [refused], []
            outcomes += single
            rows += its_rows
        return outcomes, rows

    def _attempt(self, requests: Sequence[AppendRequest]) -> tuple[list[Outcome], list[Recorded]]:
        """One transaction; a failure is the outcome of every request. Raises only sqlite3.IntegrityError."""
        if self.failure is not None:
            return [self.failure] * len(requests), []
        marked = self.engine.mark()
        try:
            return self._transaction(requests)
        except Exception as error:
            self.engine.restore(marked)
            outcome = self._outcome_of(error)
            if isinstance(outcome, sqlite3.IntegrityError):
                raise outcome from error
            return [outcome] * len(requests), []

    def _transaction(self, requests: Sequence[AppendRequest]) -> tuple[list[Outcome], list[Recorded]]:
        wall_at_us, monotonic = self._clock(), self._monotonic_clock()
        batch = Batch(self.connection, self.tail, wall_at_us=wall_at_us, boot_id=self._boot_id, new_id=self._new_id)
        jump = self._clock_jump(wall_at_us, monotonic)
        if jump is not None:
            batch.add(jump)
        outcomes: list[Outcome] = []
        for request in requests:
            try:
                outcomes.append(batch.add(request))
            except sqlite3.Error:
                raise
            except Exception as error:  # noqa: BLE001 - a refusal of this request only, delivered to its caller
                outcomes.append(error)
        if batch.is_empty:
            return outcomes, []
        self.connection.execute("BEGIN IMMEDIATE")
        batch.write()
        self.engine.apply(self.connection, batch.groups)
        self.connection.execute("COMMIT")
        batch.committed()
        self._clock_seen = (wall_at_us, monotonic)
        rows = [row for group in batch.groups for row in group]
        self._commits_since_checkpoint += 1
        self._rows_since_checkpoint += len(rows) + batch.rows_let_go
        return outcomes, rows

    def _clock_jump(self, wall_at_us: int, monotonic: int) -> AppendRequest | None:
        """The event that the wall clock was moved, if it was, by more than ``CLOCK_JUMP_US``."""
        if self._clock_seen is not None:
            seen_wall, seen_monotonic = self._clock_seen
            jump_us = (wall_at_us - seen_wall) - (monotonic - seen_monotonic)
            jumped = abs(jump_us) > CLOCK_JUMP_US
        else:
            # Nothing is known of the time in between: only a clock behind the newest row was certainly moved.
            jump_us = wall_at_us - (self.tail.wall_at_us or 0)
            jumped = jump_us < -CLOCK_JUMP_US
        if not jumped:
            return None
        append = EncodedAppend(MACHINE_STREAM, (encode_event(ClockJumped(jump_us)),), None, None)
        return AppendRequest((append,), self._daemon_json)

    def _outcome_of(self, error: Exception) -> Exception:
        """Roll back, and what the callers are told; a failure of the storage that may have hit the disk is final."""
        try:
            # A full disk has rolled back already; a second ROLLBACK would raise.
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        except sqlite3.Error as second:
            error = second
        if not isinstance(error, sqlite3.Error):
            return error
        if not is_storage_failure(error):
            return error
        mapped = storage_error(error)
        mapped.__cause__ = error
        if not isinstance(mapped, StoreFull | StoreBusy):
            self.failure = mapped
        return mapped

    def _checkpoint(self) -> None:
        """Copy the write-ahead log into the database, as far as no reader needs it."""
        self._commits_since_checkpoint = self._rows_since_checkpoint = 0
        try:
            self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self.last_checkpoint_error = None
        except sqlite3.Error as error:
            self.last_checkpoint_error = str(error)
            # A full disk can wait: the rows are safe in the write-ahead log.
            self._outcome_of(error)


__all__ = ["Appended", "Clock", "Writer", "monotonic_us"]
