"""settings.toml edited by hand while the daemon runs, and while it does not."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from btmd.files.folder_watch import FolderWatch
from btmd.mirroring import follower as folder_follower
from btmd.settings.file import read_values
from tests.fixtures.daemon import PATIENCE_S, ThreadedDaemon, config_of
from tests.fixtures.short_folder import short_folder


class Edited:
    """A daemon and its settings file."""

    def __init__(self, daemon: ThreadedDaemon) -> None:
        self.client = daemon.client
        self.path = daemon.config.settings_path

    def wait(self, wanted: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not wanted():
            assert time.monotonic() < end, (self.path.read_text(), self.client.events(stream="settings"))
            time.sleep(0.02)

    def set(self, key: str, value: object) -> None:
        self.client.patch("/settings", {"changes": {key: value}}).ok()

    def value(self, key: str) -> Any:
        return self.client.get(f"/settings/{key}").ok()["value"]

    def in_file(self) -> dict[str, Any]:
        return dict(read_values(self.path.read_bytes()))

    def wait_for_value(self, key: str, value: object) -> None:
        self.wait(lambda: bool(self.value(key) == value))

    def wait_for_file(self, **values: object) -> None:
        """Wait until the file sets exactly these values of ``training``."""
        self.wait(lambda: self.in_file() == {f"training.{key}": value for key, value in values.items()})

    def problems(self) -> dict[str, str]:
        return dict(self.client.get("/health").ok()["problems"])

    def trouble(self) -> str:
        return str(self.client.get("/health").ok()["problems"].get("settings file", ""))

    def events(self, type_name: str) -> list[dict[str, Any]]:
        return self.client.events(type=type_name)


@contextmanager
def edited(folder: Path) -> Iterator[Edited]:
    with ThreadedDaemon(config_of(folder)) as daemon:
        it = Edited(daemon)
        it.wait(it.path.exists)
        yield it


@pytest.fixture
def it() -> Iterator[Edited]:
    with short_folder() as folder, edited(folder) as found:
        yield found


@pytest.fixture
def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is noticed then, a watch has told."""
    monkeypatch.setattr(folder_follower, "LOOK_AGAIN_S", 10 * PATIENCE_S)


def test_both_ways_lead_to_the_same(it: Edited) -> None:
    assert it.path.stat().st_mode & 0o777 == 0o600
    it.set("training.seed", 7)
    it.wait_for_file(seed=7)
    it.path.write_text(it.path.read_text().replace("seed = 7", "seed = 8 # lucky\npatience = 2"))
    it.wait_for_value("training.seed", 8)
    assert it.value("training.patience") == 2
    change = it.client.get("/history").ok()[0]
    assert (change["actor"], change["why"]) == ({"uid": os.getuid(), "name": "file"}, "saved in the settings file")
    assert len(change["changes"]) == 2
    it.set("training.seed", 9)
    it.wait_for_file(seed=9, patience=2)
    assert "# lucky" in it.path.read_text()
    # Each change is one event: neither side takes the other's answer for a new wish.
    assert [event["data"]["after"] for event in it.events("SettingChanged")] == [7, 2, 8, 9]
    assert len(it.events("SettingsFileSaved")) == 1
    it.client.post("/settings/undo").ok()
    it.wait_for_file(seed=8, patience=2)


def test_a_mark_before_the_text_is_taken_and_not_written_back(it: Edited) -> None:
    it.path.write_text("\ufeff# ours\n[training]\nseed = 7\n")
    it.wait_for_value("training.seed", 7)
    it.set("training.seed", 8)
    it.wait(lambda: "seed = 8" in it.path.read_text())
    assert it.path.read_text() == "# ours\n[training]\nseed = 8\n"


def test_a_preset_that_is_not_there_is_refused_with_its_line_until_it_is(it: Edited) -> None:
    it.path.write_text('[training]\nseed = 7\npreset = "mien"\n')
    it.wait(lambda: "line 3: training.preset cannot be set so" in it.trouble())
    assert "'mien'" in it.trouble()
    assert it.value("training.preset") == "auto"
    assert it.value("training.seed") == 42
    assert [event["data"]["line"] for event in it.events("SettingsFileRejected")] == [3]
    assert it.client.send("PUT", "/preset-definitions/mien", b'{"made_from": "quick_test"}').status == 200
    it.wait_for_value("training.preset", "mien")
    assert it.trouble() == ""
    # What goes later is no mistake of an edit of something else.
    assert it.client.send("DELETE", "/preset-definitions/mien").status == 200
    it.path.write_text(it.path.read_text().replace("seed = 7", "seed = 8"))
    it.wait_for_value("training.seed", 8)
    it.set("training.preset", "quick_test")
    problem = it.client.post("/settings/undo").refused(422, "invalid_value")
    assert "'mien'" in problem["detail"]
    assert it.value("training.preset") == "quick_test"


