"""The audit without a daemon: the database read by the command itself, compared with what backups and journal know."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from btmd.backup.repository import Repository
from btmd.store.recorded import row_hash
from tests.backup.logs import DECIDERS, Place, append

ROOT = Path(__file__).parents[2]
Change = Callable[[sqlite3.Connection], None]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A state folder with 120 events; the backups lie where the daemon keeps them."""
    place = Place(tmp_path)
    append(place.database, 120, seed=1)
    place.repository = Repository(place.state / "backups", DECIDERS)
    return place


def verify(place: Place, *options: str, journal: str = "") -> tuple[int, dict[str, Any]]:
    """``btmctl audit verify`` with a journal that holds these lines."""
    program = place.state.parent / "bin" / "journalctl"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{journal}\nEND\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "BTMD_STATE_DIR": str(place.state)}
    environment.pop("BTMD_SOCKET", None)
    finished = subprocess.run(
        [sys.executable, "-m", "btmctl", "audit", "verify", "--json", *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in finished.stderr
    return finished.returncode, json.loads(finished.stdout or "{}")


def behind(path: Path, change: Change) -> None:
    """Change the log as somebody would who takes the triggers away and puts them back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        change(connection)
        for _, sql in triggers:
            connection.execute(sql)


def cut_off_after(seq: int) -> Change:
    """Delete the tail and move the stored head back: inside the file everything fits."""

    def change(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM events WHERE seq > ?", (seq,))
        connection.execute("DELETE FROM ticks WHERE seq > ?", (seq,))
        connection.execute(
            "UPDATE meta SET (head_seq, head_hash, head_recorded_at) ="
            " (SELECT seq, hash, recorded_at FROM log WHERE seq = ?)",
            (seq,),
        )

    return change


def rewritten_from(seq: int) -> Change:
    """Change a row and chain everything after it anew."""

    def change(connection: sqlite3.Connection) -> None:
        rows = connection.execute("SELECT * FROM log WHERE seq >= ? ORDER BY seq", (seq,)).fetchall()
        digest = rows[0][14]
        for number, values in enumerate(rows):
            boot_id = "somebody else's" if number == 0 else values[9]
            before, digest = digest, row_hash(digest, (*values[:9], boot_id, *values[10:14]))
            for table in ("events", "ticks"):
                connection.execute(
                    f"UPDATE {table} SET boot_id = ?, prev_hash = ?, hash = ? WHERE seq = ?",
                    (boot_id, before, digest, values[0]),
                )
        connection.execute("UPDATE meta SET head_hash = ?", (digest,))

    return change


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


def test_a_whole_log_is_verified_without_a_daemon_and_nothing_is_written(place: Place) -> None:
    made = place.backup()
    before = files(place.state)
    for options in ((), ("--offline",)):
        code, found = verify(place, *options)
        assert (code, found["verdict"], found["checked"], found["head_seq"]) == (0, "ok", 120, 120)
        (compared,) = found["compared"]
        assert (compared["event"], compared["result"]) == (120, "same")
        assert made.name[:16] in compared["source"]
    assert files(place.state) == before


def test_the_first_bad_event_is_named(place: Place) -> None:
    def changed(connection: sqlite3.Connection) -> None:
        for table in ("events", "ticks"):
            connection.execute(f"UPDATE {table} SET boot_id = 'x' WHERE seq = 41")

    behind(place.database, changed)
    code, found = verify(place, "--offline")
    assert (code, found["verdict"], found["first_bad"], found["checked"]) == (9, "tampered", 41, 40)


def test_a_tail_that_is_missing_is_noticed_by_the_backup_that_knows_of_it(place: Place) -> None:
    place.backup()
    behind(place.database, cut_off_after(100))
    code, found = verify(place, "--offline")
    assert (code, found["verdict"], found["first_bad"], found["checked"]) == (9, "tampered", 101, 100)
    assert "event 120" in found["reason"]
    (place.state / "keys" / "ring").unlink()
    assert verify(place, "--offline")[1]["first_bad"] == 101, "how far the log went is told without a key"


def test_a_log_that_was_rewritten_as_a_whole_is_noticed(place: Place) -> None:
    place.backup()
    append(place.database, 20, seed=2)
    behind(place.database, rewritten_from(50))
    code, found = verify(place, "--offline")
    assert (code, found["verdict"], found["checked"]) == (9, "tampered", 140)
    assert "rewritten" in found["reason"]


def test_the_journal_and_a_head_that_was_kept_are_compared(place: Place) -> None:
    _, whole = verify(place, "--offline")
    line = "the event log {} ends with event {} of epoch 1, hash {}".format
    journal = line(whole["store_id"], 120, whole["head_hash"])
    assert verify(place, journal=journal)[0] == 0
    foreign = line("another-store", 120, "0" * 64)
    assert verify(place, journal=foreign)[0] == 0
    changed = line(whole["store_id"], 120, "0" * 64)
    code, found = verify(place, journal=changed)
    assert (code, found["compared"]) == (9, [{"source": "journal", "event": 120, "result": "differs"}])
    assert verify(place, "--offline", "--head", f"1:120:{whole['head_hash']}")[0] == 0
    assert verify(place, "--offline", "--head", f"1:120:{'0' * 64}")[0] == 9
    assert verify(place, "--offline", "--head", f"1:500:{'0' * 64}")[1]["first_bad"] == 121
    assert verify(place, "--offline", "--head", "nonsense")[0] == 2


def test_a_damaged_file_and_a_missing_one_have_their_own_codes(place: Place) -> None:
    data = bytearray(place.database.read_bytes())
    data[4096 * 3 : 4096 * 6] = bytes(4096 * 3)
    place.database.write_bytes(bytes(data))
    assert verify(place, "--offline")[0] == 7
    place.database.unlink()
    assert verify(place, "--offline")[0] not in (0, 7, 9)
