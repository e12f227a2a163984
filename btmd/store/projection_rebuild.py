"""Rebuilds projections aside: each in a file of its own, all in one pass over the log, and copied in at the end.

What was there stays readable meanwhile, and the writer is held only for the last page and the copy. A projection that
raises drops out and stops none of the others.
"""

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from btmd.store.projection_engine import Projection, ProjectionEngine, record_position, recorded_tables
from btmd.store.reader import pages, read_head
from btmd.store.recorded import Recorded

CLOSE_ENOUGH_ROWS = 500


class Rebuild:
    """One projection's rebuild: fed by :func:`follow`, ended by ``finish``; ``error`` says why it was given up."""

    def __init__(self, projection: Projection, folder: Path) -> None:
        self.projection = projection
        self.position = 0
        self.error: str | None = None
        self._path = folder / f"rebuild-{projection.name}.db"
        self._aside: sqlite3.Connection | None = None
        try:
            self._aside = self._new_file()
            projection.create(self._aside)
        except Exception as error:  # noqa: BLE001 - whatever a projection raises, the others go on
            self.fail(error)

    def _new_file(self) -> sqlite3.Connection:
        self._path.unlink(missing_ok=True)
        os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        # Nothing of it outlives a crash: it is made again from the log.
        connection.execute("PRAGMA journal_mode=OFF").fetchone()
        connection.execute("PRAGMA synchronous=OFF")
        return connection

    def take(self, page: Sequence[Recorded]) -> None:
        """Apply the next rows of the log. Raises whatever the projection raises."""
        connection = self._aside
        assert connection is not None
        connection.execute("BEGIN")
        self.projection.apply_all(connection, page)
        connection.execute("COMMIT")
        self.position = page[-1].seq

    def finish(self, writer: sqlite3.Connection) -> int:
        """The last rows, then the swap in one transaction; returns the position. Runs where nobody else appends."""
        for page in pages(writer, self.position):
            self.take(page)
        assert self._aside is not None
        self._aside.close()
        old_tables = dict.fromkeys((*recorded_tables(writer, self.projection.name), *self.projection.tables))
        writer.execute("ATTACH DATABASE ? AS aside", (str(self._path),))
        try:
            writer.execute("BEGIN IMMEDIATE")
            try:
                for table in reversed(old_tables):
                    writer.execute(f'DROP TABLE IF EXISTS main."{table}"')
                self.projection.create(writer)
                for table in self.projection.tables:
                    writer.execute(f'INSERT INTO main."{table}" SELECT * FROM aside."{table}"')
                record_position(writer, self.projection, self.position)
                writer.execute("COMMIT")
            except BaseException:
                if writer.in_transaction:
                    writer.execute("ROLLBACK")
                raise
        finally:
            writer.execute("DETACH DATABASE aside")
            self._path.unlink(missing_ok=True)
        return self.position

    def fail(self, error: Exception) -> None:
        """Leave the projection as it was; ``error`` says why."""
        self.error = f"{type(error).__name__}: {error}"
        if self._aside is not None:
            self._aside.close()
        self._path.unlink(missing_ok=True)


def follow(rebuilds: Sequence[Rebuild], reader: sqlite3.Connection, *, close_enough: int = CLOSE_ENOUGH_ROWS) -> None:
    """Feed all of them from the beginning, in one pass, until fewer rows than ``close_enough`` are left."""
    position = 0
    while read_head(reader).seq - position >= close_enough:
        for page in pages(reader, position):
            running = [one for one in rebuilds if one.error is None]
            if not running:
                return
            for one in running:
                try:
                    one.take(page)
                except Exception as error:  # noqa: BLE001 - whatever a projection raises, the others go on
                    one.fail(error)
            position = page[-1].seq


def rebuild_now(
    engine: ProjectionEngine, projections: Sequence[Projection], writer: sqlite3.Connection, folder: Path
) -> None:
    """Rebuild before the writer's thread runs; a projection that cannot be is reported and blocks nobody."""
    rebuilds = [Rebuild(projection, folder) for projection in projections]
    follow(rebuilds, writer, close_enough=1)
    for one in rebuilds:
        if one.error is None:
            try:
                engine.rebuilt(one.projection.name, one.finish(writer))
            except Exception as error:  # noqa: BLE001 - whatever a projection raises, the store opens without it
                one.fail(error)
        if one.error is not None:
            engine.failed(one.projection.name, one.error)
