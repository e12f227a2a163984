"""A power cut at any moment: nothing acknowledged is lost, and a weaker setting would lose it."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.results import Figure, Topic, record
from btmd.errors import BtmdError, Damaged
from btmd.store.connection import connect_writer
from btmd.store.migrations import expected_schema, prepare_database
from btmd.store.reader import read_head
from btmd.store.schema import require_schema
from btmd.store.verification import verify_log, verify_tail
from tests.faults.store_crash_states import CrashState, crash_states, write_state
from tests.faults.store_shim import Change, build_shim, read_changes, shim_environment

ROOT = Path(__file__).parents[2]
PROOF = bool(os.environ.get("BTMD_PROOF"))
STATES = 3000 if PROOF else 300
SEEDS = (1, 2)


def recorded_run(folder: Path, synchronous: str) -> tuple[list[Change], list[str]]:
    """All changes of a run below SQLite, and the acknowledged ids in order."""
    state_folder = folder / "state"
    state_folder.mkdir(parents=True)
    environment = shim_environment(build_shim(folder), prefix=state_folder, log=folder / "changes")
    command = [sys.executable, "-m", "tests.faults.store_worker", "clients", str(state_folder)]
    subprocess.run(
        [*command, "--synchronous", synchronous], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL
    )
    return list(read_changes(folder / "changes")), (state_folder / "acks").read_text().split()


class Inspector:
    """Opens what a power cut left as the store does, and says what is wrong with it."""

    def __init__(self, folder: Path, acknowledged: list[str]) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.lines = [f"{event_id}\n" for event_id in acknowledged]
        self.expected = expected_schema()

    def acknowledged(self, state: CrashState) -> set[str]:
        found: set[str] = set()
        size = 0
        for line in self.lines:
            size += len(line)
            if size > state.acknowledged_bytes:
                break
            found.add(line.strip())
        return found

    def fault(self, state: CrashState) -> str:
        write_state(state, self.folder)
        path = self.folder / "btmd.db"
        try:
            prepare_database(path, clock=lambda: 1, new_id=lambda: "new")
            connection = connect_writer(path)
        except (Damaged, sqlite3.Error) as error:
            return str(error)
        try:
            require_schema(connection, self.expected)
            verify_tail(connection)
            result = verify_log(connection)
            if not result.ok:
                return result.reason
            ids = [row[0] for row in connection.execute("SELECT event_id FROM log")]
            missing = self.acknowledged(state) - set(ids)
            if missing:
                return f"{len(missing)} acknowledged events are missing"
            if len(ids) != len(set(ids)):
                return "an event is there twice"
            head = read_head(connection).seq
            positions = {row[0] for row in connection.execute("SELECT position FROM projection_positions")}
            if head and positions != {head}:
                return f"projections at {positions}, head at {head}"
            trouble = connection.execute("PRAGMA quick_check").fetchone()[0]
            return "" if trouble == "ok" else str(trouble)
        except (BtmdError, sqlite3.Error) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            connection.close()


def faults(folder: Path, synchronous: str, count: int) -> list[str]:
    """What is wrong after ``count`` power cuts during a run with this setting."""
    changes, acknowledged = recorded_run(folder, synchronous)
    inspector = Inspector(folder / "inspected", acknowledged)
    found = []
    for seed in SEEDS:
        for state in crash_states(changes, count // len(SEEDS), seed):
            fault = inspector.fault(state)
            if fault:
                found.append(f"seed {seed}, after change {state.at_change} of {len(changes)}: {fault}")
    return found


def record_proof(folder: Path, full: int) -> None:
    """The long form's figures, with the weaker settings measured beside them."""
    share = {
        synchronous: 100 * len(faults(folder / synchronous, synchronous, STATES // 5)) / (STATES // 5)
        for synchronous in ("NORMAL", "OFF")
    }
    record(
        Topic(
            "Event log: power cuts",
            "BTMD_PROOF=1 pytest tests/faults/test_store_crash_states.py",
            [
                Figure("states in which anything acknowledged was lost or anything was damaged", [full], "", "<= 0", 0),
                Figure("states looked at", [STATES], digits=0),
                Figure("the same with synchronous=NORMAL", [share["NORMAL"]], "% of states", "> 0", 0),
                Figure("the same with synchronous=OFF", [share["OFF"]], "% of states", "> 0", 0),
            ],
            notes=["Unsynced writes dropped, reordered and torn at 512 bytes; recorded below SQLite by LD_PRELOAD."],
        )
    )


def test_nothing_acknowledged_is_lost_in_a_power_cut(tmp_path: Path) -> None:
    found = faults(tmp_path, "FULL", STATES)
    if PROOF:
        record_proof(tmp_path, len(found))
    assert found == []


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_a_weaker_setting_is_caught(tmp_path: Path, synchronous: str) -> None:
    assert faults(tmp_path, synchronous, 60) != []
