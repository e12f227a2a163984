"""Making, lifting and refusing databases."""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.dialects import sqlite

from btmd.errors import Damaged, StoreFailed, StoreTooNew
from btmd.store.errors import SchemaChanged
from btmd.store.migrations import (
    Migration,
    PreparedDatabase,
    expected_schema,
    pending_migrations,
    prepare_database,
    released_migrations,
)
from btmd.store.schema import schema_hash, table_names
from btmd.store.tables import TABLES
from tests.store.given import append, file_names, opened, refused

RELEASED = {1: "event_log"}
"""Released migrations; their content is kept by the hash in every database, so it never changes."""

GROWN = Migration(
    2, "grown", "ALTER TABLE events ADD COLUMN remark TEXT;\nCREATE TABLE remarks (text TEXT NOT NULL);\n"
)
BROKEN = Migration(2, "broken", "CREATE TABLE halfway (a);\nINSERT INTO nowhere VALUES (1);\n")
FORGETFUL = Migration(2, "forgetful", "DROP TRIGGER events_never_deleted;\nDELETE FROM events WHERE seq = 2;\n")


CLOSED = Migration(
    2,
    "closed",
    "CREATE TRIGGER closed BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'closed for ever'); END;\n",
)


def prepare(path: Path, *added: Migration) -> PreparedDatabase:
    return prepare_database(
        path, clock=lambda: 7, new_id=lambda: "store-1", migrations=(*released_migrations(), *added)
    )


@pytest.fixture
def contents(tmp_path: Path) -> Iterator[dict[str, bytes]]:
    """What must be there unchanged after a refusal; filled by the test."""
    expected: dict[str, bytes] = {}
    yield expected
    assert expected
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == expected


def look(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_migrations_are_numbered_without_a_gap() -> None:
    assert {migration.number: migration.name for migration in released_migrations()} == RELEASED


def test_a_new_database_is_whole_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "btmd.db"
    prepare(path)
    assert file_names(tmp_path) == {"btmd.db"}
    assert path.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT store_id, epoch, head_seq, created_at FROM meta").fetchone() == (
            "store-1",
            1,
            0,
            7,
        )
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        (first,) = connection.execute("SELECT number, name, sha256 FROM schema_migrations").fetchall()
        migration = released_migrations()[0]
        assert first == (1, "event_log", hashlib.sha256(migration.sql.encode()).hexdigest())


async def test_an_older_database_is_lifted_with_all_its_events(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await append(store, "s", refused("1"), refused("2"))
        before, head = [row.row() for row in await store.read()], store.head
    path = tmp_path / "btmd.db"
    prepare(path, GROWN)
    assert file_names(tmp_path) == {"btmd.db", "btmd.db.v1"}
    with (
        closing(sqlite3.connect(path)) as connection,
        closing(expected_schema((*released_migrations(), GROWN))) as fresh,
    ):
        assert [row[:16] for row in connection.execute("SELECT * FROM events")] == before
        assert connection.execute("SELECT head_seq, head_hash FROM meta").fetchone() == (head.seq, head.hash)
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
        assert schema_hash(connection, table_names(fresh)) == schema_hash(fresh, table_names(fresh))
    with closing(sqlite3.connect(tmp_path / "btmd.db.v1")) as kept:
        assert kept.execute("PRAGMA user_version").fetchone() == (1,)
        assert [row[:16] for row in kept.execute("SELECT * FROM events")] == before
    prepare(path, GROWN)


async def test_events_left_in_the_write_ahead_log_are_lifted_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await append(store, "s", refused("1"), refused("2"))
        copied = look(tmp_path)
    assert "btmd.db-wal" in copied
    folder = tmp_path / "crashed"
    folder.mkdir()
    for name in ("btmd.db", "btmd.db-wal"):
        (folder / name).write_bytes(copied[name])
    prepare(folder / "btmd.db", GROWN)
    assert not (folder / "btmd.db-wal").exists()
    with closing(sqlite3.connect(folder / "btmd.db")) as connection:
        assert connection.execute("SELECT count(*), max(seq) FROM events").fetchone() == (2, 2)


@pytest.mark.parametrize("migration", [BROKEN, FORGETFUL, CLOSED])
async def test_a_migration_that_fails_leaves_the_database_as_it_was_and_in_use(
    tmp_path: Path, migration: Migration
) -> None:
    async with opened(tmp_path) as store:
        await append(store, "s", refused("1"), refused("2"), refused("3"))
    prepared = prepare(tmp_path / "btmd.db", migration)
    assert prepared.version == len(released_migrations())
    assert prepared.unmigrated is not None
    assert prepared.unmigrated.reason
    async with opened(tmp_path) as store:
        assert (await store.verify()).checked == 3
        await append(store, "s", refused("4"))
    assert file_names(tmp_path) == {"btmd.db"}


@pytest.mark.parametrize(
    ("migration", "error"), [(BROKEN, sqlite3.OperationalError), (FORGETFUL, (Damaged, SchemaChanged))]
)
async def test_a_version_too_old_to_work_on_is_refused_with_what_the_migration_failed_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, migration: Migration, error: type[Exception]
) -> None:
    async with opened(tmp_path) as store:
        await append(store, "s", refused("1"), refused("2"), refused("3"))
    with monkeypatch.context() as later_release:
        later_release.setattr("btmd.store.migrations.OLDEST_USABLE_VERSION", 99)
        with pytest.raises(error):
            prepare(tmp_path / "btmd.db", migration)
    async with opened(tmp_path) as store:
        assert (await store.verify()).checked == 3
    assert file_names(tmp_path) == {"btmd.db"}


