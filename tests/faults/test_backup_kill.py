"""SIGKILL while backups are made, pruned, rotated, recovered and restored: before or after, and no backup is lost."""

import asyncio
import os
import random
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from benchmarks.results import Figure, Topic, record
from btmd.backup import key_ring
from btmd.command_handler import CommandHandler
from btmd.domain.commands import DECIDERS
from btmd.domain.restore import Manner
from btmd.history import History
from btmd.projections.views import ALL_PROJECTIONS
from btmd.registry.content import ContentStore
from btmd.registry.contents_in_use import ContentsInUse
from btmd.restoring.restore import Restoring
from btmd.store.connection import connect_reader
from btmd.store.event_log import Store
from btmd.store.verification import verify_log
from tests.backup.crashing import DONE, KILLED, Operation, Outcome, back_up, fresh, in_child, prune, rebuild, rotate
from tests.backup.logs import ACTOR, NOW_US, Place, all_rows, append
from tests.fixtures.daemon import Client, DaemonProcess, config_of
from tests.fixtures.short_folder import short_folder

PROOF = os.environ.get("BTMD_PROOF") == "1"
KILLS = 100 if PROOF else 4
DAEMON_KILLS = 10 if PROOF else 1
NAMES: dict[str, Operation] = {"backup": back_up, "prune": prune, "rotation": rotate, "recovery": rebuild}
THEN_SEQ = 100
"""The event that restores go back to."""


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Four backups, and something new to back up."""
    monkeypatch.setattr(key_ring, "ARGON2_MEMORY_KIB", 64)
    place = Place(tmp_path / "prepared")
    append(place.database, 240, seed=1)
    for seed in range(2, 6):
        place.backup()
        append(place.database, 10, seed=seed)
    return place


def restore(place: Place) -> None:
    asyncio.run(_restore(place))


async def _restore(place: Place) -> None:
    store = await Store.open(
        place.database,
        clock=lambda: NOW_US + 10**12,
        boot_id=f"{9:032x}",
        new_id=lambda: secrets.token_hex(16),
        projections=ALL_PROJECTIONS,
    )
    try:
        handler, history = CommandHandler(store, DECIDERS), History(store, lambda: NOW_US + 10**12)
        contents = ContentStore(place.state / "content")
        restoring = Restoring(
            store, handler, history, contents, ContentsInUse(store, contents), lambda: secrets.token_hex(16)
        )
        await restoring.restore(THEN_SEQ, Manner(), actor=ACTOR)
    finally:
        await store.close()


class WholeRestore:
    """What was in the log before a restore, to compare with what is there after a kill."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.before = [row.row() for row in all_rows(place.database)]

    def require_before_or_after(self) -> bool:
        """All of the restore is in the log or nothing of it, and nothing else is changed; whether it was done."""
        connection = connect_reader(self.place.database)
        try:
            assert verify_log(connection).ok
        finally:
            connection.close()
        rows = all_rows(self.place.database)
        assert [row.row() for row in rows[: len(self.before)]] == self.before
        added = [row for row in rows[len(self.before) :] if row.stream != "machine"]
        if not added:
            return False
        assert (added[0].type, added[-1].type) == ("RestoreStarted", "RestoreCompleted")
        assert len({row.correlation_id for row in added}) == 1
        assert sum(row.type != "RestoreStarted" for row in added) - 1 == sum(added[-1].data["changed"].values())
        return True


def seconds_of(operation: Operation, place: Place) -> float:
    """How long it takes by itself."""
    began_ns = time.monotonic_ns()
    assert in_child(operation, place, lambda: None) == DONE
    return (time.monotonic_ns() - began_ns) / 1e9


def kill_again_and_again(
    operation: Operation, prepared: Place, root: Path, require: Callable[[Place], Callable[[], bool]]
) -> tuple[int, int]:
    """Kill it at random moments, and let it run to its end after each; how often it was killed, and was done then."""
    drawn = random.Random(7)
    duration_s = min(seconds_of(operation, fresh(prepared, root / f"measured{number}")) for number in range(3))
    killed = done = 0
    for number in range(5 * KILLS):
        if killed == KILLS:
            break
        place = fresh(prepared, root / str(number))
        check = require(place)
        ended = in_child(operation, place, lambda: None, kill_after_s=drawn.uniform(0, 1.3 * duration_s))
        assert ended in (KILLED, DONE)
        killed += ended == KILLED
        done += check()
        # The next one finds nothing in its way.
        assert in_child(operation, place, lambda: None) == DONE
        check()
        shutil.rmtree(place.state.parent)
    return killed, done


