"""Whether the log is the one that was written: the chain, the sequence, the versions, the stored head."""

import sqlite3
from collections.abc import Iterable
from typing import Any

import msgspec

from btmd.errors import Damaged
from btmd.store.errors import SegmentDamaged, SegmentTampered
from btmd.store.reader import pages, read_head, read_log
from btmd.store.recorded import Recorded, genesis_hash
from btmd.store.segments import FIRST_PREV_HASH

TAIL_ROWS = 1000


class Verification(msgspec.Struct, frozen=True):
    """``first_bad`` is the seq of the first row that does not fit (None: all fit), ``reason`` says why."""

    checked: int
    first_bad: int | None = None
    reason: str = ""

    @property
    def ok(self) -> bool:
        return self.first_bad is None


class _Chain:
    """Walks row after row; ``fault`` says what is wrong with the next one."""

    def __init__(self, seq: int, digest: bytes | None, recorded_at_us: int, *, complete: bool) -> None:
        self.seq = seq
        self.digest = digest
        self.recorded_at_us = recorded_at_us
        self.complete = complete
        self.versions: dict[str, int] = {}
        self.checked = 0

    def walk(self, found: Iterable[list[Recorded]]) -> Verification | None:
        """Go on over pages of rows; the first row that does not fit."""
        for page in found:
            for row in page:
                reason = self.fault(row)
                if reason:
                    return Verification(self.checked, row.seq, reason)
                self.checked += 1
        return None

    def fault(self, row: Recorded) -> str:
        try:
            return self._fault(row)
        except (TypeError, ValueError, OverflowError):
            return "it holds values of the wrong kind"

    def _fault(self, row: Recorded) -> str:
        if row.seq != self.seq + 1:
            return f"the rows from {self.seq + 1} to {row.seq - 1} are missing"
        if self.digest is not None and row.prev_hash != self.digest:
            return "it does not continue the row before"
        if row.computed_hash() != row.hash:
            return "its content does not fit its hash"
        if row.recorded_at_us <= self.recorded_at_us:
            return "it was recorded before its predecessor"
        before = self.versions.get(row.stream, 0 if self.complete else row.version - 1)
        if row.version != before + 1:
            return f"{row.stream} goes from version {before} to {row.version}"
        self.versions[row.stream] = row.version
        self.seq, self.digest, self.recorded_at_us = row.seq, row.hash, row.recorded_at_us
        return ""


def verify_log(connection: sqlite3.Connection, from_seq: int = 1) -> Verification:
    """Check every row from ``from_seq`` to the head. Raises Damaged where there is no head to compare with."""
    text_factory = connection.text_factory
    # Text that is no text must come as a row that does not fit, or the row could not be named.
    connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")
    try:
        return _verify(connection, from_seq)
    finally:
        connection.text_factory = text_factory


def _verify(connection: sqlite3.Connection, from_seq: int) -> Verification:
    _require_meta(connection)
    head = read_head(connection)
    store_id = connection.execute("SELECT store_id FROM meta").fetchone()[0]
    before = read_log(connection, from_seq - 2, limit=1, upto=from_seq - 1) if from_seq > 1 else []
    if before:
        chain = _Chain(before[0].seq, before[0].hash, before[0].recorded_at_us, complete=False)
    else:
        known = genesis_hash(store_id) if from_seq <= 1 else None
        chain = _Chain(max(from_seq, 1) - 1, known, -1, complete=from_seq <= 1)
    broken = _broken_link(connection, chain.seq)
    try:
        fault = chain.walk(pages(connection, chain.seq, upto=head.seq))
    except (SegmentDamaged, SegmentTampered) as error:
        # What lies before it was on the same page perhaps, and not looked at yet.
        fault = chain.walk(pages(connection, chain.seq, upto=error.first_seq - 1))
        fault = fault or Verification(chain.checked, max(error.first_seq, chain.seq + 1), error.detail)
    if fault is not None:
        return fault
    checked = chain.checked
    if broken is not None:
        return Verification(checked, broken, "the segment that holds it is not the one that was announced")
    if chain.seq < head.seq:
        return Verification(checked, chain.seq + 1, f"the rows from {chain.seq + 1} to {head.seq} are missing")
    if chain.digest is not None and chain.digest != head.hash:
        return Verification(checked, head.seq, "it is not the row that the stored head names")
    beyond = connection.execute("SELECT min(seq) FROM log WHERE seq > ?", (head.seq,)).fetchone()[0]
    if beyond is not None and read_head(connection).seq < beyond:
        return Verification(checked, beyond, "it stands beyond the stored head")
    return Verification(checked)


def _broken_link(connection: sqlite3.Connection, after: int) -> int | None:
    """The first tick of the first segment that does not continue the one before, or that no event announces."""
    before: bytes | None = None
    for first_seq, last_seq, prev_hash, digest, announced in connection.execute(
        "SELECT first_seq, last_seq, segments.prev_hash, segments.hash, json_extract(data, '$.segment_hash')"
        " FROM segments LEFT JOIN events ON seq = event_seq ORDER BY first_seq"
    ):
        linked = prev_hash == (FIRST_PREV_HASH if before is None else before)
        if last_seq > after and not (linked and isinstance(digest, bytes) and announced == digest.hex()):
            return int(first_seq)
        before = digest
    return None


def verify_tail(connection: sqlite3.Connection, rows: int = TAIL_ROWS) -> None:
    """Check the newest rows before the store is used. Raises Damaged."""
    _require_meta(connection)
    result = verify_log(connection, max(1, read_head(connection).seq - rows + 1))
    if not result.ok:
        raise Damaged(
            f"The event log is damaged at event {result.first_bad}: {result.reason}.",
            hint="Restore the database from a backup; nothing was changed.",
        )


def _require_meta(connection: sqlite3.Connection) -> None:
    """A head that can be compared with: one row, each value of its kind. Raises Damaged."""
    rows: list[tuple[Any, ...]] = connection.execute(
        "SELECT store_id, head_seq, epoch, head_recorded_at, head_hash FROM meta"
    ).fetchall()
    if len(rows) != 1 or [type(value) for value in rows[0]] != [str, int, int, int, bytes]:
        raise Damaged("The database has no head: it is not whole.", hint="Restore it from a backup.")
