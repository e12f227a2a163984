"""A rebuilt database in the place of the old one, wherever the swap was cut off."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from btmd.errors import Damaged
from btmd.store.swap import finish_swap, swap_in


@pytest.fixture
def path(tmp_path: Path) -> Path:
    for name, content in (("btmd.db", b"old"), ("btmd.db-wal", b"old log"), ("btmd.db-shm", b""), ("new", b"new")):
        (tmp_path / name).write_bytes(content)
    return tmp_path / "btmd.db"


def contents(path: Path) -> dict[str, bytes]:
    return {found.name: found.read_bytes() for found in path.parent.iterdir()}


AFTER = {"btmd.db": b"new", "kept": b"old", "kept-wal": b"old log"}


def swap(path: Path) -> None:
    swap_in(path, path.with_name("new"), path.with_name("kept"))


def test_the_new_one_stands_there_without_the_old_ones_write_ahead_log(path: Path) -> None:
    swap(path)
    assert contents(path) == AFTER
    finish_swap(path)
    assert contents(path) == AFTER


class CutOff(Exception):
    pass


@pytest.mark.parametrize("after", range(1, 9))
def test_cut_off_anywhere_the_next_start_goes_on(path: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left = after

    def until_cut(real: object) -> object:
        def call(*arguments: object, **named: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise CutOff
            return real(*arguments, **named)  # type: ignore[operator]

        return call

    with monkeypatch.context() as patched:
        for name in ("replace", "unlink", "fsync"):
            patched.setattr(os, name, until_cut(getattr(os, name)))
        with suppress(CutOff):
            swap(path)
    marked = path.with_name("btmd.db.swap").exists()
    finish_swap(path)
    found = {name: data for name, data in contents(path).items() if not name.startswith(".")}
    if marked or found == AFTER:
        assert found == AFTER
    else:
        assert found == {"btmd.db": b"old", "btmd.db-wal": b"old log", "btmd.db-shm": b"", "new": b"new"}


def test_a_marker_that_cannot_be_read_is_damage(path: Path) -> None:
    path.with_name("btmd.db.swap").write_bytes(b"{")
    with pytest.raises(Damaged):
        finish_swap(path)


def test_a_marker_names_nothing_outside_the_folder(path: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    path.with_name("btmd.db.swap").write_bytes(b'{"rebuilt":"../outside/new","kept":"outside/kept"}')
    finish_swap(path)
    assert path.read_bytes() == b"new"
    assert list(outside.iterdir()) == []
