"""Rebuilds a projection aside: in a file of its own, page by page, and copied in at the end.

What was there stays readable meanwhile, and the writer is held only for the last page and the copy.
"""

import os
import sqlite3
from pathlib import Path

from btmd.projections.engine import Projection, ProjectionEngine, record_position, recorded_tables
from btmd.store.reader import pages, read_head

CLOSE_ENOUGH_ROWS = 500


class Rebuild:
    """One rebuild: ``follow`` as often as wanted on any reader, then ``finish`` on the writer's connection."""

    def __init__(self, projection: Projection, folder: Path) -> None:
        self.projection = projection
        self.position = 0
        self._path = folder / f"rebuild-{projection.name}.db"
        self._path.unlink(missing_ok=True)
        os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
        self._aside = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        # Nothing of it outlives a crash: it is made again from the log.
        self._aside.execute("PRAGMA journal_mode=OFF")
        self._aside.execute("PRAGMA synchronous=OFF")
        projection.create(self._aside)

    def follow(self, reader: sqlite3.Connection) -> None:
        """Apply the log until fewer than ``CLOSE_ENOUGH_ROWS`` rows are left. Raises whatever the projection raises."""
        while read_head(reader).seq - self.position >= CLOSE_ENOUGH_ROWS:
            self._catch_up(reader)

    def finish(self, writer: sqlite3.Connection) -> int:
        """The last rows, then the swap in one transaction; returns the position. Runs where nobody else appends."""
        self._catch_up(writer)
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

    def abandon(self) -> None:
        self._aside.close()
        self._path.unlink(missing_ok=True)

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        for page in pages(connection, self.position):
            self._aside.execute("BEGIN")
            for row in page:
                self.projection.apply(self._aside, row)
            self._aside.execute("COMMIT")
            self.position = page[-1].seq


def rebuild_now(engine: ProjectionEngine, projection: Projection, writer: sqlite3.Connection, folder: Path) -> None:
    """Rebuild before the writer's thread runs; a projection that cannot be is reported and blocks nobody."""
    rebuild: Rebuild | None = None
    try:
        rebuild = Rebuild(projection, folder)
        engine.rebuilt(projection.name, rebuild.finish(writer))
    except Exception as error:  # noqa: BLE001 - whatever a projection raises, the store opens without it
        engine.failed(projection.name, f"{type(error).__name__}: {error}")
        if rebuild is not None:
            rebuild.abandon()
