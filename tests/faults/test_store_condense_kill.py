"""SIGKILL while ticks are condensed: each slice is condensed or it is not, and every tick stays in the log once."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from benchmarks.results import Figure, Topic, record
from btmd.store.reader import pages
from btmd.store.verification import verify_log

ROOT = Path(__file__).parents[2]
PROOF = bool(os.environ.get("BTMD_PROOF"))
KILLS = 100 if PROOF else 6


def kill_after(folder: Path, run: str, lines: int) -> list[str]:
    """Let a process append and condense, kill it in the middle of it; the ids that it had acknowledged."""
    command = [sys.executable, "-m", "tests.faults.store_worker", "condense", str(folder), "--run", run]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as output:
        told = [output.readline().strip() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        told += [line.strip() for line in output]
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    return [line for line in told if line != "condensed"]


def half_done(connection: sqlite3.Connection) -> list[int]:
    """Segments whose rows still stand as rows, and announcements without a segment."""
    both = connection.execute(
        "SELECT first_seq FROM segments WHERE EXISTS (SELECT 1 FROM ticks WHERE seq BETWEEN first_seq AND last_seq)"
    ).fetchall()
    alone = connection.execute(
        "SELECT seq FROM events WHERE type = 'TicksCondensed' AND seq NOT IN (SELECT event_seq FROM segments)"
    ).fetchall()
    return [row[0] for row in (*both, *alone)]


def test_killed_again_and_again_a_slice_is_condensed_or_it_is_not(tmp_path: Path) -> None:
    chance = random.Random(11)
    acknowledged: list[str] = []
    found_half_done = 0
    for kill in range(KILLS):
        acknowledged += kill_after(tmp_path, f"run{kill}", chance.randint(20, 600))
        # Before anything is opened for writing, as the crash left it.
        with closing(sqlite3.connect(tmp_path / "btmd.db")) as connection:
            found_half_done += len(half_done(connection))
    with closing(sqlite3.connect(tmp_path / "btmd.db")) as connection:
        ids = [row.event_id for page in pages(connection) for row in page if row.stream.startswith("ticks-")]
        segments = connection.execute("SELECT count(*) FROM segments").fetchone()[0]
        result = verify_log(connection)
    missing, twice = set(acknowledged) - set(ids), len(ids) - len(set(ids))
    if PROOF:
        record(
            Topic(
                "Event log: kills while ticks are condensed",
                "BTMD_PROOF=1 pytest tests/faults/test_store_condense_kill.py",
                [
                    Figure("SIGKILLs at random moments", [KILLS], digits=0),
                    Figure("segments made", [segments], digits=0),
                    Figure("segments found half done", [found_half_done], "", "<= 0", 0),
                    Figure("acknowledged ticks", [len(acknowledged)], digits=0),
                    Figure("acknowledged ticks missing", [len(missing)], "", "<= 0", 0),
                    Figure("ticks there twice", [twice], "", "<= 0", 0),
                ],
            )
        )
    assert result.ok, result
    assert segments > KILLS
    assert (found_half_done, missing, twice) == (0, set(), 0)
