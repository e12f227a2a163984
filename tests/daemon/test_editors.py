"""Editors as people use them, on the settings file, while other settings change over the socket.

``BTMD_PROOF=1`` runs the long form, with the editors that are installed in all their ways.
"""

import os
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon.test_settings_file import Edited, edited
from tests.fixtures.short_folder import short_folder

PROOF = bool(os.environ.get("BTMD_PROOF"))
SAVES = 60 if PROOF else 12
LONGEST_REST_S = 1.5
Editor = Callable[[Path, str, str], None]


def sed(path: Path, before: str, after: str) -> None:
    subprocess.run(["sed", "-i", f"s/{before}/{after}/", str(path)], check=True)


def vim(path: Path, before: str, after: str) -> None:
    """Vim writes a new file and moves it, or writes in place and keeps a copy beside, as it sees fit."""
    _until_saved(path, before, after, "set noswapfile")


def vim_with_copies(path: Path, before: str, after: str) -> None:
    _until_saved(path, before, after, "set backup writebackup backupcopy=no swapfile")


def _until_saved(path: Path, before: str, after: str, options: str) -> None:
    """Where the file changes under its hands vim asks, and ends where nobody answers: its person opens it again."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "saved"
        commands = (options, f"%s/{before}/{after}/e", f"write! | call writefile([], '{saved}')", "quit!")
        for _ in range(20):
            words = ["vim", "-u", "NONE", "-es", *(word for one in commands for word in ("-c", one)), str(path)]
            subprocess.run(words, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60)
            if saved.exists():
                return
    raise AssertionError("vim never saved")


def ed(path: Path, before: str, after: str) -> None:
    script = f",s/{before}/{after}/\nw\nq\n"
    subprocess.run(["ed", "-s", str(path)], input=script.encode(), check=False, stdout=subprocess.DEVNULL, timeout=60)


def as_nano(path: Path, before: str, after: str) -> None:
    _written_over(path, path.read_text().replace(before, after))


def _written_over(path: Path, text: str) -> None:
    """As nano does: opened anew, emptied, all of it written."""
    with path.open("w") as file:
        file.write(text)


def in_pieces(path: Path, before: str, after: str) -> None:
    """A slow truncate-then-write."""
    text = path.read_text().replace(before, after)
    with path.open("w") as file:
        file.flush()
        time.sleep(0.05)
        for at in range(0, len(text), 300):
            file.write(text[at : at + 300])
            file.flush()
            time.sleep(0.02)


def replacing(path: Path, before: str, after: str) -> None:
    _moved_in(path, path.read_text().replace(before, after))


def _moved_in(path: Path, text: str) -> None:
    """An atomic replace, as most graphical editors do."""
    beside = path.with_name(f".{path.name}.{random.randrange(10**9)}")
    beside.write_text(text)
    beside.rename(path)


def two_at_once(path: Path, before: str, after: str) -> None:
    """Two people who opened the same content save theirs at the same moment."""
    text = path.read_text().replace(before, after)
    threads = [threading.Thread(target=way, args=(path, text)) for way in (_written_over, _moved_in)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def installed() -> dict[str, Editor]:
    ways: dict[str, Editor] = {
        "sed -i": sed, "nano": as_nano, "pieces": in_pieces, "replace": replacing, "two at once": two_at_once
    }  # fmt: skip
    for name, programme, way in (("vim", "vim", vim), ("vim -b", "vim", vim_with_copies), ("ed", "ed", ed)):
        if shutil.which(programme):
            ways[name] = way
    return ways


class Others:
    """Somebody who changes other settings over the socket all the while."""

    def __init__(self, it: Edited) -> None:
        self._it, self._end = it, threading.Event()
        self.answered: dict[int, int] = {}
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        value = 0
        while not self._end.wait(random.uniform(0.0, 0.4)):
            value = value % 1000 + 1
            answer = self._it.client.patch("/settings", {"changes": {"training.patience": value}}).ok()
            self.answered[answer["number"]] = value

    def __enter__(self) -> "Others":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


@pytest.fixture
def it() -> Iterator[Edited]:
    with short_folder() as folder, edited(folder) as found:
        yield found


def test_saves_while_others_change_settings(it: Edited) -> None:
    ways = installed()
    it.set("training.seed", 1)
    it.wait_for_file(seed=1)
    wished: dict[int, str] = {}
    with Others(it) as others:
        for number, name in enumerate(random.choices(list(ways), k=SAVES), 2):
            ways[name](
                it.path, "seed = [0-9]*" if name in ("sed -i", "vim", "vim -b", "ed") else _seed(it), f"seed = {number}"
            )
            wished[number] = name
            it.wait(lambda n=number: any(one["data"]["after"] == n for one in _changes(it, "training.seed")))  # type: ignore[misc]
            time.sleep(random.uniform(0, LONGEST_REST_S))
    seeds = _changes(it, "training.seed")
    # No value that nobody wrote; every content that stood still is there, and says who it was.
    assert {one["data"]["after"] for one in seeds} <= set(range(1, SAVES + 2))
    for number, name in wished.items():
        mine = [one for one in seeds if one["data"]["after"] == number]
        assert [(one["actor"]["name"], one["actor"]["uid"]) for one in mine[:1]] == [("file", os.getuid())], name
    # Every answer that others were given stands in the log, and a stale save that took one back is told as one.
    patience = _changes(it, "training.patience")
    by_socket = {one["seq"]: one["data"]["after"] for one in patience if one["actor"]["name"] != "file"}
    assert by_socket == others.answered
    took_back = [one for one in it.events("SettingsFileSaved") if "training.patience" in one["data"]["took_back"]]
    by_file = [one for one in patience if one["actor"]["name"] == "file"]
    assert len(by_file) == len(took_back)
    assert {one["data"]["after"] for one in by_file} <= {*others.answered.values(), None}
    assert it.events("SettingsFileRejected") == []
    it.wait(
        lambda: (
            it.in_file()
            == {"training.seed": it.value("training.seed"), "training.patience": it.value("training.patience")}
        )
    )


def _seed(it: Edited) -> str:
    return f"seed = {it.in_file()['training.seed']}"


def _changes(it: Edited, key: str) -> list[dict]:  # type: ignore[type-arg]
    return [one for one in it.events("SettingChanged") if one["data"]["key"] == key]
