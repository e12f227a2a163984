"""What does not work is told, and the rest goes on: settings that have no folder, views that were damaged meanwhile."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.fixtures.daemon import PATIENCE_S, Client, ThreadedDaemon, config_of
from tests.fixtures.short_folder import short_folder


def _until(found: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return value


def _drop(path: Path, *tables: str) -> None:
    with closing(sqlite3.connect(path, timeout=60)) as connection:
        for table in tables:
            connection.execute(f"DROP TABLE {table}")
        connection.commit()


def _answers(client: Client, path: str) -> bool:
    answer = client.get(path)
    assert answer.status in (200, 503), answer.body
    if answer.status == 503:
        answer.refused(503, "view_wrong")
    return answer.status == 200


def test_a_daemon_without_a_folder_for_settings_and_with_damaged_views_stays_up_and_says_so() -> None:
    with short_folder() as folder:
        config = config_of(folder)
        config.config_dir.write_text("not a folder")
        with ThreadedDaemon(config) as daemon:
            client = daemon.client
            assert "cannot be used" in _until(lambda: client.get("/status").ok()["problems"].get("settings file"))
            assert client.get("/status").ok()["status"] == "degraded"
            # Settings themselves work, only their file does not.
            client.patch("/settings", {"changes": {"training.seed": 7}}).ok()
            _drop(config.database_path, "view_jobs", "view_settings", "view_warnings")
            for path in ("/status", "/jobs"):
                _until(lambda path=path: _answers(client, path))
            # What reads the views in the background stumbles too, and is begun again.
            client.patch("/settings", {"changes": {"training.seed": 8}}).ok()
            _until(lambda: not any(name.startswith("part") for name in client.get("/status").ok()["problems"]))
            told = [one["data"] for one in client.events() if one["type"] == "FellBack"]
            assert told[0]["cause"] == "views"
            assert client.get("/settings/training.seed").ok()["value"] == 8
            projections = client.get("/health").ok()["store"]["projections"]
            assert [one["error"] for one in projections if one["error"]] == []
