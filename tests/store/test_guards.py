"""The schema itself refuses whatever would change what was written, whoever asks."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from btmd.store.recorded import COLUMNS
from btmd.store.segments import pack
from tests.store.given import append, insert_row, opened, refused, tick

INSERT = f"({COLUMNS}) VALUES ({','.join('?' * 16)})"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[sqlite3.Connection]:
    """Four rows: an event, two ticks, an event. Opened as any program could: without a single setting of ours."""
    async with opened(tmp_path) as store:
        await append(store, "s", refused())
        await append(store, "ticks-s", tick(1), tick(2))
        await append(store, "s", refused())
    connection = sqlite3.connect(tmp_path / "btmd.db", isolation_level=None)
    yield connection
    connection.close()


def newest(database: sqlite3.Connection) -> dict[str, object]:
    """A row that would be accepted as the next of ``events``."""
    cursor = database.execute(f"SELECT {COLUMNS} FROM log ORDER BY seq DESC LIMIT 1")
    row = dict(zip((column[0] for column in cursor.description), cursor.fetchone(), strict=True))
    return row | {
        "seq": row["seq"] + 1,
        "version": row["version"] + 1,
        "event_id": "new",
        "recorded_at": row["recorded_at"] + 1,
        "prev_hash": row["hash"],
        "hash": bytes(32),
    }


def test_the_row_that_fits_is_accepted(database: sqlite3.Connection) -> None:
    database.execute(f"INSERT INTO events {INSERT}", tuple(newest(database).values()))
    assert database.execute("SELECT head_seq, head_hash FROM meta").fetchone() == (5, bytes(32))


@pytest.mark.parametrize("verb", ["INSERT", "INSERT OR REPLACE", "INSERT OR IGNORE", "REPLACE"])
@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"seq": 4}, "head \\+ 1"),
        ({"seq": 1}, "head \\+ 1"),
        ({"seq": 6}, "head \\+ 1"),
        ({"seq": None}, "head \\+ 1"),
        ({"prev_hash": bytes(32)}, "prev_hash"),
        ({"epoch": 2}, "epoch"),
        ({"recorded_at": 5}, "recorded_at"),
        ({"version": 2}, "never replaced"),
        ({"event_id": "id-000002"}, "never replaced"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(
    database: sqlite3.Connection, verb: str, changed: dict[str, object], complaint: str
) -> None:
    before = database.execute("SELECT * FROM log ORDER BY seq").fetchall()
    with pytest.raises(sqlite3.IntegrityError, match=complaint):
        database.execute(f"{verb} INTO events {INSERT}", tuple((newest(database) | changed).values()))
    assert database.execute("SELECT * FROM log ORDER BY seq").fetchall() == before


@pytest.mark.parametrize("table", ["events", "ticks"])
@pytest.mark.parametrize("recursive_triggers", [0, 1])
def test_a_row_is_never_changed_deleted_or_replaced(
    database: sqlite3.Connection, table: str, recursive_triggers: int
) -> None:
    database.execute(f"PRAGMA recursive_triggers={recursive_triggers}")
    for statement in (
        f"UPDATE {table} SET data = '{{}}'",
        f"UPDATE OR REPLACE {table} SET seq = seq + 1",
        f"DELETE FROM {table}",
        f"DELETE FROM {table} WHERE seq = (SELECT max(seq) FROM {table})",
        f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}",
        f"REPLACE INTO {table} SELECT * FROM {table} LIMIT 1",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            database.execute(statement)


def test_each_table_takes_only_its_own_streams(database: sqlite3.Connection) -> None:
    row = newest(database)
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        database.execute(f"INSERT INTO events {INSERT}", tuple((row | {"stream": "ticks-s", "version": 9}).values()))
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        database.execute(f"INSERT INTO ticks {INSERT}", tuple(row.values()))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE meta SET store_id = 'other'",
        "UPDATE meta SET head_seq = 3",
        "UPDATE meta SET head_seq = 5",
        "UPDATE meta SET head_hash = zeroblob(32)",
        "UPDATE meta SET epoch = 0",
        "UPDATE meta SET epoch = 2, head_seq = 3",
        "DELETE FROM meta",
        "INSERT INTO meta SELECT 1, 'other', 0, 1, 0, zeroblob(32), 0",
        "INSERT OR REPLACE INTO meta SELECT 1, 'other', 0, 1, 0, zeroblob(32), 0",
    ],
)
def test_the_stored_head_moves_only_with_a_row(database: sqlite3.Connection, statement: str) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        database.execute(statement)


def test_a_restored_store_may_begin_a_new_epoch(database: sqlite3.Connection) -> None:
    database.execute("UPDATE meta SET epoch = 2")
    with pytest.raises(sqlite3.IntegrityError, match="epoch"):
        database.execute(f"INSERT INTO events {INSERT}", tuple(newest(database).values()))
    database.execute(f"INSERT INTO events {INSERT}", tuple((newest(database) | {"epoch": 2}).values()))


async def test_ticks_leave_only_when_an_announced_segment_holds_them(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await append(store, "ticks-s", tick(1), tick(2), tick(3), tick(4))
        ticks = await store.read()
    database = sqlite3.connect(tmp_path / "btmd.db", isolation_level=None)
    segment = pack(ticks[:2])
    insert = "INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

    def values(**changed: object) -> tuple[object, ...]:
        row = {
            "first_seq": segment.first_seq,
            "last_seq": segment.last_seq,
            "row_count": segment.row_count,
            "event_seq": 5,
            "encoding": segment.encoding,
            "body": segment.body,
            "prev_hash": segment.prev_hash,
            "hash": segment.hash,
        }
        return tuple((row | changed).values())

    with pytest.raises(sqlite3.IntegrityError, match="no event announces it"):
        database.execute(insert, values())
    announced = f'{{"first_seq":1,"last_seq":2,"row_count":2,"segment_hash":"{segment.hash.hex()}"}}'
    insert_row(tmp_path / "btmd.db", "log", "TicksCondensed", 1, announced)
    for changed, complaint in (
        ({"hash": bytes(32)}, "no event announces it"),
        ({"row_count": 1}, "every tick"),
        ({"last_seq": 3}, "every tick"),
        ({"prev_hash": b"x" * 32}, "segment before"),
    ):
        with pytest.raises(sqlite3.IntegrityError, match=complaint):
            database.execute(insert, values(**changed))
    database.execute(insert, values())
    with pytest.raises(sqlite3.IntegrityError, match="follow one another"):
        database.execute(insert, values(row_count=1, first_seq=2, last_seq=2))
    with pytest.raises(sqlite3.IntegrityError, match="never deleted"):
        database.execute("DELETE FROM ticks")
    with pytest.raises(sqlite3.IntegrityError, match="never deleted"):
        database.execute("DELETE FROM ticks WHERE seq = 3")
    database.execute("DELETE FROM ticks WHERE seq <= 2")
    for statement in ("DELETE FROM segments", "UPDATE segments SET encoding = 'x'"):
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            database.execute(statement)
    with pytest.raises(sqlite3.IntegrityError):
        database.execute("INSERT OR REPLACE INTO segments SELECT * FROM segments")
    assert [row[0] for row in database.execute("SELECT seq FROM ticks")] == [3, 4]
    database.close()
