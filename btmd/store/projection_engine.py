"""Keeps the projections up to date, in the transaction of the events, each behind its own savepoint.

A projection that raises stops at its position and blocks nobody: the append goes on, the others too. It is reported,
and rebuilt aside (``btmd/store/projection_rebuild.py``) at the next start or on request.
"""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Protocol

from msgspec import Struct

from btmd.store.connection import is_storage_failure
from btmd.store.recorded import Recorded


class Projection(Protocol):
    """View tables made from the log and from nothing else.

    ``create`` makes ``tables`` (with their indexes), empty; ``apply`` takes one row after the other, in order, ticks
    included, and reads and writes only these tables; ``apply_all`` does the same for several. All name tables without a
    schema and begin and end no transaction. They run in the writer's thread: plain SQL and nothing slow. A change of
    the tables or of what is written needs a new ``code_version``: the projection is then rebuilt at the next start.
    """

    @property
    def name(self) -> str: ...
    @property
    def code_version(self) -> int: ...
    @property
    def tables(self) -> tuple[str, ...]: ...
    def create(self, connection: sqlite3.Connection, /) -> None: ...
    def apply(self, connection: sqlite3.Connection, recorded: Recorded, /) -> None: ...
    def apply_all(self, connection: sqlite3.Connection, rows: Sequence[Recorded], /) -> None: ...


class ProjectionStatus(Struct):
    """Where a projection stands; ``error`` says why it stopped at ``position`` (None: it runs)."""

    projection: Projection
    position: int
    error: str | None = None


class ProjectionEngine:
    """Positions and savepoints of all projections; used by the writer's thread only."""

    def __init__(self, projections: Sequence[Projection]) -> None:
        names = [projection.name for projection in projections]
        if len(set(names)) != len(names):
            raise ValueError("two projections have the same name")
        self._statuses = {projection.name: ProjectionStatus(projection, 0) for projection in projections}

    @property
    def statuses(self) -> list[ProjectionStatus]:
        return list(self._statuses.values())

    def load(self, connection: sqlite3.Connection) -> list[Projection]:
        """Read the stored positions; returns the projections that must be rebuilt before they are right."""
        stored = {
            name: (code_version, position, error)
            for name, code_version, position, error in connection.execute(
                "SELECT name, code_version, position, error FROM projection_positions"
            )
        }
        head_seq = connection.execute("SELECT head_seq FROM meta").fetchone()[0]
        stale = []
        for status in self._statuses.values():
            code_version, status.position, status.error = stored.get(status.projection.name, (None, 0, None))
            current = code_version == status.projection.code_version and status.error is None
            if not current or status.position != head_seq or not _tables_are_whole(connection, status.projection):
                status.error = status.error or "it has to be rebuilt"
                stale.append(status.projection)
        return stale

    def apply(self, connection: sqlite3.Connection, groups: Sequence[Sequence[Recorded]]) -> None:
        """Apply the rows of one transaction; ``groups`` are its appends, which a bug tears apart from one another.

        Raises sqlite3.Error only where the storage failed, never for what a projection does.
        """
        rows = [row for group in groups for row in group]
        for status in self._statuses.values():
            if status.error is not None or not rows:
                continue
            error = self._attempt(connection, status, rows)
            if error is not None and len(groups) > 1:
                for group in groups:
                    error = self._attempt(connection, status, group)
                    if error is not None:
                        break
            if error is not None:
                self._stop(connection, status, error)

    def mark(self) -> list[tuple[int, str | None]]:
        """Where all stand; for ``restore`` if the transaction that follows is rolled back."""
        return [(status.position, status.error) for status in self._statuses.values()]

    def restore(self, marked: list[tuple[int, str | None]]) -> None:
        for status, (position, error) in zip(self._statuses.values(), marked, strict=True):
            status.position, status.error = position, error

    def rebuilt(self, name: str, position: int) -> None:
        status = self._statuses[name]
        status.position, status.error = position, None

    def failed(self, name: str, error: str) -> None:
        self._statuses[name].error = error

    def get(self, name: str) -> Projection:
        return self._statuses[name].projection

    def _attempt(
        self, connection: sqlite3.Connection, status: ProjectionStatus, rows: Sequence[Recorded]
    ) -> Exception | None:
        projection = status.projection
        connection.execute("SAVEPOINT projection")
        try:
            projection.apply_all(connection, rows)
        except Exception as error:
            if is_storage_failure(error):
                raise
            connection.execute("ROLLBACK TO projection")
            connection.execute("RELEASE projection")
            return error
        connection.execute(
            "UPDATE projection_positions SET position = ? WHERE name = ?", (rows[-1].seq, projection.name)
        )
        connection.execute("RELEASE projection")
        status.position = rows[-1].seq
        return None

    def _stop(self, connection: sqlite3.Connection, status: ProjectionStatus, error: Exception) -> None:
        status.error = f"{type(error).__name__}: {error}"
        connection.execute(
            "UPDATE projection_positions SET error = ? WHERE name = ?", (status.error, status.projection.name)
        )


def _tables_are_whole(connection: sqlite3.Connection, projection: Projection) -> bool:
    """Whether the tables and indexes are those that the projection makes: another program may have dropped one."""

    def made(where: sqlite3.Connection) -> list[tuple[str, ...]]:
        marks = ",".join("?" * len(projection.tables))
        found = where.execute(
            f"SELECT type, name, sql FROM sqlite_master WHERE tbl_name IN ({marks}) ORDER BY type, name",
            projection.tables,
        )
        return found.fetchall()

    with closing(sqlite3.connect(":memory:")) as fresh:
        projection.create(fresh)
        return made(connection) == made(fresh)


def record_position(connection: sqlite3.Connection, projection: Projection, position: int) -> None:
    """Store that the projection's tables hold everything up to ``position``."""
    connection.execute(
        "INSERT OR REPLACE INTO projection_positions (name, code_version, position, tables, error)"
        " VALUES (?, ?, ?, ?, NULL)",
        (projection.name, projection.code_version, position, json.dumps(projection.tables)),
    )


def recorded_tables(connection: sqlite3.Connection, name: str) -> tuple[str, ...]:
    """The tables that an earlier code version of the projection made."""
    row = connection.execute("SELECT tables FROM projection_positions WHERE name = ?", (name,)).fetchone()
    try:
        return tuple(json.loads(row[0])) if row else ()
    except ValueError:
        # Nothing that a projection wrote; the tables that it makes today are known anyway.
        return ()
