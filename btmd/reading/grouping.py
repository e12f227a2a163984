"""Puts conversations together from one message a record, wherever in the file their messages stand.

Messages are sorted in a file beside the rows, so that memory does not grow with the number of conversations.
"""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from btmd.reading.layouts import Grouping, Layout
from btmd.reading.ordering import Order
from btmd.reading.records import MAX_RECORD_BYTES, Record
from btmd.reading.turns import FIRST, OTHERS, Broken, role_of, spoken_of

MESSAGES: Final = "messages"
"""The field in which a conversation that was put together has its turns."""
MOST_MESSAGES: Final = 10_000
"""In one conversation: more is a column that does not name conversations."""
_BATCH: Final = 1000
_TOLD_EVERY: Final = 1000
_READING_SHARE: Final = 0.5
_TABLE: Final = """
CREATE TABLE messages (
    place INTEGER PRIMARY KEY, line INTEGER, thread INTEGER, position, role TEXT, content TEXT, problem TEXT,
    own_id INTEGER, parent INTEGER, side TEXT
)
"""
_INSERT: Final = "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_THREADS: Final = """
SELECT thread, MIN(place), COUNT(*), SUM(LENGTH(content)) FROM messages GROUP BY thread ORDER BY MIN(place)
"""
_MESSAGES: Final = """
SELECT line, role, content, problem, own_id, parent, side FROM messages WHERE thread = ? ORDER BY {order}, place
"""


OnStage = Callable[[float, str], None]
"""Hears which part of the work is done, and in words what is being done."""


def not_told(share: float, text: str) -> None:
    """For those who do not want to hear of it."""


def grouped(
    records: Iterator[Record], layout: Layout, scratch: Path, *, size_bytes: int = 0, on_stage: OnStage = not_told
) -> Iterator[Record]:
    """Conversations in the order in which they begin, each a record with its turns in the field ``messages``.

    A message that cannot be used makes its conversation a broken record, since there would be a hole in it.
    ``scratch`` is a file that does not exist and is removed at the end. ``size_bytes`` of the source say how far
    ``on_stage`` is told that its messages are read.
    """
    assert layout.grouping is not None
    # What SQLite sorts on the disk is the text of rows too: it stays in the folder of the rows.
    os.environ["SQLITE_TMPDIR"] = str(scratch.parent)
    try:
        with closing(sqlite3.connect(scratch, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode=OFF")
            database.execute("PRAGMA synchronous=OFF")
            database.execute("PRAGMA cache_size=-32768")
            database.execute(_TABLE)
            intake = _Intake(database, layout.grouping, layout)
            yield from intake.take(
                records,
                lambda read, count: on_stage(
                    _READING_SHARE * min(1.0, read / max(1, size_bytes)), f"{count:,} messages read"
                ),
            )
            on_stage(_READING_SHARE, "Sorting the messages")
            intake.sort()
            yield from _conversations(database, layout, intake.order, on_stage)
    finally:
        scratch.unlink(missing_ok=True)


class _Intake:
    """Writes messages into the table, with what is wrong with them."""

    def __init__(self, database: sqlite3.Connection, grouping: Grouping, layout: Layout) -> None:
        self._database = database
        self._grouping = grouping
        self._layout = layout
        self._by_place = FIRST in layout.roles or OTHERS in layout.roles
        self.order = Order()

    def take(self, records: Iterator[Record], on_read: Callable[[int, int], None]) -> Iterator[Record]:
        """Yields those records that belong to no conversation: broken ones, and messages without a word.

        ``on_read`` hears now and then how many characters of how many messages were read.
        """
        batch: list[tuple[Any, ...]] = []
        read_chars = 0
        self._database.execute("BEGIN")
        for place, record in enumerate(records):
            if record.fields is not None:
                read_chars += sum(len(value) + 1 for value in record.fields.values() if isinstance(value, str))
            if place % _TOLD_EVERY == 0:
                # A message is about as large as it is in the file: near enough for a bar.
                on_read(read_chars, place)
            message = self._message(place, record)
            if isinstance(message, Record):
                yield message
                continue
            batch.append(message)
            if len(batch) >= _BATCH:
                self._database.executemany(_INSERT, batch)
                batch.clear()
        self._database.executemany(_INSERT, batch)

    def sort(self) -> None:
        """Once all are taken."""
        self._database.execute("CREATE INDEX by_thread ON messages (thread, place)")
        self._database.execute("COMMIT")

    def _message(self, place: int, record: Record) -> "Record | tuple[Any, ...]":
        if record.fields is None:
            return record
        fields, grouping = record.fields, self._grouping
        thread = fields.get(grouping.conversation)
        if thread is None or str(thread).strip() == "":
            return Record(record.line, broken=f"column '{grouping.conversation}' names no conversation")
        content, problem = self._content(fields)
        if content is not None and not content.strip():
            return Record(record.line, fields={MESSAGES: []})
        role = fields.get(grouping.role)
        if not problem and not self._by_place and role_of(role, self._layout.roles) is None:
            problem = f"column '{grouping.role}' has an unknown role"
        position = fields.get(grouping.order) if grouping.order is not None else None
        if not problem and grouping.order is not None and not self.order.see(position):
            problem = f"column '{grouping.order}' is neither a number nor a time as in the other rows"
        side = fields.get(self._layout.split) if self._layout.split is not None else None
        return (
            *(place, record.line, _digest(thread), _storable(position), str(role), content, problem),
            _digest(fields.get(grouping.own_id)) if grouping.own_id is not None else None,
            _digest(fields.get(grouping.parent)) if grouping.parent is not None else None,
            str(side) if side is not None else None,
        )

    def _content(self, fields: dict[str, Any]) -> tuple[str | None, str | None]:
        value = fields.get(self._grouping.content)
        if value is None:
            return "", None
        try:
            content = spoken_of(value, self._grouping.content)
            content.encode()
        except Broken as error:
            return None, error.reason
        except UnicodeEncodeError:
            return None, "has bytes that are no characters"
        return content, None


def _digest(value: Any) -> int | None:
    if value is None or value == "":
        return None
    digest = hashlib.blake2b(str(value).strip().encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _storable(position: Any) -> Any:
    if position is None or (isinstance(position, int | float) and -(2**63) <= position < 2**63):
        return position
    return str(position).encode("utf-8", "replace").decode()


def _conversations(database: sqlite3.Connection, layout: Layout, order: Order, on_stage: OnStage) -> Iterator[Record]:
    database.create_function("position_key", 1, order.key, deterministic=True)
    grouping = layout.grouping
    assert grouping is not None
    messages = _MESSAGES.format(order="position_key(position)" if grouping.order is not None else "1")
    (total,) = database.execute("SELECT COUNT(DISTINCT thread) FROM messages").fetchone()
    for number, (thread, first, count, size_chars) in enumerate(database.execute(_THREADS)):
        if number % _TOLD_EVERY == 0:
            share = _READING_SHARE + (1 - _READING_SHARE) * number / total
            on_stage(share, f"{number:,} of {total:,} conversations put together")
        if count > MOST_MESSAGES or (size_chars or 0) > MAX_RECORD_BYTES:
            (line,) = database.execute("SELECT line FROM messages WHERE place = ?", (first,)).fetchone()
            reason = f"column '{grouping.conversation}' has one value for more than {MOST_MESSAGES:,} messages"
            yield Record(line, broken=reason if count > MOST_MESSAGES else "the conversation is too long")
            continue
        found = database.execute(messages, (thread,)).fetchall()
        problem = next(((line, problem) for line, _, _, problem, *_ in found if problem), None)
        if problem is not None:
            yield Record(problem[0], broken=f"{problem[1]}; its conversation is left out")
        elif grouping.parent is not None:
            yield from _paths(found, layout)
        else:
            yield _record(found, layout)


def _record(messages: list[tuple[Any, ...]], layout: Layout) -> Record:
    turns = [{"role": role, "content": content} for _, role, content, *_ in messages]
    fields: dict[str, Any] = {MESSAGES: turns}
    if layout.split is not None:
        fields[layout.split] = next((side for *_, side in messages if side is not None), None)
    return Record(min(line for line, *_ in messages), fields=fields)


def _paths(messages: list[tuple[Any, ...]], layout: Layout) -> Iterator[Record]:
    """Every way through a tree of messages from its beginning to a last answer."""
    by_id = {own_id: message for message in messages if (own_id := message[4]) is not None}
    answered = {message[5] for message in messages if _is_answer(message, layout)}
    continued = {
        by_id[message[5]][5] for message in messages if _is_answer(message, layout) and message[5] in by_id
    } - {None}
    for message in messages:
        # An answer ends a way unless somebody asks on and is answered.
        if not _is_answer(message, layout) or message[4] in continued:
            continue
        way: list[tuple[Any, ...]] = []
        seen: set[int] = set()
        step: tuple[Any, ...] | None = message
        while step is not None and step[4] not in seen:
            seen.add(step[4])
            way.append(step)
            step = by_id.get(step[5])
        yield _record(way[::-1], layout)
    if not answered:
        yield Record(messages[0][0], broken="no answer: no turn is the assistant's")


def _is_answer(message: tuple[Any, ...], layout: Layout) -> bool:
    return role_of(message[1], layout.roles) == "assistant"
