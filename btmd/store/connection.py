"""Opening the database: one connection that writes, and readers that cannot."""

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from btmd.errors import BtmdError, Damaged, StateFolderReadOnly, StoreFailed, StoreFull
from btmd.store.errors import StoreBusy

Connect = Callable[[Path], sqlite3.Connection]

APPLICATION_ID = 0x62746D64  # "btmd"; `file` and the header tell the database from another program's
WAL_SIZE_LIMIT_BYTES = 16 << 20
CACHE_KIB = 8192

SQLITE_IOERR_SHMSIZE = 4874  # the shared-memory file cannot grow: a full disk with another name


def connect_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes and checkpoints, with every setting that durability rests on."""
    connection = sqlite3.connect(_uri(path, "rw"), uri=True, isolation_level=None, check_same_thread=False)
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != "wal":
        connection.close()
        raise StoreFailed(
            f"The file system under {path.parent} cannot hold a write-ahead log.",
            hint="Use a state folder on a local disk.",
        )
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA recursive_triggers=ON")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA trusted_schema=OFF")
    # The writer checkpoints itself, after it has answered: an automatic one would delay an acknowledgement.
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute(f"PRAGMA journal_size_limit={WAL_SIZE_LIMIT_BYTES}")
    connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    connection.execute("PRAGMA temp_store=MEMORY")
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write and never checkpoints."""
    connection = sqlite3.connect(_uri(path, "ro"), uri=True, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only=ON")
    connection.execute("PRAGMA trusted_schema=OFF")
    return connection


def is_storage_failure(error: BaseException) -> bool:
    """Whether the database itself failed (full, unreadable, locked), not the statement it was given."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # Raised by the module, not by SQLite: text in the file that is no text.
        return isinstance(error, sqlite3.OperationalError)
    return (code & 0xFF) in {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_BUSY,
    }


def storage_error(error: sqlite3.Error) -> BtmdError:
    """The error of our tree for a failure of SQLite.

    StoreFull and StoreBusy leave the store usable; after any other it must be opened again and verified.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    if code & 0xFF == sqlite3.SQLITE_FULL or code == SQLITE_IOERR_SHMSIZE:
        return StoreFull(
            "The disk with the state folder is full; nothing was recorded.",
            hint="Make room on that disk and ask again; `btmctl status` shows how much is free.",
        )
    if code & 0xFF == sqlite3.SQLITE_BUSY:
        return StoreBusy(
            "Another program holds the database locked; nothing was recorded.",
            hint="Close the program that has btmd.db open and ask again.",
        )
    if code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return Damaged(
            f"The database is damaged ({name}: {error}).", hint="Restore it from a backup; nothing was changed."
        )
    return StoreFailed(
        f"The event log cannot be written ({name}: {error}); nothing was recorded.",
        hint="Check the disk and the system's log, then restart btmd.",
    )


def unreadable(error: Exception) -> Damaged:
    """The error of our tree for values that no program of ours wrote."""
    return Damaged(f"The database is damaged ({error}).", hint="Restore it from a backup; nothing was changed.")


def opening_error(error: sqlite3.Error | OSError, path: Path) -> BtmdError:
    """The error of our tree for a database that could not be made, migrated or opened."""
    # os.access also tells root of a file system that is mounted read-only.
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        return StateFolderReadOnly(
            f"{path.parent} cannot be written.", hint="Give btmd write access to it, or use another state folder."
        )
    if isinstance(error, sqlite3.Error):
        return storage_error(error)
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreFull(
            "The disk with the state folder is full; the database could not be made.", hint="Make room on that disk."
        )
    return StoreFailed(
        f"The database cannot be opened ({error.strerror}).", hint="Check the disk and the state folder."
    )


def _uri(path: Path, mode: str) -> str:
    return f"file:{quote(str(path.absolute()))}?mode={mode}"
