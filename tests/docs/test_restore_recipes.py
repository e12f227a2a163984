"""Every recipe of docs/restore.md, run as it is printed, after the accident it is for."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import btmd.daemon
from btmd.config import Config
from tests.docs.place import Place, recipes
from tests.fixtures.daemon import ThreadedDaemon, rows
from tests.fixtures.short_folder import short_folder

TWO_DAYS_US = 2 * 24 * 3600 * 1_000_000


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A home in which somebody has worked with btmd two days ago."""
    with short_folder() as home, pytest.MonkeyPatch.context() as patched:
        now_us = btmd.daemon.clock_us
        patched.setattr(btmd.daemon, "clock_us", lambda: now_us() - TWO_DAYS_US)
        place = Place(home)
        place.socket.parent.mkdir(parents=True, mode=0o700)
        config = Config(state_dir=place.state, config_dir=place.config, socket_path=place.socket, log_level="warning")
        with ThreadedDaemon(config) as daemon:
            daemon.client.patch("/settings", {"changes": {"training.seed": 7, "checkpoints.keep": 3}}).ok()
            daemon.client.add_dataset(rows(20))
            place.btmctl("presets", "create", "mine", "--from", "quick_test", "--set", "num_epochs=2")
        yield home


@pytest.fixture
def place(made: Path) -> Iterator[Place]:
    with short_folder() as home:
        shutil.copytree(made, home, dirs_exist_ok=True, ignore=shutil.ignore_patterns("btmd.sock"))
        place = Place(home)
        place.start()
        yield place
        place.stop()


def change_a_setting(place: Place) -> None:
    place.btmctl("config", "set", "training.seed=8")


def change_several(place: Place) -> None:
    place.btmctl("config", "set", "training.seed=8", "log.level=debug")


def seed_is_back(place: Place) -> None:
    assert (place.setting("training.seed"), place.setting("log.level")) == (7, "info")


def break_the_file(place: Place) -> None:
    (place.config / "settings.toml").write_text("[training]\nseed = -1\n")
    place.wait_for(lambda: place.client.get("/status").ok()["status"] == "degraded")


def file_is_good(place: Place) -> None:
    place.wait_for(lambda: place.client.get("/status").ok()["status"] == "operational")
    assert "seed = 7" in (place.config / "settings.toml").read_text()
    seed_is_back(place)


def save_an_old_copy(place: Place) -> None:
    path = place.config / "settings.toml"
    old = path.read_text()
    place.btmctl("config", "set", "chat.idle_s=5")
    place.wait_for(lambda: path.read_text() != old)
    path.write_text(old)
    place.wait_for(lambda: place.setting("chat.idle_s") != 5)


def newer_value_is_there(place: Place) -> None:
    assert place.setting("chat.idle_s") == 5


def delete_the_preset(place: Place) -> None:
    place.btmctl("presets", "delete", "mine")
    assert "mine" not in place.names("/preset-definitions")


def preset_is_there(place: Place) -> None:
    assert place.client.get("/preset-definitions/mine").ok()["num_epochs"] == 2


def remove_the_dataset(place: Place) -> None:
    place.client.post("/backup", {"with_artefacts": True}).ok()
    place.client.send("DELETE", "/datasets/facts").ok()


def dataset_is_there(place: Place) -> None:
    assert place.names("/datasets") == {"facts"}


def restore_wrongly(place: Place) -> None:
    place.btmctl("config", "set", "log.level=debug")
    place.btmctl("restore", "--seq", "0", "--only", "settings")
    assert place.setting("training.seed") != 7


def settings_are_there(place: Place) -> None:
    assert (place.setting("training.seed"), place.setting("log.level")) == (7, "debug")


def spoil_the_settings(place: Place) -> None:
    place.stop()
    (place.config / "settings.toml").write_text("[training\n")
    place.start()
    place.wait_for(lambda: place.client.get("/status").ok()["status"] == "degraded")


def daemon_says_so(place: Place) -> None:
    assert "settings.toml" in place.said
    seed_is_back(place)


def reset(place: Place) -> None:
    place.btmctl("reset", "--preserve-user-data")
    assert place.setting("training.seed") != 7


