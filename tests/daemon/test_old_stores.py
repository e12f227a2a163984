"""Stores of other releases: an earlier one opens with all of its history, a later one is refused untouched."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from btmd.store.connection import connect_reader
from btmd.store.migrations import Migration, expected_schema, released_migrations
from btmd.store.schema import schema_hash, table_names
from btmd.store.verification import verify_log
from tests.fixtures.daemon import ROOT_DIR, Client, DaemonProcess, ThreadedDaemon, config_of
from tests.fixtures.short_folder import short_folder

DUMPS = sorted((ROOT_DIR / "tests" / "fixtures" / "old_stores").glob("*.sql"))
NEXT = "ALTER TABLE events ADD COLUMN remark TEXT;\nCREATE TABLE remarks (text TEXT NOT NULL);\n"

Rows = list[tuple[object, ...]]


@pytest.fixture(params=DUMPS, ids=lambda path: path.stem)
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A daemon's folder with the database that an earlier release left."""
    with short_folder() as path:
        (path / "state").mkdir(mode=0o700)
        with closing(sqlite3.connect(path / "state" / "btmd.db", isolation_level=None)) as connection:
            connection.executescript(request.param.read_text())
            connection.execute("PRAGMA journal_mode=WAL")
        yield path


def log_of(folder: Path) -> Rows:
    with closing(connect_reader(folder / "state" / "btmd.db")) as reader:
        assert verify_log(reader).ok
        return reader.execute("SELECT * FROM log ORDER BY seq").fetchall()


def require_history(client: Client) -> None:
    """What the release of before knew is known now."""
    settings = {one["key"]: one["value"] for one in client.get("/settings").ok()}
    assert (settings["training.seed"], settings["checkpoints.keep"]) == (4711, 5)
    assert [one["name"] for one in client.get("/models").ok()] == ["tiny"]
    assert [one["name"] for one in client.get("/datasets").ok()] == ["facts"]
    jobs = client.get("/jobs").ok()
    assert {job["state"] for job in jobs} == {"completed", "cancelled"}
    done = next(job for job in jobs if job["state"] == "completed")
    assert client.ticks(done["job_id"])
    # Changes from before there was a history of them are in it.
    assert "checkpoints.keep" in [one["changes"][0]["key"] for one in client.get("/history").ok()]


def release_with(folder: Path, sql: str) -> tuple[Path, tuple[Migration, ...]]:
    """A folder with a package ``migrations`` of a release that has one more, and all of them."""
    package = folder / "release" / "migrations"
    shutil.copytree(ROOT_DIR / "migrations", package)
    released = released_migrations()
    number = len(released) + 1
    (package / f"{number:04}_next.sql").write_text(sql)
    return package.parent, (*released, Migration(number, "next", sql))


def test_a_store_of_an_earlier_release_opens_with_all_of_its_history(folder: Path) -> None:
    before = log_of(folder)
    with ThreadedDaemon(config_of(folder)) as daemon:
        require_history(daemon.client)
        daemon.client.patch("/settings", {"changes": {"training.seed": 12}}).ok()
        undone = daemon.client.post("/restores", {"seq": before[-1][0], "only": ["settings"]}).ok()
        assert undone["changes"]
        require_history(daemon.client)
        assert daemon.client.get("/health").ok()["status"] == "operational"
    assert log_of(folder)[: len(before)] == before


def test_it_is_lifted_after_a_backup_and_has_the_tables_of_a_new_one(folder: Path) -> None:
    before = log_of(folder)
    release, migrations = release_with(folder, NEXT)
    with DaemonProcess(config_of(folder), modules=release) as daemon:
        require_history(daemon.client)
        (backup,) = daemon.client.get("/backups").ok()
        assert (backup["cause"], backup["events"]) == ("migration", len(before))
        assert backup["verified_at"]
        assert not daemon.client.get("/health").ok()["problems"]
    assert log_of(folder)[: len(before)] == before
    with (
        closing(sqlite3.connect(folder / "state" / "btmd.db")) as lifted,
        closing(expected_schema(migrations)) as fresh,
    ):
        tables = table_names(fresh)
        assert schema_hash(lifted, tables) == schema_hash(fresh, tables)
        assert lifted.execute("PRAGMA user_version").fetchone() == (len(migrations),)


def test_a_store_of_a_later_release_is_refused_and_not_a_byte_of_it_changes(folder: Path) -> None:
    release, _ = release_with(folder, NEXT)
    config = config_of(folder)
    with DaemonProcess(config, modules=release) as daemon:
        require_history(daemon.client)
    names = ("btmd.db", "btmd.db-wal", "btmd.db-shm", "btmd.db.v1")

    def look() -> dict[str, bytes]:
        found = [path for path in config.state_dir.rglob("*") if path.is_file() and path != config.lock_path]
        assert any(path.name in names for path in found)
        return {str(path): path.read_bytes() for path in found}

    there = look()
    command = [sys.executable, "-m", "btmd", "--state-dir", str(config.state_dir), "--socket", str(config.socket_path)]
    done = subprocess.run(
        [*command, "--config-dir", str(config.config_dir)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 6
    assert done.stderr.splitlines()[0] == "btmd: The database was written by a newer btmd."
    assert "newer btmd" in done.stderr.splitlines()[2]
    assert look() == there
