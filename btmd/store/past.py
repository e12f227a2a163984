"""Reading what was: the state of a stream at an event, its newest rows, and the events of a moment."""

import sqlite3
from collections.abc import Sequence

import msgspec

from btmd.domain.machine import STREAM as MACHINE_STREAM
from btmd.domain.machine import ClockJumped
from btmd.store.recorded import COLUMNS, Recorded


class Position(msgspec.Struct, frozen=True):
    """The newest event at a moment; ``seq`` 0 lies before the first one. Times in microseconds since the epoch."""

    seq: int
    wall_at_us: int
    recorded_at_us: int


def state_rows(
    connection: sqlite3.Connection, stream: str, state_version: int, upto: int
) -> tuple[str | None, list[Recorded]]:
    """The newest snapshot (JSON) of ``stream`` at or before the event ``upto``, and the rows from it to there."""
    snapshot: tuple[int, str] | None = connection.execute(
        "SELECT version, state FROM snapshots WHERE stream = ? AND state_version = ? AND seq <= ?"
        " ORDER BY version DESC LIMIT 1",
        (stream, state_version, upto),
    ).fetchone()
    version, state = snapshot if snapshot is not None else (0, None)
    found = connection.execute(
        f"SELECT {COLUMNS} FROM events WHERE stream = ? AND version > ? AND version <= ? ORDER BY version",
        (stream, version, version_at(connection, stream, upto)),
    )
    return state, [Recorded(*row) for row in found]


def version_at(connection: sqlite3.Connection, stream: str, seq: int) -> int:
    """The version that ``stream`` had at the event ``seq``, by halving: versions grow with seq."""
    newest = connection.execute("SELECT max(version) FROM events WHERE stream = ?", (stream,)).fetchone()[0]
    low, high = 0, newest or 0
    while low < high:
        middle = (low + high + 1) // 2
        there = connection.execute(
            "SELECT seq FROM events WHERE stream = ? AND version = ?", (stream, middle)
        ).fetchone()[0]
        low, high = (middle, high) if there <= seq else (low, middle - 1)
    return low


def newest_rows(
    connection: sqlite3.Connection, stream: str, limit: int, before_version: int | None = None
) -> list[Recorded]:
    """Up to ``limit`` rows of ``stream`` below a version, newest first."""
    found = connection.execute(
        f"SELECT {COLUMNS} FROM events WHERE stream = ? AND version < ? ORDER BY version DESC LIMIT ?",
        (stream, 2**62 if before_version is None else before_version, limit),
    )
    return [Recorded(*row) for row in found]


def streams_of(connection: sqlite3.Connection, prefix: str) -> list[str]:
    """The streams whose names begin with ``prefix``."""
    found = connection.execute(
        "SELECT stream FROM events WHERE stream >= ? AND stream < ? AND version = 1 ORDER BY stream",
        (prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)),
    )
    return [row[0] for row in found]


def position_of(connection: sqlite3.Connection, seq: int) -> Position:
    """The newest event up to ``seq``, ticks left out."""
    row = connection.execute(
        "SELECT seq, wall_at, recorded_at FROM events WHERE seq <= ? ORDER BY seq DESC LIMIT 1", (seq,)
    ).fetchone()
    return Position(*row) if row is not None else Position(0, 0, 0)


Jump = tuple[int, int]
"""An event's seq, and by how many microseconds the clock on the wall was moved just before it."""


def clock_jumps(connection: sqlite3.Connection, after_version: int = 0) -> tuple[list[Jump], int]:
    """The jumps of the clock above a version of the machine's stream, and its newest version.

    No index knows the types of events, so whoever asks often goes on from the version of the time before.
    """
    newest = connection.execute("SELECT max(version) FROM events WHERE stream = ?", (MACHINE_STREAM,)).fetchone()[0]
    found = connection.execute(
        "SELECT seq, json_extract(data, '$.jump_us') FROM events"
        " WHERE stream = ? AND version > ? AND version <= ? AND type = ? ORDER BY version",
        (MACHINE_STREAM, after_version, newest or 0, ClockJumped.TYPE),
    )
    return [(seq, jump_us or 0) for seq, jump_us in found], newest or 0


def positions_at(
    connection: sqlite3.Connection, moment_us: int, jumps: Sequence[Jump] | None = None, *, now_us: int | None = None
) -> list[Position]:
    """The newest event at the moment, as the clock on the wall showed it; several where the clock was set back.

    A moment that a clock set forward has skipped is the last one before it. Empty before the first event, and beyond
    ``now_us`` unless a clock that was set back showed it once. ``jumps`` are all that there are, where they are known.
    """
    # Asked for together in one SELECT, SQLite reads the whole table.
    first = connection.execute("SELECT (SELECT min(seq) FROM events), (SELECT max(seq) FROM events)").fetchone()
    if first[0] is None:
        return []
    # Between two jumps the clock grows, so each stretch is searched by halving.
    starts = [(first[0], 0), *(clock_jumps(connection)[0] if jumps is None else jumps)]
    found: list[Position] = []
    skipped: Position | None = None
    for number, (start, _) in enumerate(starts):
        following = starts[number + 1] if number + 1 < len(starts) else None
        position = _last_at(connection, start, following[0] - 1 if following else first[1], moment_us)
        if position is None:
            continue
        if following is None:
            # A clock that was set back a moment ago has left no event yet that says so.
            if now_us is None or moment_us <= max(now_us, position_of(connection, first[1]).wall_at_us):
                found.append(position)
            else:
                skipped = None
        elif moment_us <= _clock_before_jump(connection, following):
            found.append(position)
            skipped = None
        elif not found:
            skipped = position
    return found or ([skipped] if skipped is not None else [])


def _clock_before_jump(connection: sqlite3.Connection, jump: Jump) -> int:
    """What the clock would have shown at the jump's event without it."""
    wall_at_us: int = connection.execute("SELECT wall_at FROM events WHERE seq = ?", (jump[0],)).fetchone()[0]
    return wall_at_us - jump[1]


def _last_at(connection: sqlite3.Connection, first: int, last: int, moment_us: int) -> Position | None:
    """The newest event from ``first`` to ``last`` whose wall clock had not passed the moment."""
    low, high = first - 1, last
    while low < high:
        middle = (low + high + 1) // 2
        row = connection.execute(
            "SELECT seq, wall_at FROM events WHERE seq >= ? AND seq <= ? ORDER BY seq LIMIT 1", (middle, high)
        ).fetchone()
        if row is not None and row[1] <= moment_us:
            low = row[0]
        else:
            high = middle - 1
    position = position_of(connection, low)
    return position if position.seq >= first else None
