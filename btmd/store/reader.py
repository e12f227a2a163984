"""Reading the log: the rows of both tables and of condensed segments, in one sequence.

Everything that reads the log reads it here, so that nobody sees which ticks were condensed.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from btmd.domain.event import EVENT_TYPES
from btmd.store.condensed import condensed_ranges, last_condensed_version, rows_of
from btmd.store.recorded import COLUMNS, Head, Recorded

PAGE_ROWS = 2000
"""Rows of one read: a reader holds a position in the write-ahead log for well under a second."""


def is_tick_stream(stream: str) -> bool:
    return stream.startswith("ticks-")


def read_head(connection: sqlite3.Connection) -> Head:
    seq, digest, epoch = connection.execute("SELECT head_seq, head_hash, epoch FROM meta").fetchone()
    return Head(seq, digest, epoch)


def read_log(
    connection: sqlite3.Connection,
    after: int = 0,
    *,
    limit: int = PAGE_ROWS,
    upto: int | None = None,
    streams: Sequence[str] | None = None,
    types: Sequence[str] | None = None,
    since_us: int | None = None,
) -> list[Recorded]:
    """Up to ``limit`` rows with ``after < seq <= upto``, recorded at ``since_us`` or later."""
    if since_us is not None:
        after = max(after, _last_seq_before(connection, since_us))
    where, values = _conditions(upto, types, since_us)
    if streams is None:
        found = connection.execute(
            f"SELECT {COLUMNS} FROM log WHERE seq > ? {where} ORDER BY seq LIMIT ?", (after, *values, limit)
        )
        rows = [Recorded(*row) for row in found]
    else:
        rows = _of_streams(connection, streams, after, where, values, limit)
    if not _asks_for_ticks(streams, types):
        return rows
    end = rows[-1].seq if len(rows) == limit else None
    if upto is not None and (end is None or upto < end):
        end = upto
    condensed = _condensed(connection, after, end, limit, streams, types, since_us)
    if condensed:
        # A row that was copied but not yet let go is in both places.
        both = {row.seq: row for row in (*condensed, *rows)}
        rows = [both[seq] for seq in sorted(both)][:limit]
    return rows


def read_stream(
    connection: sqlite3.Connection, stream: str, after_version: int = 0, *, limit: int | None = None
) -> list[Recorded]:
    """All rows of one stream with a version above ``after_version``, oldest first, or the first ``limit`` of them."""
    table = "ticks" if is_tick_stream(stream) else "events"
    found = connection.execute(
        f"SELECT {COLUMNS} FROM {table} WHERE stream = ? AND version > ? ORDER BY version LIMIT ?",
        (stream, after_version, -1 if limit is None else limit),
    )
    rows = [Recorded(*row) for row in found]
    if is_tick_stream(stream) and (not rows or rows[0].version > after_version + 1):
        # The oldest go first, so what is condensed lies before what the table holds.
        before_version = rows[0].version if rows else None
        rows = _condensed_stream(connection, stream, after_version, before_version, limit) + rows
    return rows[:limit]


def last_version(connection: sqlite3.Connection, stream: str) -> int:
    """The version of the stream's newest row; 0 for a stream without rows."""
    table = "ticks" if is_tick_stream(stream) else "events"
    query = f"SELECT max(version) FROM {table} WHERE stream = ?"
    newest: int | None = connection.execute(query, (stream,)).fetchone()[0]
    if newest is None and is_tick_stream(stream):
        newest = last_condensed_version(connection, stream)
    return newest or 0


def pages(connection: sqlite3.Connection, after: int = 0, *, upto: int | None = None) -> Iterator[list[Recorded]]:
    """All rows after ``after``, page by page, each page a read of its own."""
    while True:
        page = read_log(connection, after, upto=upto)
        if not page:
            return
        yield page
        after = page[-1].seq


def _conditions(upto: int | None, types: Sequence[str] | None, since_us: int | None) -> tuple[str, list[Any]]:
    where = ""
    values: list[Any] = []
    if upto is not None:
        where += " AND seq <= ?"
        values.append(upto)
    if since_us is not None:
        where += " AND recorded_at >= ?"
        values.append(since_us)
    if types is not None:
        where += f" AND type IN ({','.join('?' * len(types))})"
        values.extend(types)
    return where, values


