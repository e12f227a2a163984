"""Where an export goes, and that nothing of a person's is lost to it."""

import hashlib
import io
import os
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from btmctl.errors import CommandError, ConnectionLost
from btmctl.exported_files import Target, fetch, target_of
from btmctl.output import Output
from btmctl.session import Session


class Daemon:
    """Hands out files; of ``broken`` only a part comes."""

    def __init__(self, files: dict[str, bytes], *, broken: str = "") -> None:
        self._files, self._broken = files, broken
        self.made = {
            "export_id": "e",
            "files": [
                {"path": name, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in files.items()
            ],
        }

    def download(self, path: str) -> Iterator[bytes]:
        name = path.partition("/files/")[2]
        yield self._files[name][:2]
        if name == self._broken:
            raise ConnectionLost("The daemon went away in the middle of an answer.")
        yield self._files[name][2:]

    def fetch(self, target: Target) -> list[str]:
        output = Output(environment={}, stdout=io.StringIO(), stderr=io.StringIO())
        return fetch(self.made, target, cast(Session, types.SimpleNamespace(client=self, output=output)))


@pytest.mark.parametrize(
    ("out", "is_folder", "expected"),
    [
        (None, True, "model-merged"),
        ("new", True, "new"),
        ("there", True, "there/model-merged"),
        ("new/", True, "new/model-merged"),
        (None, False, "model.gguf"),
        ("other.gguf", False, "other.gguf"),
        ("there", False, "there/model.gguf"),
        ("new", False, "new/model.gguf"),
    ],
)
def test_out_is_the_place_or_the_folder_around_it(
    out: str | None, is_folder: bool, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert target_of("model-merged" if is_folder else "model.gguf", out, is_folder=is_folder).path == str(
        tmp_path / expected
    )


@pytest.mark.parametrize("is_folder", [True, False])
def test_what_breaks_off_leaves_nothing_and_keeps_what_was_there(is_folder: bool, tmp_path: Path) -> None:
    target = Target(str(tmp_path / "out"), is_folder)
    content = {"a": b"alpha", "b": b"beta"} if is_folder else {"a": b"alpha"}
    with pytest.raises(CommandError):
        Daemon(content, broken=max(content)).fetch(target)
    assert os.listdir(tmp_path) == []
    Daemon(content).fetch(target)
    assert target.in_the_way() == (["a", "b"] if is_folder else ["out"])
    with pytest.raises(CommandError):
        Daemon({name: b"newer" for name in content}, broken=max(content)).fetch(target)
    assert (tmp_path / "out" / "a" if is_folder else tmp_path / "out").read_bytes() == b"alpha"
    assert os.listdir(tmp_path) == ["out"]


def test_bytes_that_changed_on_the_way_are_refused(tmp_path: Path) -> None:
    daemon = Daemon({"a": b"alpha"})
    daemon.made["files"] = [{**cast(Any, daemon.made)["files"][0], "sha256": "0" * 64}]
    with pytest.raises(CommandError, match="not what was written"):
        daemon.fetch(Target(str(tmp_path / "out"), is_folder=False))
    assert os.listdir(tmp_path) == []


def test_weights_of_an_earlier_export_do_not_stay_beside_the_new(tmp_path: Path) -> None:
    target = Target(str(tmp_path / "out"), is_folder=True)
    Daemon({"model-00001-of-00002.safetensors": b"old one", "config.json": b"{}"}).fetch(target)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    Daemon({"model.safetensors": b"new one", "config.json": b"{1}"}).fetch(target)
    assert set(os.listdir(tmp_path / "out")) == {"model.safetensors", "config.json", "notes.txt"}


@pytest.mark.parametrize("path", ["../taken", "/proc/taken", "a/../../taken", "", "a//taken"])
def test_a_daemon_does_not_choose_where_in_our_folders_is_written(path: str, tmp_path: Path) -> None:
    for is_folder in (True, False):
        with pytest.raises(CommandError, match="outside"):
            Daemon({"model.gguf": b"weights", path: b"x"}).fetch(Target(str(tmp_path / "out" / "new"), is_folder))
    assert os.listdir(tmp_path) == []
