"""What all views share: tables described once as SQLModel classes, made and written in the log's own transaction."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlmodel import SQLModel

from btmd.store.recorded import Recorded

Apply = Callable[[sqlite3.Connection, Recorded, Any], None]
ApplyRun = Callable[[sqlite3.Connection, Sequence[tuple[Recorded, Any]]], None]
"""Takes rows that follow one another, as far as the view is concerned, and does in one go what they would do."""


def create_tables(connection: sqlite3.Connection, tables: tuple[type[SQLModel], ...]) -> None:
    """Make the tables and their indexes as the classes describe them."""
    dialect = sqlite.dialect()
    for table in tables:
        made = table.__table__  # type: ignore[attr-defined]
        connection.execute(str(CreateTable(made).compile(dialect=dialect)))
        for index in sorted(made.indexes, key=lambda one: str(one.name)):
            connection.execute(str(CreateIndex(index).compile(dialect=dialect)))


class View:
    """A projection made of one function for each event type it listens to, and for some of one that takes a run."""

    def __init__(
        self,
        name: str,
        code_version: int,
        tables: tuple[type[SQLModel], ...],
        handlers: Mapping[type[Any], Apply],
        runs: Mapping[type[Any], ApplyRun] | None = None,
    ) -> None:
        self.name = name
        self.code_version = code_version
        self._classes = tables
        self.tables = tuple(str(table.__tablename__) for table in tables)
        self._handlers = {
            event_type.TYPE: (event_type, handler, (runs or {}).get(event_type))
            for event_type, handler in handlers.items()
        }

    def create(self, connection: sqlite3.Connection) -> None:
        create_tables(connection, self._classes)

    def apply(self, connection: sqlite3.Connection, recorded: Recorded) -> None:
        found = self._handlers.get(recorded.type)
        if found is None:
            return
        event_type, handler, _ = found
        happened = recorded.event
        # A newer version of the event than this program knows comes as a raw one: it says nothing to this view.
        if isinstance(happened, event_type):
            handler(connection, recorded, happened)

    def apply_all(self, connection: sqlite3.Connection, rows: Sequence[Recorded]) -> None:
        """What ``apply`` does for one row after the other."""
        run: list[tuple[Recorded, Any]] = []
        of_run: ApplyRun | None = None
        for recorded in rows:
            found = self._handlers.get(recorded.type)
            if found is None:
                continue
            event_type, handler, takes_run = found
            happened = recorded.event
            if not isinstance(happened, event_type):
                continue
            if run and takes_run is not of_run:
                assert of_run is not None
                of_run(connection, run)
                run = []
            of_run = takes_run
            if takes_run is None:
                handler(connection, recorded, happened)
            else:
                run.append((recorded, happened))
        if run:
            assert of_run is not None
            of_run(connection, run)


def insert(connection: sqlite3.Connection, table: type[SQLModel], **values: Any) -> None:
    """Add a row, in place of one with the same key."""
    connection.execute(_insert_statement(str(table.__tablename__), tuple(values)), values)


def update(connection: sqlite3.Connection, table: type[SQLModel], key: str, identity: str, **values: Any) -> None:
    """Change columns of the row whose ``key`` column holds ``identity``."""
    statement = _update_statement(str(table.__tablename__), key, tuple(values))
    connection.execute(statement, {**values, "identity_": identity})


@cache
def _insert_statement(table: str, columns: tuple[str, ...]) -> str:
    marks = ", ".join(f":{column}" for column in columns)
    return f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({marks})"


@cache
def _update_statement(table: str, key: str, columns: tuple[str, ...]) -> str:
    return f"UPDATE {table} SET {', '.join(f'{column} = :{column}' for column in columns)} WHERE {key} = :identity_"
