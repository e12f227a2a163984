"""Numbered migrations: a new database, an older one lifted on a copy, a newer one refused untouched."""

import hashlib
import os
import re
import sqlite3
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import msgspec

from btmd.errors import BtmdError, Damaged, StoreTooNew
from btmd.store.connection import APPLICATION_ID, opening_error
from btmd.store.reader import last_version, read_head
from btmd.store.recorded import COLUMNS, genesis_hash, row_hash
from btmd.store.schema import require_schema
from btmd.store.swap import finish_swap
from btmd.store.verification import verify_log

OLDEST_USABLE_VERSION = 1
"""The oldest version of the database that this program can work on, should its migrations fail.

A release raises it with the first table or column that it cannot do without.
"""
_FILE_NAME = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")


class Migration(msgspec.Struct, frozen=True):
    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


class Unmigrated(msgspec.Struct, frozen=True):
    """A database that stays in an older version because lifting it failed: why, and what that means."""

    reason: str
    did: str


class PreparedDatabase(msgspec.Struct, frozen=True):
    """A database that can be opened. ``version`` is that of its tables."""

    version: int
    unmigrated: Unmigrated | None = None


def released_migrations() -> tuple[Migration, ...]:
    """The SQL files that this program ships, in order."""
    found = []
    for file in resources.files("migrations").iterdir():
        match = _FILE_NAME.match(file.name)
        if match:
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise Damaged("The installation is not whole: a migration is missing.", hint="Install btmd again.")
    return tuple(found)


def prepare_database(
    path: Path, *, clock: Callable[[], int], new_id: Callable[[], str], migrations: tuple[Migration, ...] | None = None
) -> PreparedDatabase:
    """Make ``path`` a database of the present version, or of the one it had where the migration fails.

    A new one is built aside and renamed, an older one is copied, migrated, checked and swapped in; the file before
    stays beside it as ``btmd.db.v<number>``. Whatever goes wrong on the way leaves the old one as it was, and in use.
    Call it before any connection is open. Raises StoreTooNew, Damaged, and what the migration failed with where this
    program cannot work on the older version.
    """
    migrations = released_migrations() if migrations is None else migrations
    finish_swap(path)
    _clear_left_overs(path)
    if not path.exists():
        if _beside(path, "-wal").exists():
            raise Damaged(
                f"{path.name} is gone, but its write-ahead log is there.", hint="Restore the database from a backup."
            )
        _create(path, migrations, clock, new_id)
        return PreparedDatabase(len(migrations))
    version = _stored_version(path)
    if version > len(migrations):
        raise StoreTooNew(
            f"{path.name} has version {version}; this btmd knows versions up to {len(migrations)}. It was not touched.",
            hint="Install the newer btmd again.",
        )
    if version == len(migrations):
        return PreparedDatabase(version)
    try:
        _migrate(path, version, migrations, clock)
    except (sqlite3.Error, OSError, BtmdError) as error:
        _clear_left_overs(path)
        if version < OLDEST_USABLE_VERSION:
            raise
        return PreparedDatabase(version, _unmigrated(path, version, len(migrations), error))
    return PreparedDatabase(len(migrations))


def _unmigrated(path: Path, version: int, wanted: int, error: sqlite3.Error | OSError | BtmdError) -> Unmigrated:
    refusal = error if isinstance(error, BtmdError) else opening_error(error, path)
    return Unmigrated(
        f"The database could not be lifted from version {version} to {wanted}: {refusal.detail}",
        f"It stays in version {version} and is used so; lifting it is tried again at the next start.",
    )


def _clear_left_overs(path: Path) -> None:
    for left_over in (_aside(path), *(_beside(_aside(path), suffix) for suffix in ("-wal", "-shm", "-journal"))):
        left_over.unlink(missing_ok=True)


def pending_migrations(path: Path) -> int:
    """How many migrations ``prepare_database`` would apply to the database at ``path``; 0 where there is none.

    Call it before any connection is open. Raises Damaged.
    """
    finish_swap(path)
    return max(0, len(released_migrations()) - _stored_version(path)) if path.exists() else 0


