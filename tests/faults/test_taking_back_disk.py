"""A full disk or a read-only folder while the daemon resets, is lifted or falls back: told, and nothing is lost."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from btmd.store.migrations import Migration, prepare_database, released_migrations
from tests.faults.test_backup_disk import read_only, small_disk, wait_until_writable
from tests.faults.test_daemon_disk import fill
from tests.fixtures.daemon import Client, DaemonProcess, ThreadedDaemon, config_of, rows
from tests.fixtures.short_folder import short_folder
from tests.store.given import append, insert_row, opened, refused

ERASE = {"preserve_user_data": False}
NEXT = Migration(len(released_migrations()) + 1, "next", "CREATE TABLE grown (a);\n")


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def prepare(client: Client) -> None:
    client.patch("/settings", {"changes": {"training.seed": 4711, "disk.reserve_gb": 0}}).ok()
    client.add_dataset(rows(20))


def state_of(client: Client) -> tuple[int, int]:
    """The seed, and how many datasets there are."""
    return client.get("/settings/training.seed").ok()["value"], len(client.get("/datasets").ok())


def test_a_reset_on_a_full_disk_is_refused_and_done_with_room_again(folder: Path) -> None:
    state = folder / "state"
    with small_disk(state, "48m"), DaemonProcess(config_of(folder)) as daemon:
        client = daemon.client
        prepare(client)
        fill(state / "ballast")
        for body in (ERASE, {}):
            answer = client.post("/reset", body)
            assert answer.status in (409, 503), answer.body
            assert answer.json["detail"]
            assert state_of(client) == (4711, 1)
        assert client.get("/status").ok()["status"] == "degraded"
        (state / "ballast").unlink()
        wait_until_writable(client)
        client.post("/reset", ERASE).ok()
        assert state_of(client) == (42, 0)
        client.post("/reset/undo").ok()
        assert state_of(client) == (4711, 1)


def test_a_reset_with_read_only_folders_loses_nothing_and_is_finished_by_the_next_start(folder: Path) -> None:
    with ThreadedDaemon(config_of(folder)) as daemon:
        client, config = daemon.client, daemon.config
        prepare(client)
        client.post("/backup").ok()
        with read_only(config.backups_dir):
            answer = client.post("/reset", ERASE)
            assert (answer.status, state_of(client)) == (503, (4711, 1))
        with read_only(config.content_dir):
            client.post("/reset", ERASE).refused(503, "state_read_only")
            assert "factory reset" in client.get("/health").ok()["problems"]
    with ThreadedDaemon(config_of(folder)) as daemon:
        assert state_of(daemon.client) == (42, 0)
        assert not daemon.client.get("/health").ok()["problems"]
        assert not list(config.content_dir.glob("[0-9a-f][0-9a-f]/*"))
        daemon.client.post("/reset/undo").ok()
        assert state_of(daemon.client) == (4711, 1)


async def test_a_migration_without_room_leaves_the_old_version_in_use(folder: Path) -> None:
    with small_disk(folder / "small", "8m"):
        path = folder / "small" / "btmd.db"
        async with opened(folder / "small") as store:
            for _ in range(4):
                await append(store, "s", *(refused("x" * 1000) for _ in range(1000)))
            before = store.head
        prepared = prepare_database(
            path, clock=lambda: 7, new_id=lambda: "x", migrations=(*released_migrations(), NEXT)
        )
        assert prepared.unmigrated is not None
        assert "full" in prepared.unmigrated.reason
        assert {one.name for one in path.parent.iterdir()} == {"btmd.db"}
        async with opened(folder / "small") as store:
            assert store.head == before
            assert (await store.verify()).ok
            await append(store, "s", refused("it takes events"))


def test_falling_back_on_a_full_disk_says_so_and_is_done_with_room_again(folder: Path) -> None:
    state, config = folder / "state", config_of(folder)
    with small_disk(state, "48m"):
        with ThreadedDaemon(config) as daemon:
            prepare(daemon.client)
            wait = daemon.client.get("/health").ok()["store"]["head_seq"]
        data = {"key": "log.level", "before": None, "after": "deafening", "why": "", "change_id": ""}
        insert_row(config.database_path, "settings", "SettingChanged", 1, json.dumps(data))
        fill(state / "ballast")
        command = [sys.executable, "-m", "btmd", "--state-dir", str(state), "--socket", str(config.socket_path)]
        command += ["--config-dir", str(config.config_dir)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 6
        assert "full" in done.stderr
        assert "Traceback" not in done.stderr
        (state / "ballast").unlink()
        with ThreadedDaemon(config) as daemon:
            assert state_of(daemon.client) == (4711, 1)
            types = [event["type"] for event in daemon.client.events(after=wait)]
            assert types.count("FellBack") == 1
        with closing(sqlite3.connect(config.database_path)) as connection:
            assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