def test_a_line_taken_out_gives_the_default_again(it: Edited) -> None:
    it.set("training.seed", 7)
    it.wait_for_file(seed=7)
    it.path.write_text(it.path.read_text().replace("seed = 7\n", ""))
    it.wait_for_value("training.seed", 42)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [("[training]\nseed = -5\n", 2, "training.seed"), ("[training\n", 1, "TOML"), ("", None, "empty")],
)
def test_a_wrong_edit_changes_nothing_and_is_told(it: Edited, text: str, line: int | None, reason: str) -> None:
    it.set("training.seed", 7)
    it.wait_for_file(seed=7)
    good = it.path.read_text()
    it.path.write_text(text)
    it.wait(lambda: reason in it.trouble())
    rejected = it.events("SettingsFileRejected")
    assert (len(rejected), rejected[0]["data"]["line"], rejected[0]["actor"]["name"]) == (1, line, "file")
    assert it.value("training.seed") == 7
    # What a person is still mending is not written over.
    it.set("training.patience", 9)
    time.sleep(0.1)
    assert it.path.read_text() == text
    it.path.write_text(good.replace("seed = 7", "seed = 11"))
    it.wait_for_value("training.seed", 11)
    it.wait_for_file(seed=11, patience=9)
    it.wait(lambda: it.trouble() == "")


def test_the_save_of_a_stale_copy_is_recorded_told_and_undone(it: Edited) -> None:
    it.set("training.seed", 7)
    it.wait_for_file(seed=7)
    stale = it.path.read_text()
    for newer in (8, 9):
        it.set("training.seed", newer)
    it.wait_for_file(seed=9)
    it.path.write_text(stale + "\n# a comment only\n")
    it.wait_for_value("training.seed", 7)
    assert it.events("SettingsFileSaved")[-1]["data"]["took_back"] == ["training.seed"]
    assert "took back" in it.client.get("/history").ok()[0]["why"]
    it.client.post("/settings/undo").ok()
    it.wait_for_file(seed=9)


@pytest.mark.parametrize("editor", ["sed", "replace", "truncate", "slow"])
def test_editors_as_people_use_them(it: Edited, editor: str) -> None:
    it.set("training.seed", 7)
    it.wait_for_file(seed=7)
    text = it.path.read_text().replace("seed = 7", "seed = 8")
    if editor == "sed":
        subprocess.run(["sed", "-i", "s/seed = 7/seed = 8/", str(it.path)], check=True)
    elif editor == "replace":
        beside = it.path.with_name("settings.toml~")
        beside.write_text(text)
        beside.rename(it.path)
    elif editor == "truncate":
        with it.path.open("w") as file:
            time.sleep(0.1)
            file.write(text)
    else:
        with it.path.open("w") as file:
            for piece in (text[:300], text[300:700], text[700:]):
                file.write(piece)
                file.flush()
                time.sleep(0.1)
    it.wait_for_value("training.seed", 8)
    assert {event["data"]["after"] for event in it.events("SettingChanged")} == {7, 8}
    assert it.events("SettingsFileRejected") == []


def test_a_setting_changed_while_a_person_saves_another_stays(it: Edited) -> None:
    it.set("training.seed", 7)
    it.wait_for_file(seed=7)
    it.path.write_text(it.path.read_text().replace("seed = 7", "seed = 7\npatience = 2"))
    it.set("training.evaluations", 3)
    it.wait_for_file(seed=7, patience=2, evaluations=3)
    it.wait_for_value("training.patience", 2)
    assert it.value("training.evaluations") == 3


def test_a_link_in_its_place_is_not_followed(it: Edited) -> None:
    other = it.path.with_name("other.toml")
    other.write_text("[training]\nseed = 1\n")
    it.path.unlink()
    it.path.symlink_to(other)
    it.wait(lambda: "link" in it.trouble())
    it.set("training.patience", 2)
    assert other.read_text() == "[training]\nseed = 1\n"
    assert it.value("training.seed") == 42