def _of_streams(
    connection: sqlite3.Connection, streams: Sequence[str], after: int, where: str, values: list[Any], limit: int
) -> list[Recorded]:
    """The first ``limit`` rows of the streams, each read in the order of its versions: that index ends early."""
    rows: list[Recorded] = []
    for stream in dict.fromkeys(streams):
        table = "ticks" if is_tick_stream(stream) else "events"
        version = _last_version_upto(connection, table, stream, after)
        found = connection.execute(
            f"SELECT {COLUMNS} FROM {table} WHERE stream = ? AND version > ? {where} ORDER BY version LIMIT ?",
            (stream, version, *values, limit),
        )
        rows.extend(Recorded(*row) for row in found)
    rows.sort(key=lambda row: row.seq)
    return rows[:limit]


def _last_version_upto(connection: sqlite3.Connection, table: str, stream: str, seq: int) -> int:
    """The stream's newest version in the table at ``seq``, by halving: versions grow with seq."""
    newest = connection.execute(f"SELECT max(version) FROM {table} WHERE stream = ?", (stream,)).fetchone()[0]
    low, high = 0, newest or 0
    while low < high:
        middle = (low + high + 1) // 2
        row = connection.execute(
            f"SELECT version, seq FROM {table} WHERE stream = ? AND version >= ? ORDER BY version LIMIT 1",
            (stream, middle),
        ).fetchone()
        if row is not None and row[1] <= seq:
            low = row[0]
        else:
            high = middle - 1
    return low


def _asks_for_ticks(streams: Sequence[str] | None, types: Sequence[str] | None) -> bool:
    """Whether the answer may have ticks in it: only they are condensed. A type that is not known may be one."""
    if streams is not None and not any(map(is_tick_stream, streams)):
        return False
    return types is None or any(name not in EVENT_TYPES or EVENT_TYPES[name].IS_TICK for name in types)


def _condensed(
    connection: sqlite3.Connection,
    after: int,
    end: int | None,
    limit: int,
    streams: Sequence[str] | None,
    types: Sequence[str] | None,
    since_us: int | None,
) -> list[Recorded]:
    """The first ``limit`` wanted rows, or a few more, of segments with ``after < seq <= end``."""
    found: list[Recorded] = []
    for segment in condensed_ranges(connection, after):
        if len(found) >= limit or (end is not None and segment.first_seq > end):
            break
        if not segment.may_hold(streams, types):
            continue
        found += (
            row
            for row in rows_of(connection, segment)
            if row.seq > after
            and (end is None or row.seq <= end)
            and (streams is None or row.stream in streams)
            and (types is None or row.type in types)
            and (since_us is None or row.recorded_at_us >= since_us)
        )
    return found


def _condensed_stream(
    connection: sqlite3.Connection, stream: str, after_version: int, before_version: int | None, limit: int | None
) -> list[Recorded]:
    """The stream's condensed rows above the one version and below the other; the first ``limit`` or a few more."""
    rows: list[Recorded] = []
    for segment in condensed_ranges(connection):
        if limit is not None and len(rows) >= limit:
            break
        versions = segment.versions_of(stream)
        if not segment.may_hold((stream,), None) or (versions is not None and versions[1] <= after_version):
            continue
        rows += (
            row
            for row in rows_of(connection, segment)
            if row.stream == stream
            and row.version > after_version
            and (before_version is None or row.version < before_version)
        )
    return rows


def _last_seq_before(connection: sqlite3.Connection, moment_us: int) -> int:
    """The seq of the newest row in the tables recorded before the moment, by halving: recorded_at grows with seq."""
    low, high = 0, read_head(connection).seq
    while low < high:
        middle = (low + high + 1) // 2
        row = connection.execute(
            "SELECT seq, recorded_at FROM log WHERE seq >= ? ORDER BY seq LIMIT 1", (middle,)
        ).fetchone()
        if row is not None and row[1] < moment_us:
            low = row[0]
        else:
            high = middle - 1
    return low