async def test_a_newer_database_is_refused_untouched(tmp_path: Path, contents: dict[str, bytes]) -> None:
    prepare(tmp_path / "btmd.db", GROWN)
    contents.update(look(tmp_path))
    with pytest.raises(StoreTooNew) as refusal:
        async with opened(tmp_path):
            pass
    assert refusal.value.hint


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to look at, one would think" * 3])
async def test_a_file_that_is_no_database_is_refused_untouched(
    tmp_path: Path, contents: dict[str, bytes], content: bytes
) -> None:
    (tmp_path / "btmd.db").write_bytes(content)
    contents.update(look(tmp_path))
    with pytest.raises(Damaged):
        async with opened(tmp_path):
            pass


async def test_a_folder_in_place_of_the_database_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "btmd.db").mkdir()
    with pytest.raises(StoreFailed, match="directory"):
        pending_migrations(tmp_path / "btmd.db")
    with pytest.raises(StoreFailed, match="directory"):
        async with opened(tmp_path):
            pass


async def test_another_programs_database_is_refused_untouched(tmp_path: Path, contents: dict[str, bytes]) -> None:
    with closing(sqlite3.connect(tmp_path / "btmd.db")) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    contents.update(look(tmp_path))
    with pytest.raises(Damaged, match="another program"):
        async with opened(tmp_path):
            pass


async def test_a_lost_database_is_not_replaced_by_an_empty_one(tmp_path: Path, contents: dict[str, bytes]) -> None:
    (tmp_path / "btmd.db-wal").write_bytes(b"left alone")
    contents.update(look(tmp_path))
    with pytest.raises(Damaged):
        async with opened(tmp_path):
            pass


async def test_a_damaged_page_is_reported_as_damage(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await append(store, "s", *(refused("x" * 100) for _ in range(100)))
    path = tmp_path / "btmd.db"
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(5000) + content[5100:])
    with pytest.raises(Damaged):
        async with opened(tmp_path):
            pass


async def test_what_a_crash_left_of_a_migration_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "btmd.db.new").write_bytes(b"half a copy")
    (tmp_path / "btmd.db.new-journal").write_bytes(b"half a journal")
    async with opened(tmp_path) as store:
        await append(store, "s", refused())
    assert file_names(tmp_path) == {"btmd.db"}


def test_the_classes_describe_the_tables_that_the_migrations_make() -> None:
    with closing(expected_schema()) as connection:
        made = {
            table: {
                name: (kind, bool(required) or bool(key), bool(key))
                for _, name, kind, required, _, key in connection.execute(f"PRAGMA table_info({table})")
            }
            for table in table_names(connection) - {"log"}
        }
    kinds = {"VARCHAR": "TEXT", "BLOB": "BLOB", "INTEGER": "INTEGER"}
    described = {
        str(table.__tablename__): {
            column.name: (
                kinds[column.type.compile(dialect=sqlite.dialect())],
                not column.nullable,
                column.primary_key,
            )
            for column in table.__table__.columns  # type: ignore[attr-defined]
        }
        for table in TABLES
    }
    assert described == made
