"""Finding the rows of segments: which of them can hold what is asked for, before any is unpacked."""

import sqlite3
from collections.abc import Collection, Iterator

import msgspec

from btmd.domain.event_log import TicksCondensed
from btmd.store.errors import SegmentDamaged
from btmd.store.recorded import Recorded
from btmd.store.segments import Segment, unpack

_NEXT = """
    SELECT first_seq, last_seq, data FROM segments LEFT JOIN events ON seq = event_seq
     WHERE first_seq >= coalesce((SELECT max(first_seq) FROM segments WHERE first_seq <= ?1), 0) AND last_seq > ?1
     ORDER BY first_seq LIMIT 1
"""
_announced = msgspec.json.Decoder(TicksCondensed)


class CondensedRange(msgspec.Struct, frozen=True):
    """Where a segment lies, and what its event says of it; None where that cannot be read."""

    first_seq: int
    last_seq: int
    announced: TicksCondensed | None

    def may_hold(self, streams: Collection[str] | None, types: Collection[str] | None) -> bool:
        """Whether a look inside may find a row of one of the streams and of one of the types (None: any)."""
        told = self.announced
        if told is None or not told.streams:
            return True
        return (streams is None or any(name in streams for name, _, _ in told.streams)) and (
            types is None or any(name in types for name in told.types)
        )

    def versions_of(self, stream: str) -> tuple[int, int] | None:
        """The first and the last version of the stream in it; None where it has none or they are not known."""
        for name, first, last in self.announced.streams if self.announced is not None else ():
            if name == stream:
                return first, last
        return None


def condensed_ranges(connection: sqlite3.Connection, after: int = 0) -> Iterator[CondensedRange]:
    """Segments with rows beyond ``after``, in order."""
    while True:
        row = connection.execute(_NEXT, (after,)).fetchone()
        if row is None:
            return
        first_seq, after, data = row
        yield CondensedRange(first_seq, after, _decoded(data))


def rows_of(connection: sqlite3.Connection, found: CondensedRange) -> list[Recorded]:
    """The rows of a segment. Raises SegmentDamaged, SegmentTampered."""
    return unpack(read_segment(connection, found.first_seq))


def read_segment(connection: sqlite3.Connection, first_seq: int) -> Segment:
    """One segment, packed. Raises SegmentDamaged where its values are none that were ever written."""
    row = connection.execute(
        f"SELECT {', '.join(Segment.__struct_fields__)} FROM segments WHERE first_seq = ?", (first_seq,)
    ).fetchone()
    try:
        return msgspec.convert(dict(zip(Segment.__struct_fields__, row, strict=True)), Segment)
    except msgspec.ValidationError as error:
        raise SegmentDamaged(first_seq, f"The condensed ticks from {first_seq} on cannot be read: {error}.") from error


def last_condensed_version(connection: sqlite3.Connection, stream: str) -> int:
    """The newest version of the stream that was condensed; 0 where none was."""
    newest = 0
    for found in condensed_ranges(connection):
        if not found.may_hold((stream,), None):
            continue
        known = found.versions_of(stream)
        if known is not None:
            newest = max(newest, known[1])
        else:
            newest = max((row.version for row in rows_of(connection, found) if row.stream == stream), default=newest)
    return newest


def _decoded(data: object) -> TicksCondensed | None:
    if not isinstance(data, str):
        return None
    try:
        return _announced.decode(data)
    except msgspec.DecodeError:
        return None
