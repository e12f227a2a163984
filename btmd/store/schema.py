"""The tables and triggers that the migrations make, compared with those that are there."""

import hashlib
import sqlite3

from btmd.store.errors import SchemaChanged


def schema_hash(connection: sqlite3.Connection, tables: frozenset[str]) -> str:
    """SHA-256 (hex) over the SQL of everything that belongs to ``tables``: tables, indexes, triggers, views."""
    digest = hashlib.sha256()
    for kind, name, table, sql in connection.execute(
        "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master ORDER BY type, name"
    ):
        if table in tables:
            digest.update(f"{kind}\0{name}\0{table}\0{sql}\0".encode())
    return digest.hexdigest()


def table_names(connection: sqlite3.Connection) -> frozenset[str]:
    return frozenset(
        row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
    )


def require_schema(connection: sqlite3.Connection, expected: sqlite3.Connection) -> None:
    """Compare with ``expected``, an empty database that went through the same migrations. Raises SchemaChanged.

    Tables of projections are left out: they come and go. A trigger that somebody added to a table of the log is seen.
    """
    tables = table_names(expected)
    if schema_hash(connection, tables) != schema_hash(expected, tables):
        raise SchemaChanged(
            "The tables or triggers of the event log are not those that btmd made.",
            hint="Restore the database from a backup; nothing was changed.",
        )
