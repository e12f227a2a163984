"""What all views share: tables described once as SQLModel classes, made and written in the log's own transaction."""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlmodel import SQLModel

from btmd.store.recorded import Recorded

Apply = Callable[[sqlite3.Connection, Recorded, Any], None]


def create_tables(connection: sqlite3.Connection, tables: tuple[type[SQLModel], ...]) -> None:
    """Make the tables and their indexes as the classes describe them."""
    dialect = sqlite.dialect()
    for table in tables:
        made = table.__table__  # type: ignore[attr-defined]
        connection.execute(str(CreateTable(made).compile(dialect=dialect)))
        for index in sorted(made.indexes, key=lambda one: str(one.name)):
            connection.execute(str(CreateIndex(index).compile(dialect=dialect)))


class View:
    """A projection made of one function for each event type it listens to."""

    def __init__(
        self, name: str, code_version: int, tables: tuple[type[SQLModel], ...], handlers: Mapping[type[Any], Apply]
    ) -> None:
        self.name = name
        self.code_version = code_version
        self._classes = tables
        self.tables = tuple(str(table.__tablename__) for table in tables)
        self._handlers = {event_type.TYPE: (event_type, handler) for event_type, handler in handlers.items()}

    def create(self, connection: sqlite3.Connection) -> None:
        create_tables(connection, self._classes)

    def apply(self, connection: sqlite3.Connection, recorded: Recorded) -> None:
        found = self._handlers.get(recorded.type)
        if found is None:
            return
        event_type, handler = found
        happened = recorded.event
        # A newer version of the event than this program knows comes as a raw one: it says nothing to this view.
        if isinstance(happened, event_type):
            handler(connection, recorded, happened)


def insert(connection: sqlite3.Connection, table: type[SQLModel], **values: Any) -> None:
    """Add a row, in place of one with the same key."""
    columns = ", ".join(values)
    marks = ", ".join(f":{column}" for column in values)
    connection.execute(f"INSERT OR REPLACE INTO {table.__tablename__} ({columns}) VALUES ({marks})", values)


def update(connection: sqlite3.Connection, table: type[SQLModel], key: str, identity: str, **values: Any) -> None:
    """Change columns of the row whose ``key`` column holds ``identity``."""
    columns = ", ".join(f"{column} = :{column}" for column in values)
    connection.execute(
        f"UPDATE {table.__tablename__} SET {columns} WHERE {key} = :identity_", {**values, "identity_": identity}
    )
