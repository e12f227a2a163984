"""Checks rows of the log against their hashes in a process of its own, while another packs the same rows.

Hashing is a third of the work of a large backup, and Python does one thing at a time in a process.
"""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from btmd.errors import Damaged
from btmd.own_program import own_command, own_environment
from btmd.store.connection import connect_reader
from btmd.store.reader import pages
from btmd.store.row_columns import require_hashes

FROM_ROWS = 20_000
"""With fewer, the process takes longer to start than it saves."""


class RowCheck:
    """The check of the rows with ``after < seq <= upto`` of the database at ``path``, under way."""

    def __init__(self, path: Path, after: int, upto: int) -> None:
        self._path, self._after, self._upto = path, after, upto
        self._process = subprocess.Popen(
            own_command(__name__, str(path), str(after), str(upto)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=own_environment(),
        )

    def __enter__(self) -> "RowCheck":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def require_sound(self) -> None:
        """Wait for the end. Raises Damaged for a row that its hash does not fit, and what reading raises."""
        if self._process.wait() != 0:
            # What it met, and whether it met anything at all, is told by looking again.
            check_rows(self._path, self._after, self._upto)


def check_rows(path: Path, after: int, upto: int) -> None:
    """Raises Damaged for the first row that its hash does not fit."""
    with closing(connect_reader(path)) as connection:
        for page in pages(connection, after, upto=upto):
            require_hashes(page)


def main(path: str, after: str, upto: str) -> int:
    try:
        check_rows(Path(path), int(after), int(upto))
    except (Damaged, sqlite3.Error):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