def test_a_folder_that_went_away_is_watched_again_as_soon_as_it_is_there(it: Edited, no_second_look: None) -> None:
    shutil.rmtree(it.path.parent)
    it.set("training.seed", 7)
    it.wait(it.path.exists)
    it.wait_for_file(seed=7)
    for seed in (11, 12, 13):
        it.path.write_text(f"[training]\nseed = {seed}\n")
        it.wait_for_value("training.seed", seed)
    assert [event["data"]["after"] for event in it.events("SettingChanged")] == [7, 11, 12, 13]
    # Whoever moved the folder away may be about to put another there: the daemon makes one when it has to write.
    assert it.client.send("PUT", "/preset-definitions/mine", b'{"made_from": "quick_test"}').status == 200
    it.wait((it.path.parent / "presets" / "mine.toml").exists)
    it.wait(lambda: it.problems() == {})


def test_a_folder_whose_parent_goes_between_two_looks_is_watched_again(
    it: Edited, no_second_look: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    went: list[Path] = []

    class Vanishing(FolderWatch):
        def __init__(self, folder: Path, only: str | None = None) -> None:
            if only == "presets" and not went:
                went.append(folder)
                shutil.rmtree(folder)
            super().__init__(folder, only)

    monkeypatch.setattr(folder_follower, "FolderWatch", Vanishing)
    presets = it.path.parent / "presets"
    presets.rmdir()
    it.wait(lambda: went == [presets.parent])
    it.set("training.seed", 7)
    it.wait(presets.is_dir)
    it.wait(lambda: it.problems() == {})


def test_a_folder_put_in_the_place_of_another_is_the_one_that_is_watched(it: Edited, no_second_look: None) -> None:
    folder = it.path.parent
    new = folder.with_name("new")
    new.mkdir()
    (new / "settings.toml").write_text("[training]\nseed = 5\n")
    # Nothing between the two: a look that is under way just then would make a folder of its own.
    folder.rename(folder.with_name("away"))
    new.rename(folder)
    it.wait_for_value("training.seed", 5)
    it.path.write_text("[training]\nseed = 6\n")
    it.wait_for_value("training.seed", 6)
    # The presets are followed to the new folder too, not to where the old one went.
    assert it.client.send("PUT", "/preset-definitions/mine", b'{"made_from": "quick_test"}').status == 200
    it.wait((folder / "presets" / "mine.toml").exists)


def test_a_folder_that_cannot_be_used_is_told_and_the_settings_work() -> None:
    with short_folder() as folder:
        (folder / "config").write_text("in the way")
        with ThreadedDaemon(config_of(folder)) as daemon:
            it = Edited(daemon)
            it.wait(lambda: "config" in it.trouble())
            it.set("training.seed", 7)
            assert it.value("training.seed") == 7


def test_edits_and_left_overs_of_while_the_daemon_was_away() -> None:
    with short_folder() as folder:
        with edited(folder) as it:
            it.set("training.seed", 7)
            it.wait_for_file(seed=7)
        path = folder / "config" / "settings.toml"
        path.write_text(path.read_text().replace("seed = 7", "seed = 8"))
        with edited(folder) as it:
            it.wait_for_value("training.seed", 8)
        # A daemon that died between log and file: the file is old, but nobody's edit.
        old = path.read_bytes()
        with edited(folder) as it:
            it.set("training.patience", 5)
            it.wait_for_file(seed=8, patience=5)
            memory = (folder / "state" / "settings-file.json").read_bytes()
        assert memory
        new = path.read_bytes()
        memory_of_both = _both(memory, old)
        (folder / "state" / "settings-file.json").write_bytes(memory_of_both)
        path.write_bytes(old)
        with edited(folder) as it:
            it.wait_for_file(seed=8, patience=5)
            assert it.value("training.patience") == 5
        assert read_values(path.read_bytes()) == read_values(new)


def test_without_a_memory_an_unchanged_file_takes_nothing_back() -> None:
    with short_folder() as folder:
        with edited(folder) as it:
            it.set("training.seed", 7)
            it.set("training.patience", 5)
            it.wait_for_file(seed=7, patience=5)
        (folder / "state" / "settings-file.json").unlink()
        path = folder / "config" / "settings.toml"
        path.write_text(path.read_text().replace("patience = 5\n", ""))
        with edited(folder) as it:
            # While the daemon still looks whether the file stands still.
            it.set("training.seed", 9)
            it.wait_for_file(seed=9, patience=5)
            assert [event["data"]["after"] for event in it.events("SettingChanged")] == [7, 5, 9]
            assert not it.events("SettingsFileSaved")


def _both(memory: bytes, old: bytes) -> bytes:
    """The memory as it is around a write: the content that comes and the one that goes."""
    import hashlib
    import json

    known = json.loads(memory)["known"]
    gone = {"sha256": hashlib.sha256(old).hexdigest(), "values": read_values(old)}
    return json.dumps({"known": [*known, gone]}).encode()
