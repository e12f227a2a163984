"""A database of an older version: a proved backup of it stands before it is lifted, or it stays as it is."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from btmd.restoring.before_migration import BackupNeeded
from btmd.store import migrations
from btmd.store.migrations import Migration, released_migrations
from tests.fixtures.daemon import ThreadedDaemon, config_of, rows
from tests.fixtures.short_folder import short_folder

GROWN = Migration(len(released_migrations()) + 1, "grown", "CREATE TABLE remarks (text TEXT NOT NULL);\n")


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this program is one version newer."""
    newer = (*released_migrations(), GROWN)
    monkeypatch.setattr(migrations, "released_migrations", lambda: newer)


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_a_proved_backup_stands_before_the_database_is_lifted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(folder)
    with ThreadedDaemon(config) as daemon:
        daemon.client.patch("/settings", {"changes": {"training.seed": 7}}).ok()
        daemon.client.add_dataset(rows(20))
        head = daemon.client.events()[-1]["seq"]
    grow(monkeypatch)
    with ThreadedDaemon(config) as daemon:
        assert version(config.database_path) == GROWN.number
        (made,) = daemon.client.get("/backups").ok()
        assert (made["cause"], made["kind"], made["fault"]) == ("migration", "full", "")
        assert made["head_seq"] >= head
        assert made["verified_at"]
        shown = daemon.client.get("/backups/last").ok()
        assert {one["what"] for one in shown["omissions"]} == {"contents of datasets"}
        # What was backed up before comes back under the new version.
        daemon.client.patch("/settings", {"changes": {"training.seed": 8}}).ok()
        daemon.client.post("/restore", {"backup_id": "last", "only": ["settings"]}).ok()
        assert daemon.client.get("/settings/training.seed").ok()["value"] == 7
    with ThreadedDaemon(config) as daemon:
        assert len(daemon.client.get("/backups").ok()) == 1, "nothing is to be lifted any more"


@pytest.mark.parametrize(("gone", "named"), [("keys/key", "key file"), ("backups", "cannot be used")])
def test_without_a_backup_the_database_stays_as_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, gone: str, named: str
) -> None:
    config = config_of(folder)
    with ThreadedDaemon(config) as daemon:
        daemon.client.post("/backup").ok()
    grow(monkeypatch)
    before = config.database_path.read_bytes()
    lost = config.state_dir / gone
    lost.rename(folder / "away")
    if gone == "backups":
        lost.write_text("a file stands in the way")
    with pytest.raises(BackupNeeded, match=named) as refused, ThreadedDaemon(config):
        pass
    assert (refused.value.exit_code, "--migrate-without-backup" in refused.value.hint) == (6, True)
    assert config.database_path.read_bytes() == before
    assert version(config.database_path) == GROWN.number - 1
    with ThreadedDaemon(config_of(folder, migrate_without_backup=True)):
        assert version(config.database_path) == GROWN.number
    lost.unlink(missing_ok=True)
    (folder / "away").rename(lost)
    with ThreadedDaemon(config) as daemon:
        assert [one["cause"] for one in daemon.client.get("/backups").ok()] == ["manual"]


def test_a_damaged_backup_of_before_is_not_built_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(folder)
    with ThreadedDaemon(config) as daemon:
        daemon.client.post("/backup").ok()
    for part in (config.backups_dir / "objects").glob("*/*"):
        part.write_bytes(part.read_bytes()[:-1] + b"!")
    grow(monkeypatch)
    with ThreadedDaemon(config) as daemon:
        # The first one built on the damaged part, which was found by reading it through.
        checks = {one["backup_id"]: one["ok"] for one in daemon.client.post("/backups/verify").ok()["backups"]}
        newest = daemon.client.get("/backups").ok()[0]
        assert (newest["cause"], checks[newest["backup_id"]]) == ("migration", True)


def test_an_empty_log_needs_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(folder)
    config.state_dir.mkdir(mode=0o700)
    migrations.prepare_database(config.database_path, clock=lambda: 1, new_id=lambda: "0" * 32)
    grow(monkeypatch)
    with ThreadedDaemon(config) as daemon:
        assert daemon.client.get("/backups").ok() == []
        assert version(config.database_path) == GROWN.number
