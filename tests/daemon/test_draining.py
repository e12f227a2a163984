"""Stopping with a checkpoint, and what `systemctl status` says meanwhile."""

import json
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from btmd.config import SystemdContext
from btmd.jobs import unit_status
from btmd.notify import Notifier
from tests.fixtures.daemon import PATIENCE_S, QUICK, ThreadedDaemon, config_of, end_trainers, rows, trainer_pid
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

LONG = {"num_epochs": 1000, "max_steps": 20_000, "sample_answers": 0, "eval_every": 0, "save_every": 10_000}


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def test_a_name_cannot_tell_the_service_manager_anything(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "n"))
        manager.settimeout(20)
        Notifier(str(folder / "n")).send(STATUS="mine\nMAINPID=1\r\nSTOPPING=1")
        assert manager.recv(1000) == b"STATUS=mine MAINPID=1 STOPPING=1"


def test_a_stop_saves_the_training_and_has_it_wait_for_the_next_daemon(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_status, "EVERY_S", 0.1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "n"))
        manager.settimeout(PATIENCE_S)
        config = config_of(folder, systemd=SystemdContext(str(folder / "n")))
        with ThreadedDaemon(config) as daemon:
            client = daemon.client
            client.patch("/settings", {"changes": QUICK}).ok()
            client.add_model(make_tiny_llama(folder / "tiny"))
            client.add_dataset(rows())
            job_id = client.start(overrides=LONG, custom_description="bees")
            client.wait_for(job_id, lambda job: job["step"] >= 3)
            trainer = trainer_pid(config.jobs_dir, job_id)
            end = time.monotonic() + PATIENCE_S
            while "over your data" not in (said := manager.recv(4096).decode()):
                assert time.monotonic() < end, said
            assert said.startswith(f"STATUS={job_id}: "), said
            anyio.from_thread.run(daemon.daemon.drain, token=daemon._token)
            assert not Path(f"/proc/{trainer}").exists()
            end_trainers(config.jobs_dir)
    with sqlite3.connect(config.database_path) as database:
        (found,) = database.execute("SELECT state, asked FROM view_jobs").fetchall()
        (saved,) = database.execute("SELECT data FROM events WHERE type = 'JobYielded'").fetchall()
    # Without anybody asking for it, it goes on when a daemon is there again.
    assert found == ("queued", "")
    assert json.loads(saved[0])["step"] >= 3
    assert list((config.jobs_dir / job_id / "checkpoints").iterdir())
