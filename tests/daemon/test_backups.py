"""A daemon's own process and its backups."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.daemon import DaemonProcess, config_of
from tests.fixtures.short_folder import short_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def test_neither_keys_nor_their_library_come_into_the_daemons_memory(folder: Path) -> None:
    with DaemonProcess(config_of(folder)) as daemon:
        assert daemon.process is not None
        made = daemon.client.post("/backup").ok()
        assert daemon.client.post("/backups/last/drill").ok()["proved"]
        assert daemon.client.get("/backups").ok()[0]["backup_id"] == made["backup_id"]
        loaded = Path(f"/proc/{daemon.process.pid}/maps").read_text()
        assert "sqlite" in loaded
        assert "cryptography" not in loaded
        for path in daemon.config.state_dir.rglob("*"):
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_restarted_daemon_knows_its_backups_and_their_proofs(folder: Path) -> None:
    with DaemonProcess(config_of(folder)) as daemon:
        daemon.client.post("/backup", {"description": "kept"}).ok()
        daemon.client.post("/backups/last/drill").ok()
        before = daemon.client.get("/backups").ok()
        daemon.kill()
        daemon.start()
        assert daemon.client.get("/backups").ok() == before
        assert daemon.client.get("/status").ok()["last_proved_restore_at"]
