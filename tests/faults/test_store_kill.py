"""SIGKILL under concurrent writes: no acknowledged event is missing, none is there twice, the chain is whole."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from benchmarks.results import Figure, Topic, record
from btmd.store.verification import verify_log

ROOT = Path(__file__).parents[2]
PROOF = bool(os.environ.get("BTMD_PROOF"))
KILLS = 100 if PROOF else 10
CLIENTS = 16


def kill_after(folder: Path, run: str, acknowledgements: int) -> list[str]:
    """Let a process append, kill it in the middle of it; the ids it had acknowledged."""
    command = [sys.executable, "-m", "tests.faults.store_worker", "for-ever", str(folder)]
    process = subprocess.Popen(
        [*command, "--run", run, "--clients", str(CLIENTS)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as output:
        told = [output.readline().strip() for _ in range(acknowledgements)]
        process.send_signal(signal.SIGKILL)
        told += [line.strip() for line in output]
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    return told


def unanswered(run: str, told: list[str]) -> list[str]:
    """The ids that the killed clients may have asked for and were not told about: each its next one."""
    newest = {f"{run}-{number}": -1 for number in range(CLIENTS)}
    for event_id in told:
        name, _, number = event_id.rpartition("-")
        if name in newest:
            newest[name] = max(newest[name], int(number))
    return [f"{name}-{number + 1}" for name, number in newest.items()]


def record_proof(acknowledged: int, missing: int, twice: int) -> None:
    record(
        Topic(
            "Event log: kills",
            "BTMD_PROOF=1 pytest tests/faults/test_store_kill.py",
            [
                Figure("SIGKILLs under concurrent writes", [KILLS], digits=0),
                Figure("acknowledged events", [acknowledged], digits=0),
                Figure("acknowledged events missing", [missing], "", "<= 0", 0),
                Figure("events there twice", [twice], "", "<= 0", 0),
            ],
            notes=[f"{CLIENTS} clients; the chain is verified at the end, and unanswered events are sent again."],
        )
    )


def test_killed_again_and_again_nothing_acknowledged_is_missing_and_nothing_is_there_twice(tmp_path: Path) -> None:
    chance = random.Random(7)
    acknowledged: list[str] = []
    unsure: list[str] = []
    for kill in range(KILLS):
        told = kill_after(tmp_path, f"run{kill}", chance.randint(1, 400))
        acknowledged += told
        unsure = [event_id for event_id in unsure if event_id not in told] + unanswered(f"run{kill}", told)
        (tmp_path / "unsure").write_text("\n".join(unsure))
    connection = sqlite3.connect(tmp_path / "btmd.db")
    ids = [row[0] for row in connection.execute("SELECT event_id FROM log ORDER BY seq")]
    result = verify_log(connection)
    connection.close()
    if PROOF:
        record_proof(len(acknowledged), len(set(acknowledged) - set(ids)), len(ids) - len(set(ids)))
    assert result.ok, result
    assert result.checked == len(ids)
    assert len(ids) == len(set(ids))
    assert set(acknowledged) <= set(ids)
    assert set(ids) <= set(acknowledged) | set(unsure)
    assert len(acknowledged) == len(set(acknowledged))