def expected_schema(migrations: tuple[Migration, ...] | None = None) -> sqlite3.Connection:
    """An empty database in memory with the tables of the present version."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    _apply(connection, released_migrations() if migrations is None else migrations, now_us=0)
    return connection


def _stored_version(path: Path) -> int:
    """The version in the file's header, read without opening a database.

    Not through SQLite: that would make files beside it. And only here: closing a plain descriptor of a database drops
    the locks of every connection that this process has to it.
    """
    try:
        header = _first_bytes(path, 100)
    except OSError as error:
        raise opening_error(error, path) from error
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise Damaged(f"{path.name} is not a database.", hint="Restore it from a backup; it was not touched.")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise Damaged(
            f"{path.name} is another program's database.", hint="Use another state folder; it was not touched."
        )
    return int.from_bytes(header[60:64], "big")


def _first_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def new_database(
    path: Path, migrations: tuple[Migration, ...], *, now_us: int, store_id: str, created_at_us: int
) -> None:
    """Make the file ``path``, which must not be there, an empty log of the store ``store_id``; not yet synced."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous=EXTRA")
        _apply(connection, migrations, now_us=now_us)
        connection.execute(
            "INSERT INTO meta VALUES (1, ?, ?, 1, 0, ?, 0)", (store_id, created_at_us, genesis_hash(store_id))
        )
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _create(path: Path, migrations: tuple[Migration, ...], clock: Callable[[], int], new_id: Callable[[], str]) -> None:
    aside, now_us = _aside(path), clock()
    new_database(aside, migrations, now_us=now_us, store_id=new_id(), created_at_us=now_us)
    _swap_in(aside, path)


def _migrate(path: Path, version: int, migrations: tuple[Migration, ...], clock: Callable[[], int]) -> None:
    aside = _aside(path)
    os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
    source = sqlite3.connect(path, isolation_level=None)
    copy = sqlite3.connect(aside, isolation_level=None)
    try:
        # Everything into the one file, and no -wal beside it: after the swap it would be read as the new file's.
        source.execute("PRAGMA journal_mode=DELETE").fetchone()
        if _beside(path, "-wal").exists():
            raise Damaged("Another program has the database open.", hint="Close it and start btmd again.")
        copy.execute("PRAGMA synchronous=EXTRA")
        source.backup(copy)
        _apply(copy, migrations[version:], now_us=clock())
        _check(copy, source, migrations)
        copy.execute("PRAGMA journal_mode=WAL")
    finally:
        copy.close()
        source.close()
    kept = _beside(path, f".v{version}")
    kept.unlink(missing_ok=True)
    os.link(path, kept)
    _swap_in(aside, path)


def _apply(connection: sqlite3.Connection, migrations: tuple[Migration, ...], *, now_us: int) -> None:
    connection.execute("PRAGMA foreign_keys=OFF")
    for migration in migrations:
        connection.executescript(f"BEGIN IMMEDIATE;\n{migration.sql}")
        connection.execute(
            "INSERT INTO schema_migrations VALUES (?, ?, ?, ?)",
            (migration.number, migration.name, migration.sha256, now_us),
        )
        connection.execute(f"PRAGMA user_version={migration.number}")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute("COMMIT")


def _check(copy: sqlite3.Connection, source: sqlite3.Connection, migrations: tuple[Migration, ...]) -> None:
    """What has to hold before a migrated copy takes the place of the database. Raises Damaged."""
    trouble = [row[0] for row in copy.execute("PRAGMA integrity_check")]
    if trouble != ["ok"]:
        raise Damaged(f"The database is damaged: {trouble[0]}.", hint="Restore it from a backup; it was not changed.")
    if copy.execute("PRAGMA foreign_key_check").fetchone() is not None:
        raise Damaged("The migrated database is not whole.", hint="The old one was kept; report this.")
    expected = expected_schema(migrations)
    try:
        require_schema(copy, expected)
    finally:
        expected.close()
    head = "SELECT store_id, epoch, head_seq, head_hash FROM meta"
    if copy.execute(head).fetchone() != source.execute(head).fetchone():
        raise Damaged(
            "The migrated log does not end where the old one does.", hint="The old one was kept; report this."
        )
    result = verify_log(copy)
    if not result.ok:
        raise Damaged(
            f"The event log is damaged at event {result.first_bad}: {result.reason}.",
            hint="Restore the database from a backup; it was not changed.",
        )
    _try_append(copy)


def _try_append(copy: sqlite3.Connection) -> None:
    """Append a row as the writer would, and take it back. Raises Damaged: a log nobody can write to is no good one."""
    stream, head = "machine", read_head(copy)
    epoch, recorded_at_us = copy.execute("SELECT epoch, head_recorded_at FROM meta").fetchone()
    version, now_us = last_version(copy, stream) + 1, recorded_at_us + 1
    values = (head.seq + 1, epoch, stream, version, "trial", "Trial", 1, now_us, now_us, "", "{}", None, None, "{}")
    copy.execute("BEGIN IMMEDIATE")
    try:
        copy.execute(
            f"INSERT INTO events ({COLUMNS}) VALUES ({','.join('?' * 16)})",
            (*values, head.hash, row_hash(head.hash, values)),
        )
    except sqlite3.Error as error:
        raise Damaged(
            f"The migrated log takes no event: {error}.", hint="The old one was kept; report this."
        ) from error
    finally:
        if copy.in_transaction:
            copy.execute("ROLLBACK")


def _swap_in(aside: Path, path: Path) -> None:
    descriptor = os.open(aside, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(aside, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _aside(path: Path) -> Path:
    return _beside(path, ".new")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
