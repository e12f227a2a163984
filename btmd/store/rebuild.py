"""A database made anew from its rows, through the same guards that watched over them the first time."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from btmd.errors import Damaged
from btmd.store.connection import storage_error
from btmd.store.migrations import new_database, released_migrations
from btmd.store.reader import is_tick_stream
from btmd.store.recorded import COLUMNS, Head, Recorded
from btmd.store.verification import verify_log

CACHE_KIB = 64 * 1024
_INSERT = {table: f"INSERT INTO {table} ({COLUMNS}) VALUES ({','.join('?' * 16)})" for table in ("events", "ticks")}


def rebuild_database(
    aside: Path,
    pages: Iterable[list[Recorded]],
    *,
    store_id: str,
    created_at_us: int,
    new_epoch: int,
    now_us: int,
) -> Head:
    """Write ``pages`` (all rows from the first, in order) into the new file ``aside`` and begin ``new_epoch``.

    Rows keep their numbers, epochs, times and hashes; ticks that were condensed stand as rows again. The file is whole
    and verified when this returns, but not yet synced (:func:`btmd.store.swap.swap_in` does that).
    Raises Damaged where the rows are no log of this store, StoreFull, StoreFailed, and what ``pages`` raises.
    """
    remove_left_over(aside)
    try:
        new_database(aside, released_migrations(), now_us=now_us, store_id=store_id, created_at_us=created_at_us)
        connection = sqlite3.connect(aside, isolation_level=None)
        try:
            # A rebuild that was cut off starts from nothing, so nothing in between needs to last.
            connection.execute("PRAGMA journal_mode=MEMORY").fetchone()
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA recursive_triggers=ON")
            connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            epoch = 1
            for rows in pages:
                epoch = _insert(connection, rows, epoch)
            _begin_epoch(connection, max(new_epoch, epoch + 1))
            return _verified(connection)
        finally:
            connection.close()
    except sqlite3.IntegrityError as error:
        remove_left_over(aside)
        raise Damaged(f"The rows do not make a whole log: {error}.", hint="Use another backup.") from error
    except sqlite3.Error as error:
        remove_left_over(aside)
        raise storage_error(error) from error
    except BaseException:
        remove_left_over(aside)
        raise


def remove_left_over(aside: Path) -> None:
    """Take away what a rebuild that was cut off left."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        aside.with_name(aside.name + suffix).unlink(missing_ok=True)


def _insert(connection: sqlite3.Connection, rows: list[Recorded], epoch: int) -> int:
    """Insert the rows of a page in one transaction; returns the epoch of the last."""
    connection.execute("BEGIN IMMEDIATE")
    run: list[tuple[object, ...]] = []
    table = "events"
    for row in rows:
        belongs = "ticks" if is_tick_stream(row.stream) else "events"
        if (belongs != table or row.epoch != epoch) and run:
            connection.executemany(_INSERT[table], run)
            run = []
        if row.epoch != epoch:
            _begin_epoch(connection, row.epoch)
            epoch = row.epoch
        table = belongs
        run.append(row.row())
    if run:
        connection.executemany(_INSERT[table], run)
    connection.execute("COMMIT")
    return epoch


def _begin_epoch(connection: sqlite3.Connection, epoch: int) -> None:
    connection.execute("UPDATE meta SET epoch = ?", (epoch,))


def _verified(connection: sqlite3.Connection) -> Head:
    result = verify_log(connection)
    if not result.ok:
        raise Damaged(
            f"The rebuilt log is damaged at event {result.first_bad}: {result.reason}.", hint="Use another backup."
        )
    connection.execute("PRAGMA journal_mode=WAL").fetchone()
    seq, digest, epoch = connection.execute("SELECT head_seq, head_hash, epoch FROM meta").fetchone()
    return Head(seq, digest, epoch)
