"""Choosing which ticks are condensed next, packing them, and what the log takes on the disk."""

import sqlite3
from itertools import takewhile

import msgspec

from btmd.domain.event_log import TicksCondensed
from btmd.store.recorded import COLUMNS, Recorded
from btmd.store.segments import FIRST_PREV_HASH, Segment, pack

SLICE_ROWS = 1000
"""Rows of one segment: few enough that the writer, which lets them go in one transaction, is not held up."""
SLICE_BYTES = 4 << 20
MIN_ROWS = 250
"""Fewer are left alone: they take little room, and each segment costs an event."""

_ROW_BYTES = 190
"""What a row takes beside its texts: hashes, numbers, and a place in three trees; measured."""
_SAMPLE_ROWS = 100


class CondenseRule(msgspec.Struct, frozen=True):
    """Which ticks may go, oldest first: those recorded before ``before_us``, and while all plain ticks take more than
    ``max_bytes``, any; never those of ``at_work``, and for want of room alone none of ``unfinished`` (streams).
    """

    before_us: int
    max_bytes: int
    at_work: frozenset[str] = frozenset()
    unfinished: frozenset[str] = frozenset()


class Condensed(msgspec.Struct, frozen=True):
    """A range that was condensed; ``size_bytes`` is that of the compressed rows."""

    first_seq: int
    last_seq: int
    row_count: int
    size_bytes: int


class LogSizes(msgspec.Struct, frozen=True):
    """What the log takes. ``ticks_bytes`` is an estimate from a few rows; ``free_bytes`` of the file are used again."""

    ticks: int
    ticks_bytes: int
    condensed_ticks: int
    segments: int
    segments_bytes: int
    database_bytes: int
    free_bytes: int


def next_segment(connection: sqlite3.Connection, rule: CondenseRule) -> tuple[Segment, TicksCondensed] | None:
    """The oldest ticks that may go, packed, and the event that announces them; None where there are too few.

    Raises Damaged where a row is not what was recorded.
    """
    rows = _chosen(connection, rule)
    if len(rows) < MIN_ROWS:
        return None
    newest = connection.execute("SELECT hash FROM segments ORDER BY first_seq DESC LIMIT 1").fetchone()
    segment = pack(rows, newest[0] if newest is not None else FIRST_PREV_HASH)
    versions: dict[str, tuple[int, int]] = {}
    for row in rows:
        versions[row.stream] = (versions.get(row.stream, (row.version, 0))[0], row.version)
    event = TicksCondensed(
        segment.first_seq,
        segment.last_seq,
        segment.row_count,
        segment.hash.hex(),
        tuple((stream, first, last) for stream, (first, last) in versions.items()),
        tuple(sorted({row.type for row in rows})),
    )
    return segment, event


def log_sizes(connection: sqlite3.Connection) -> LogSizes:
    """What ticks, segments and the whole database take just now."""
    ticks = connection.execute("SELECT count(*) FROM ticks").fetchone()[0]
    sample = [Recorded(*row) for row in connection.execute(f"SELECT {COLUMNS} FROM ticks LIMIT {_SAMPLE_ROWS}")]
    segments, condensed, size = connection.execute(
        "SELECT count(*), coalesce(sum(row_count), 0), coalesce(sum(length(body)), 0) FROM segments"
    ).fetchone()
    pages, free, page_bytes = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return LogSizes(
        ticks=ticks,
        ticks_bytes=ticks * _average_bytes(sample),
        condensed_ticks=condensed,
        segments=segments,
        segments_bytes=size,
        database_bytes=pages * page_bytes,
        free_bytes=free * page_bytes,
    )


def _chosen(connection: sqlite3.Connection, rule: CondenseRule) -> list[Recorded]:
    """The oldest ticks up to the first that has to stay: segments hold every tick of their range."""
    found = connection.execute(f"SELECT {COLUMNS} FROM ticks ORDER BY seq LIMIT {SLICE_ROWS}")
    rows = [Recorded(*row) for row in found]
    if len(rows) < MIN_ROWS:
        return []
    count = connection.execute("SELECT count(*) FROM ticks").fetchone()[0]
    crowded = count * _average_bytes(rows[:_SAMPLE_ROWS]) > rule.max_bytes
    room = SLICE_BYTES

    def may_go(row: Recorded) -> bool:
        nonlocal room
        room -= len(row.data_json)
        if room < 0 or row.stream in rule.at_work:
            return False
        return row.recorded_at_us < rule.before_us or (crowded and row.stream not in rule.unfinished)

    return list(takewhile(may_go, rows))


def _average_bytes(rows: list[Recorded]) -> int:
    """What one of these rows takes on the disk, indexes included."""
    if not rows:
        return 0
    # Stream and id stand in an index again.
    texts = sum(
        2 * len(row.stream)
        + 2 * len(row.event_id)
        + len(row.type)
        + len(row.boot_id)
        + len(row.actor_json)
        + len(row.correlation_id or "")
        + len(row.causation_id or "")
        + len(row.data_json)
        for row in rows
    )
    return _ROW_BYTES + texts // len(rows)
