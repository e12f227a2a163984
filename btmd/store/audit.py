"""Is the log the one that was written, and if not, was it damaged or changed by somebody; who did what in it."""

import json
import sqlite3
from contextlib import closing
from typing import Literal

import msgspec

from btmd.errors import Damaged, Tampered
from btmd.store.errors import SchemaChanged
from btmd.store.migrations import expected_schema
from btmd.store.reader import read_log
from btmd.store.recorded import COLUMNS, Head, Recorded
from btmd.store.schema import require_schema
from btmd.store.verification import verify_log

Verdict = Literal["ok", "damaged", "tampered"]


class Audit(msgspec.Struct, frozen=True):
    """``first_bad`` is the seq of the first bad event, None where none can be named. Hashes are hex."""

    verdict: Verdict
    checked: int
    first_bad: int | None
    reason: str
    head_seq: int
    head_hash: str


def audit_log(connection: sqlite3.Connection, known: Head) -> Audit:
    """Walk the whole chain, then compare with ``known``, the newest row that the running daemon wrote or found.

    Rows that fit no longer although the file is whole and they read well were changed by somebody; the rest is damage.
    Raises Damaged where the log cannot be walked at all.
    """

    def audit(verdict: Verdict, first_bad: int | None = None, reason: str = "") -> Audit:
        return Audit(verdict, found.checked, first_bad, reason, known.seq, known.hash.hex())

    found = verify_log(connection)
    if found.first_bad is not None:
        verdict: Verdict = "damaged" if _looks_damaged(connection, found.first_bad) else "tampered"
        return audit(verdict, found.first_bad, found.reason)
    rows = read_log(connection, known.seq - 1, limit=1, upto=known.seq)
    if known.seq and (not rows or rows[0].hash != known.hash):
        return audit("tampered", None, f"event {known.seq} is not the one that this daemon knows")
    try:
        with closing(expected_schema()) as expected:
            require_schema(connection, expected)
    except SchemaChanged as error:
        return audit("tampered", None, error.detail)
    return audit("ok")


def _looks_damaged(connection: sqlite3.Connection, seq: int) -> bool:
    """Whether the file itself is broken, or the row at ``seq`` holds what nobody would write."""
    try:
        if connection.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
            return True
        rows = read_log(connection, seq - 1, limit=1, upto=seq)
        if rows:
            for text in (rows[0].data_json, rows[0].actor_json):
                json.loads(text)
    except (sqlite3.DatabaseError, ValueError, TypeError, Damaged):
        return True
    except Tampered:
        return False
    return False


def newest_of(
    connection: sqlite3.Connection, *, limit: int, before: int | None, user: str | None, types: tuple[str, ...]
) -> list[Recorded]:
    """Events newest first, ticks left out; of one user (name or uid), else of everybody but the daemon itself."""
    where, values = "seq < ?", [2**62 if before is None else before]
    given: list[str | int] = [*values]
    if user is None:
        where += " AND json_extract(actor, '$.name') <> 'daemon'"
    elif user.isascii() and user.isdigit():
        where += " AND json_extract(actor, '$.uid') = ?"
        given.append(int(user[:18]))
    else:
        where += " AND json_extract(actor, '$.name') = ?"
        given.append(user)
    if types:
        where += f" AND type IN ({','.join('?' * len(types))})"
        given.extend(types)
    found = connection.execute(f"SELECT {COLUMNS} FROM events WHERE {where} ORDER BY seq DESC LIMIT ?", (*given, limit))
    return [Recorded(*row) for row in found]
