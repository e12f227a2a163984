"""A running daemon takes away what nothing came of, without a restart, and leaves the rest."""

import time
from pathlib import Path

import pytest

from tests.fixtures.daemon import PATIENCE_S, ThreadedDaemon, config_of, rows
from tests.fixtures.short_folder import short_folder


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_an_upload_that_nothing_came_of_leaves_while_the_daemon_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btmd.registry.content_sweep.SWEEP_EVERY_S", 0.5)
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as daemon:
        client, content = daemon.client, daemon.config.content_dir
        client.add_dataset(rows(20))
        named = files_in(content)
        sent = client.upload(rows(30))
        half = content / "partial" / f"{'0' * 64}.1000"
        half.write_bytes(b"half")
        time.sleep(2)
        assert files_in(content) == {*named, sent, half.name}, "they may still be asked for"
        monkeypatch.setattr("btmd.registry.content_sweep.UPLOAD_KEPT_S", 0)
        end = time.monotonic() + PATIENCE_S
        while files_in(content) != named:
            assert time.monotonic() < end
            time.sleep(0.1)
        client.post("/datasets/facts/check", {}).ok()