def delete_the_database(place: Place) -> None:
    place.btmctl("backup", "create")
    place.stop()
    for path in place.state.glob("btmd.db*"):
        path.unlink()


def all_is_there(place: Place) -> None:
    seed_is_back(place)
    preset_is_there(place)
    dataset_is_there(place)


def lose_the_machine(place: Place) -> None:
    place.typed = recovery_key(place)
    place.btmctl("backup", "create", "--with-artefacts", "--to", str(place.home / "stick"))
    place.stop()
    shutil.rmtree(place.state)
    shutil.rmtree(place.config)


def recovery_key(place: Place) -> str:
    place.btmctl("backup", "create")
    return str(json.loads(place.btmctl("backup", "key", "show-recovery", "--json"))["recovery_key"])


def lose_the_key_file(place: Place) -> None:
    place.typed = recovery_key(place)
    (place.state / "keys" / "key").unlink()


def lose_every_key(place: Place) -> None:
    place.btmctl("backup", "create")
    shutil.rmtree(place.state / "keys")


def backups_are_made_again(place: Place) -> None:
    place.btmctl("backup", "create")
    place.btmctl("backup", "drill")


def make_a_backup(place: Place) -> None:
    recovery_key(place)


def damage_a_backup(place: Place) -> None:
    place.btmctl("backup", "create")
    segment = max((path for path in (place.state / "backups" / "objects").rglob("*") if path.is_file()), key=_size)
    with segment.open("r+b") as file:
        file.seek(segment.stat().st_size // 2)
        file.write(b"\0" * 8)


def _size(path: Path) -> int:
    return path.stat().st_size


def newest_backup_is_good(place: Place) -> None:
    place.btmctl("backup", "verify", "last")


def tamper(place: Place) -> None:
    with sqlite3.connect(place.state / "btmd.db") as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE events SET data = replace(data, '7', '6') WHERE seq = 2")
        for _, sql in triggers:
            connection.execute(sql)
    connection.close()


def event_is_named(place: Place) -> None:
    assert "event 2: " in place.said, place.said


RECIPES: dict[str, tuple[Callable[[Place], None], Callable[[Place], None]]] = {
    "A setting was changed, and it was a mistake": (change_a_setting, seed_is_back),
    "Something is different since yesterday, and nobody knows what": (change_several, seed_is_back),
    "A change that may lock me out": (lambda place: None, newer_value_is_there),
    "settings.toml is broken": (break_the_file, file_is_good),
    "An old copy of settings.toml was saved over newer settings": (save_an_old_copy, newer_value_is_there),
    "A preset was changed or deleted by mistake": (delete_the_preset, preset_is_there),
    "A dataset or a model was removed by mistake": (remove_the_dataset, dataset_is_there),
    "A restore turned out to be wrong": (restore_wrongly, settings_are_there),
    "The daemon does not come up after a change": (spoil_the_settings, daemon_says_so),
    "A factory reset was a mistake": (reset, all_is_there),
    "The database is gone or damaged": (delete_the_database, all_is_there),
    "The disk is gone; there are backups on a stick, and the recovery key on paper": (lose_the_machine, all_is_there),
    "The key file is lost": (lose_the_key_file, backups_are_made_again),
    "Every key is lost": (lose_every_key, backups_are_made_again),
    "Somebody may know a key": (make_a_backup, backups_are_made_again),
    "A backup is damaged": (damage_a_backup, newest_backup_is_good),
    "Somebody may have changed the log": (tamper, event_is_named),
}
EXIT_CODES = {"btmctl backup verify": 7, "btmctl audit verify": 9}
"""What a command answers that finds what its recipe is about."""


def test_every_recipe_is_tried() -> None:
    assert list(recipes("restore.md")) == list(RECIPES)


@pytest.mark.parametrize("heading", RECIPES)
def test_a_recipe_gets_back_what_it_promises(heading: str, place: Place) -> None:
    accident, is_back = RECIPES[heading]
    accident(place)
    steps = recipes("restore.md")[heading]
    assert steps
    for step in steps:
        if step in ("stop", "start"):
            getattr(place, step)()
        else:
            code = place.at_terminal(step)
            assert code == EXIT_CODES.get(step, 0), f"{step}: {code}\n{place.said}"
    is_back(place)
