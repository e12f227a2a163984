"""The presets folder, edited by hand while the daemon runs and while it does not."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from btmd.presets.reading import parse_preset
from tests.fixtures.daemon import PATIENCE_S, Answer, ThreadedDaemon, config_of
from tests.fixtures.short_folder import short_folder

AWAY = "/preset-definitions/mine"


class Edited:
    """A daemon, its presets folder, and the preset ``mine``."""

    def __init__(self, daemon: ThreadedDaemon) -> None:
        self.client = daemon.client
        self.folder = daemon.config.presets_dir
        self.path = self.folder / "mine.toml"

    def wait(self, wanted: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not wanted():
            assert time.monotonic() < end, (os.listdir(self.folder), self.troubles(), self.told())
            time.sleep(0.02)

    def put(self, **values: object) -> Answer:
        body = json.dumps({"values": values}).encode()
        return self.client.send("PUT", AWAY, body, content_type="application/json")

    def value(self, name: str) -> Any:
        answer = self.client.get(AWAY)
        return answer.json[name] if answer.status == 200 else None

    def in_file(self, name: str) -> Any:
        try:
            return getattr(parse_preset(self.path.read_text(), "mine.toml"), name)
        except FileNotFoundError:
            return None

    def replace(self, old: str, new: str) -> None:
        text = self.path.read_text()
        assert old in text
        self.path.write_text(text.replace(old, new))

    def wait_for(self, name: str, value: object) -> None:
        """Wait until log and file have this value."""
        self.wait(lambda: bool(self.value(name) == value and self.in_file(name) == value))

    def troubles(self) -> dict[str, str]:
        return dict(self.client.get("/health").ok()["problems"])

    def told(self) -> list[tuple[str, str, str]]:
        """What happened to the preset, oldest first: what, by whom, why."""
        history = self.client.get(f"{AWAY}/history").ok()
        return [(one["what"], one["actor"]["name"], one["why"]) for one in reversed(history)]

    def events(self, type_name: str) -> list[dict[str, Any]]:
        return self.client.events(type=type_name)


@contextmanager
def edited(folder: Path) -> Iterator[Edited]:
    with ThreadedDaemon(config_of(folder)) as daemon:
        it = Edited(daemon)
        it.wait(it.folder.is_dir)
        yield it


@pytest.fixture
def it() -> Iterator[Edited]:
    with short_folder() as folder, edited(folder) as found:
        body = {"made_from": "quick_test", "values": {"num_epochs": 3}}
        found.client.send("PUT", AWAY, json.dumps(body).encode(), content_type="application/json").ok()
        found.wait_for("num_epochs", 3)
        yield found


def test_both_ways_lead_to_the_same(it: Edited) -> None:
    assert it.path.stat().st_mode & 0o777 == 0o600
    assert it.folder.stat().st_mode & 0o777 == 0o700
    it.replace("num_epochs = 3", "num_epochs = 4 # enough")
    it.wait_for("num_epochs", 4)
    it.put(lora_r=32).ok()
    it.wait_for("lora_r", 32)
    assert "num_epochs = 4 # enough" in it.path.read_text()
    # Each change is one event: neither side takes the other's answer for a new wish.
    me = it.told()[0][1]
    assert it.told() == [("created", me, ""), ("changed", "file", "saved in its file"), ("changed", me, "")]
    assert it.events("PresetFileSaved")[0]["actor"]["uid"] == os.getuid()
    assert len(it.events("PresetFileSaved")) == 1


def test_a_new_file_is_a_new_preset_and_one_taken_away_is_deleted(it: Edited) -> None:
    text = it.path.read_text()
    it.path.unlink()
    it.wait(lambda: it.value("key") is None)
    assert it.told()[-1] == ("deleted", "file", "its file was removed")
    it.client.post(f"{AWAY}/undo").ok()
    it.wait_for("num_epochs", 3)
    it.client.send("DELETE", AWAY).ok()
    it.wait(lambda: not it.path.exists())
    it.path.write_text("# my own words\n" + text)
    it.wait_for("num_epochs", 3)
    time.sleep(0.1)
    assert it.path.read_text().startswith("# my own words\n")
    assert [what for what, _, _ in it.told()] == ["created", "deleted", "created", "deleted", "created"]


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("num_epochs = 3", "num_epochs = 0", True, "num_epochs"),
        ("[hyperparameters]", "[hyperparameters", True, "TOML"),
        ('key = "mine"', 'key = "../mine"', True, "key"),
        ('key = "mine"', 'key = "other"', True, "other.toml"),
        (None, "", False, "empty"),
    ],
)
def test_a_wrong_edit_changes_nothing_and_is_told(
    it: Edited, old: str | None, new: str, line: bool, reason: str
) -> None:
    good = it.path.read_text()
    wrong = new if old is None else good.replace(old, new)
    it.path.write_text(wrong)
    it.wait(lambda: reason in it.troubles().get("preset file mine.toml", ""))
    rejected = it.events("PresetFileRejected")
    assert (len(rejected), rejected[0]["actor"]["name"]) == (1, "file")
    expected = wrong.splitlines().index(new) + 1 if line else None
    assert rejected[0]["data"]["line"] == expected
    if line:
        assert f"line {expected}" in it.troubles()["preset file mine.toml"]
    assert it.value("num_epochs") == 3
    # What a person is still mending is not written over.
    it.put(lora_r=32).ok()
    time.sleep(0.1)
    assert it.path.read_text() == wrong
    it.path.write_text(good.replace("num_epochs = 3", "num_epochs = 5"))
    it.wait_for("num_epochs", 5)
    it.wait_for("lora_r", 32)
    it.wait(lambda: it.troubles() == {})


def test_files_that_no_preset_can_be_are_told_and_hurt_nothing(it: Edited) -> None:
    good = it.path.read_text()
    (it.folder / "quick_test.toml").write_text(good.replace('"mine"', '"quick_test"'))
    (it.folder / "My Own.toml").write_text(good.replace('"mine"', '"my_own"'))
    (it.folder / os.fsdecode(b"\xff.toml")).write_text(good)
    (it.folder / "notes.txt").write_text("nothing")
    (it.folder / ".hidden.toml").write_text("nothing")
    it.wait(lambda: len(it.troubles()) == 3)
    assert "comes with btmd" in it.troubles()["preset file quick_test.toml"]
    assert [one["key"] for one in it.client.get("/preset-definitions?origin=own").ok()] == ["mine"]
    (it.folder / "My Own.toml").unlink()
    it.wait(lambda: len(it.troubles()) == 2)


def test_the_save_of_a_stale_copy_is_recorded_told_and_undone(it: Edited) -> None:
    stale = it.path.read_text()
    it.put(num_epochs=8).ok()
    it.wait_for("num_epochs", 8)
    it.path.write_text(stale + "\n# a comment only\n")
    it.wait_for("num_epochs", 3)
    assert it.events("PresetFileSaved")[-1]["data"]["took_back"] == ["num_epochs"]
    assert "took back" in it.told()[-1][2]
    it.client.post(f"{AWAY}/undo").ok()
    it.wait_for("num_epochs", 8)


@pytest.mark.parametrize("editor", ["sed", "replace", "truncate", "slow"])
def test_editors_as_people_use_them(it: Edited, editor: str) -> None:
    text = it.path.read_text().replace("num_epochs = 3", "num_epochs = 8")
    if editor == "sed":
        subprocess.run(["sed", "-i", "s/num_epochs = 3/num_epochs = 8/", str(it.path)], check=True)
    elif editor == "replace":
        it.path.rename(it.path.with_name("mine.toml~"))
        time.sleep(0.1)
        it.path.write_text(text)
    else:
        with it.path.open("w") as file:
            for piece in (text[:300], text[300:]):
                time.sleep(0.1)
                file.write(piece)
                if editor == "slow":
                    file.flush()
    it.wait_for("num_epochs", 8)
    assert [what for what, _, _ in it.told()] == ["created", "changed"]
    assert it.events("PresetFileRejected") == []


def test_a_value_changed_while_a_person_saves_another_stays(it: Edited) -> None:
    it.replace("batch_size = 4", "batch_size = 16")
    it.put(lora_r=64).ok()
    it.wait_for("batch_size", 16)
    it.wait_for("lora_r", 64)


def test_a_link_in_its_place_is_not_followed(it: Edited) -> None:
    other = it.folder.parent / "other.toml"
    other.write_text(it.path.read_text().replace("num_epochs = 3", "num_epochs = 9"))
    before = other.read_text()
    it.path.unlink()
    it.path.symlink_to(other)
    it.wait(lambda: "link" in it.troubles().get("preset file mine.toml", ""))
    it.put(lora_r=32).ok()
    assert (other.read_text(), it.value("num_epochs")) == (before, 3)


def test_a_folder_that_goes_away_deletes_nothing() -> None:
    with short_folder() as folder:
        with edited(folder) as it:
            body = {"made_from": "quick_test", "values": {}}
            it.client.send("PUT", AWAY, json.dumps(body).encode(), content_type="application/json").ok()
            it.wait_for("num_epochs", 1)
            it.path.write_text(it.path.read_text().replace("num_epochs = 1", "num_epochs = 2"))
            it.wait_for("num_epochs", 2)
        shutil.rmtree(folder / "config")
        with edited(folder) as it:
            it.wait_for("num_epochs", 2)
            assert it.events("PresetDeleted") == []


def test_edits_of_while_the_daemon_was_away() -> None:
    with short_folder() as folder:
        with edited(folder) as it:
            for key in ("mine", "gone"):
                body = json.dumps({"made_from": "quick_test"}).encode()
                it.client.send("PUT", f"/preset-definitions/{key}", body, content_type="application/json").ok()
            it.wait(lambda: it.path.exists() and (it.folder / "gone.toml").exists())
            wrong = it.folder / "wrong.toml"
            wrong.write_text("nothing of use")
            it.wait(lambda: "preset file wrong.toml" in it.troubles())
        path = folder / "config" / "presets" / "mine.toml"
        path.write_text(path.read_text().replace("num_epochs = 1", "num_epochs = 6"))
        path.with_name("gone.toml").unlink()
        with edited(folder) as it:
            it.wait_for("num_epochs", 6)
            it.wait(lambda: it.client.get("/preset-definitions/gone").status == 404)
            # Told again, recorded once.
            it.wait(lambda: "preset file wrong.toml" in it.troubles())
            assert len(it.events("PresetFileRejected")) == 1


def test_a_daemon_that_died_while_it_took_a_file_away_does_not_take_it_for_a_new_one() -> None:
    with short_folder() as folder:
        memory_path = folder / "state" / "preset-files.json"
        with edited(folder) as it:
            body = json.dumps({"made_from": "quick_test"}).encode()
            it.client.send("PUT", AWAY, body, content_type="application/json").ok()
            it.wait_for("num_epochs", 1)
            it.wait(lambda: "mine.toml" in json.loads(memory_path.read_bytes()))
            before, known = it.path.read_bytes(), json.loads(memory_path.read_bytes())["mine.toml"]["known"]
            it.client.send("DELETE", AWAY).ok()
            it.wait(lambda: not it.path.exists())
        path = folder / "config" / "presets" / "mine.toml"
        path.write_bytes(before)
        absent = {"sha256": "", "values": {}}
        memory_path.write_text(json.dumps({"mine.toml": {"known": [absent, known[-1]], "rejected": ""}}))
        with edited(folder) as it:
            it.wait(lambda: not path.exists())
            assert [what for what, _, _ in it.told()] == ["created", "deleted"]


def test_a_mark_before_the_text_is_taken_and_not_written_back(it: Edited) -> None:
    it.path.write_text("\ufeff# ours\n" + it.path.read_text().replace("num_epochs = 3", "num_epochs = 2"))
    it.wait(lambda: it.value("num_epochs") == 2)
    assert it.put(num_epochs=4).status == 200
    it.wait(lambda: "num_epochs = 4" in it.path.read_text())
    assert it.path.read_text().startswith("# ours")


def test_a_file_that_never_was_a_preset_promises_none(it: Edited) -> None:
    (it.folder / "other.toml").write_text("key = ")
    it.wait(lambda: "preset file other.toml" in it.troubles())
    assert it.troubles()["preset file other.toml"].endswith("There is no such preset yet.")
    it.path.write_text("key = ")
    it.wait(lambda: "preset file mine.toml" in it.troubles())
    assert it.troubles()["preset file mine.toml"].endswith("The last good preset stays.")
