"""A real training's end reaches a program of the user's and the desktop, through a real daemon and a real bus."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fixtures.daemon import PATIENCE_S, QUICK, ROOT_DIR, Client, ThreadedDaemon, config_of, rows
from tests.fixtures.short_folder import short_folder
from tests.fixtures.small_bus import bus_with, needs_bus
from tests.fixtures.tiny_model import make_tiny_llama
from tests.notifications.test_notifying import REPORT

SPEAKER = """#!/bin/sh
shift 2
printf '%s\\n' "$*" >> "$SPOKEN"
"""


@contextmanager
def _notify(folder: Path, address: str) -> Iterator[None]:
    environment = os.environ | {
        "DBUS_SESSION_BUS_ADDRESS": address,
        "XDG_STATE_HOME": str(folder / "own"),
        "BTMD_SOCKET": str(folder / "sock"),
        "SPOKEN": str(folder / "spoken"),
        "PATH": f"{folder}:{os.environ['PATH']}",
    }
    process = subprocess.Popen([sys.executable, "-m", "btmctl", "notify"], env=environment, cwd=ROOT_DIR)
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _wait_for(path: Path) -> str:
    end = time.monotonic() + PATIENCE_S
    while not path.exists() or not path.read_text().endswith("\n"):
        assert time.monotonic() < end
        time.sleep(0.05)
    return path.read_text()


@needs_bus
def test_the_end_of_a_training_is_told_to_a_program_and_on_the_desktop_once() -> None:
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as daemon:
        client = daemon.client
        (folder / "report.py").write_text(REPORT)
        (folder / "spd-say").write_text(SPEAKER)
        (folder / "spd-say").chmod(0o700)
        command = f"{sys.executable} {folder}/report.py {folder}/heard"
        client.patch("/settings", {"changes": QUICK | {"notify.command": command, "notify.speech": True}}).ok()
        client.add_model(make_tiny_llama(folder / "tiny"))
        client.add_dataset(rows())
        with bus_with("notifications", folder) as bus:
            with _notify(folder, bus.address):
                _wait_for_positions(folder)
                job_id = client.start(name="<first>", overrides={"max_steps": 2, "sample_answers": 0})
                client.wait_until(job_id, "completed")
                (shown,) = bus.wait(1)
                assert _wait_for(folder / "spoken") == "The training <first> is done\n"
            told = json.loads(_wait_for(folder / "heard"))
            assert (told["BTMD_JOB_ID"], told["BTMD_EVENT"]) == (job_id, "finished")
            summary = client.get(f"/result/{job_id}").ok()["performance_summary"]
            assert told["BTMD_TEXT"] == summary
            # Texts are markup on a desktop.
            assert shown["title"] == "The training <first> is done"
            assert shown["text"] == summary.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            assert shown["urgency"] == 1
            # Started again, it knows what it has told.
            with _notify(folder, bus.address):
                time.sleep(1)
            assert len(bus.asked()) == 1
            assert len((folder / "heard").read_text().splitlines()) == 1
        assert client.get("/status").ok()["problems"] == {}
        _makes_room(folder, client, job_id)


def _makes_room(folder: Path, client: Client, job_id: str) -> None:
    """What the training left is shown, cleaned and deleted, as a person would do it."""
    found = client.get("/disk").ok()
    (shown,) = found["jobs"]
    assert (shown["job_id"], shown["state"]) == (job_id, "completed")
    assert shown["total_bytes"] >= shown["checkpoints_bytes"] + shown["result_bytes"] > 0
    assert found["jobs_bytes"] == shown["total_bytes"]
    assert {one["dataset_id"] for one in found["datasets"]} == {"facts"}
    assert {one["name"] for one in found["parts"]} >= {"event log", "backups", "caches"}
    caches = [one for one in found["removable"] if one["kind"] == "caches"]
    assert caches[0]["size_bytes"] > 0
    assert _btmctl(folder, "disk").returncode == 0
    # Without a terminal nothing is removed unasked.
    assert _btmctl(folder, "disk", "clean").returncode == 6
    assert _btmctl(folder, "disk", "clean", "--only", "nothing").returncode == 2
    cleaned = _btmctl(folder, "disk", "clean", "--only", "caches,left-overs", "--yes", "--json")
    assert json.loads(cleaned.stdout)["freed_bytes"] >= caches[0]["size_bytes"]
    assert list((folder / "state" / "cache").iterdir()) == []
    assert _btmctl(folder, "jobs", "delete", "last").returncode == 6
    deleted = _btmctl(folder, "jobs", "delete", "last", "--yes")
    assert "was deleted" in deleted.stderr, deleted.stderr
    assert client.get("/jobs").ok() == []
    client.get(f"/jobs/{job_id}").refused(404, "job_not_found")
    assert not (folder / "state" / "jobs" / job_id).exists()
    assert client.events(stream=f"job-{job_id}")[-1]["type"] == "JobDeleted"


def _btmctl(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"BTMD_SOCKET": str(folder / "sock")}
    command = [sys.executable, "-m", "btmctl", *arguments]
    return subprocess.run(
        command, env=environment, cwd=ROOT_DIR, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200
    )


def _wait_for_positions(folder: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while not (folder / "own" / "btmd-notify" / "positions.json").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