def test_killed_at_random_moments(prepared: Place, tmp_path: Path) -> None:
    counted: dict[str, tuple[int, int]] = {}
    for name, operation in NAMES.items():

        def require(place: Place, operation: Operation = operation) -> Callable[[], bool]:
            outcome = Outcome(place)
            return lambda: outcome.require_before_or_after(operation)

        counted[name] = kill_again_and_again(operation, prepared, tmp_path / name, require)
    counted["restore"] = kill_again_and_again(
        restore, prepared, tmp_path / "restore", lambda place: WholeRestore(place).require_before_or_after
    )
    if PROOF:
        record_kills(counted)
    assert all(killed == KILLS for killed, _ in counted.values()), counted


def record_kills(counted: dict[str, tuple[int, int]]) -> None:
    figures = []
    for name, (killed, done) in counted.items():
        figures.append(Figure(f"{name}: SIGKILLs before its end", [killed], "", ">= 100", 0))
        figures.append(Figure(f"{name}: found done after one, or faster", [done], digits=0))
    figures.append(Figure("states between before and after", [0], "", "<= 0", 0))
    figures.append(Figure("backups lost or unreadable", [0], "", "<= 0", 0))
    notes = [
        "Each ended at random moments of its duration, and repeated until so many were killed before their end.",
        "After each, every backup is read through, the log's chain walked, the keys opened, and the operation run.",
    ]
    record(Topic("Backups: kills", "make proof-backup-faults", figures, notes=notes))


# --- the daemon and its child together ---------------------------------------------------------------


def seed(client: Client) -> int:
    return int(client.get("/settings/training.seed").ok()["value"])


@pytest.mark.parametrize("what", ["restore", "backup", "prune", "rotation", "drill"])
def test_a_daemon_that_is_killed_meanwhile_starts_on_a_whole_state(what: str) -> None:
    if not PROOF and what != "restore":
        pytest.skip("long: a daemon for each operation")
    drawn = random.Random(11)
    with short_folder() as folder, DaemonProcess(config_of(folder)) as daemon:
        client = daemon.client
        values = {"training.seed": 1, "backup.every_hours": 0, "backup.drill_every_days": 0}
        client.patch("/settings", {"changes": {**values, "backup.keep_last": 2}}).ok()
        wanted = client.post("/backup", {"description": "wanted"}).ok()["backup_id"]
        for kill in range(DAEMON_KILLS):
            client.patch("/settings", {"changes": {"training.seed": 100 + kill}}).ok()
            newest = client.post("/backup").ok()["backup_id"]
            known = {one["backup_id"] for one in listed(client)}
            kill_during(daemon, what, wanted, drawn.uniform(0, 0.8))
            daemon.start()
            assert client.get("/audit/verification").ok()["verdict"] == "ok"
            assert seed(client) in ((1, 100 + kill) if what == "restore" else (100 + kill,))
            now = {one["backup_id"] for one in listed(client)}
            assert ({newest} if what == "prune" else known) <= now
            checks = client.post("/backups/verify").ok()["backups"]
            assert all(one["ok"] for one in checks), checks
            again = client.post("/backup").ok()
            assert client.post(f"/backups/{again['backup_id']}/drill").ok()["proved"]


def listed(client: Client) -> list[dict[str, object]]:
    return list(client.get("/backups").ok())


def kill_during(daemon: DaemonProcess, what: str, wanted: str, after_s: float) -> None:
    path, body = {
        "restore": ("/restores", {"backup_id": wanted}),
        "backup": ("/backup", {}),
        "prune": ("/backups/prune", {}),
        "rotation": ("/backup-keys/rotate", {}),
        "drill": ("/backups/last/drill", {}),
    }[what]

    def ask() -> None:
        # The answer is cut off with the daemon.
        with suppress(OSError, HTTPException):
            daemon.client.post(path, body)

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(after_s)
    daemon.kill()
    asking.join()
