"""The events of a span as lines that a stranger can verify; the form is described in ``verify_audit.py``."""

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from btmd.errors import InvalidValue
from btmd.moments import parse_moment
from btmd.store.reader import read_log
from btmd.store.recorded import COLUMNS, Head, Recorded, genesis_hash

FORMAT = 1
PAGE_ROWS = 1000
MOST_MARKS = 1000
"""A rewritten event is named exactly where every one is marked, else the stretch between two marks."""


class Bound(msgspec.Struct, frozen=True):
    """One end of a span: an event's number, or a moment in microseconds since the epoch; its own event included."""

    kind: Literal["seq", "us"]
    value: int


class Span(msgspec.Struct, frozen=True):
    """Events from ``first_seq`` to ``last_seq``, after one with the hash ``before_hash``."""

    first_seq: int
    last_seq: int
    before_hash: bytes


class Seal(msgspec.Struct, frozen=True):
    """A signature by the store's key, both in hex."""

    public_key: str
    signature: str
    algorithm: str = "Ed25519"


class _Opening(msgspec.Struct, frozen=True):
    btmd_audit_export: int
    line: str
    store_id: str
    before_seq: int
    before_hash: str
    since: str | None
    until: str | None
    made_at: str
    made_by: str
    btmd: str


_EVENT = (*COLUMNS.split(", ")[:14], "prev_hash", "hash")


class _Closing(msgspec.Struct, frozen=True):
    """The closing line but for its seal."""

    btmd_audit_export: int
    line: str
    store_id: str
    first_seq: int
    last_seq: int
    events: int
    last_hash: str
    head_seq: int
    head_epoch: int
    head_hash: str
    marks: list[tuple[int, str]]
    sha256: str


def bound_of(text: str, *, now_us: int) -> Bound | None:
    """A time as people type it, or an event's number; None for none. Raises InvalidValue."""
    plain = text.strip()
    if not plain:
        return None
    if plain.isascii() and plain.isdigit():
        return Bound("seq", int(plain[:18]))
    return Bound("us", parse_moment(plain, now_us=now_us))


def span_of(
    connection: sqlite3.Connection, store_id: str, head: Head, since: Bound | None, until: Bound | None
) -> Span:
    """The events that were recorded from ``since`` until ``until`` (None: the log's ends). Raises InvalidValue."""
    first_seq, last_seq = 1, head.seq
    if since is not None:
        first_seq = since.value if since.kind == "seq" else _first_since(connection, since.value, head)
    if until is not None:
        last_seq = until.value if until.kind == "seq" else _first_since(connection, until.value + 1, head) - 1
    first_seq, last_seq = max(1, first_seq), min(head.seq, last_seq)
    rows = read_log(connection, first_seq - 1, limit=1, upto=last_seq) if first_seq <= last_seq else []
    if not rows:
        raise InvalidValue(
            "Nothing was recorded in this time.", hint="`btmctl events` lists what was; without times, all is exported."
        )
    return Span(first_seq, last_seq, rows[0].prev_hash if first_seq > 1 else genesis_hash(store_id))


def _first_since(connection: sqlite3.Connection, moment_us: int, head: Head) -> int:
    """The first event recorded at the moment or later; the one to come where none was."""
    rows = read_log(connection, limit=1, since_us=moment_us)
    return rows[0].seq if rows else head.seq + 1


class Lines:
    """Makes the lines of one export, in their order: opening, rows page by page, closing."""

    def __init__(self, store_id: str, span: Span) -> None:
        self._store_id, self._span = store_id, span
        self._digest = hashlib.sha256()
        # Numbers have no gaps, so it is known beforehand how many there will be.
        self._every = -(-(span.last_seq - span.first_seq + 1) // MOST_MARKS)
        self._marks: list[tuple[int, str]] = []
        self._events, self.last_seq, self._last_hash = 0, span.first_seq - 1, span.before_hash

    def opening(self, *, since: str, until: str, made_at: str, made_by: str, version: str) -> bytes:
        """``since``, ``until`` and ``made_at`` as text, the first two may be empty."""
        before = self._span.first_seq - 1, self._span.before_hash.hex()
        return self._line(
            _Opening(FORMAT, "begin", self._store_id, *before, since or None, until or None, made_at, made_by, version)
        )

    def page(self, connection: sqlite3.Connection) -> bytes:
        """The next lines; nothing after the last."""
        return self.rows(read_log(connection, self.last_seq, limit=PAGE_ROWS, upto=self._span.last_seq))

    def rows(self, rows: Sequence[Recorded]) -> bytes:
        """The lines of these rows, which follow those before."""
        pieces = []
        for row in rows:
            digest = row.hash.hex()
            values = (*row.row()[:14], row.prev_hash.hex(), digest)
            pieces.append(self._line(dict(zip(_EVENT, values, strict=True))))
            if (row.seq - self._span.first_seq) % self._every == 0 or row.seq == self._span.last_seq:
                self._marks.append((row.seq, digest))
        if rows:
            self._events += len(rows)
            self.last_seq, self._last_hash = rows[-1].seq, rows[-1].hash
        return b"".join(pieces)

    def closing(self, head: Head) -> "Closing":
        """``head``: where the log ended when this was begun."""
        span = self._span
        return Closing(
            _Closing(
                FORMAT,
                "end",
                self._store_id,
                span.first_seq,
                span.last_seq,
                self._events,
                self._last_hash.hex(),
                head.seq,
                head.epoch,
                head.hash.hex(),
                self._marks,
                self._digest.hexdigest(),
            )
        )

    def _line(self, value: msgspec.Struct | dict[str, Any]) -> bytes:
        line = msgspec.json.encode(value) + b"\n"
        self._digest.update(line)
        return line


class Closing:
    """The closing line, before it is sealed."""

    def __init__(self, fields: _Closing) -> None:
        self._fields = fields

    @property
    def digest(self) -> str:
        """What is to be signed stands for this SHA-256 (hex)."""
        return hashlib.sha256(msgspec.json.encode(self._fields)).hexdigest()

    def line(self, seal: Seal | None) -> bytes:
        """``seal`` None: there is no key that could."""
        told: dict[str, Any] | None = None
        if seal is not None:
            told = {"algorithm": seal.algorithm, "public_key": seal.public_key, "signature": seal.signature}
        return msgspec.json.encode({**msgspec.structs.asdict(self._fields), "seal": told}) + b"\n"
