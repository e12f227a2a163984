"""The text of settings.toml: values, lines of mistakes, comments that stay, and a replacement that loses no save."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btmd.domain.settings_schema import SCHEMA, Setting, Value
from btmd.files import watched_file
from btmd.files.watched_file import Content, FileWrong, read_content, remove_content, replace_content
from btmd.settings.file import SettingsFileWrong, line_of, read_values, rendered, written

BY_HAND = """\
# mine
[checkpoints]
keep = 3   # enough

[training]
# the answer
seed = 42

[chat]
"""


def test_values_are_read_with_their_types() -> None:
    text = 'log.level = "debug"\n[training]\nseed = 7\ntick_every_s = 2\n[chat]\n'
    assert read_values(text.encode()) == {"log.level": "debug", "training.seed": 7, "training.tick_every_s": 2.0}
    assert isinstance(read_values(text.encode())["training.tick_every_s"], float)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("[training]\nseed = 1\nseed = 2\n", 3, "TOML"),
        ("[training]\nseed = \n", 2, "TOML"),
        ("[training]\n\nseed = -1\n", 3, "training.seed"),
        ("[training]\nsed = 1\n", 2, "training.seed"),
        ("training = 5\n", 1, "training"),
        ("[a]\nb=1\n[training] # here\n'seed' = [1]\n", 2, "a.b"),
        ("[training]\nseed = 1979-05-27\n", 2, "training.seed"),
        ("log . level = 'loud'\n", 1, "log.level"),
        ("", None, "empty"),
        (" \n\n", None, "empty"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, line: int | None, reason: str) -> None:
    with pytest.raises(SettingsFileWrong) as caught:
        read_values(text.encode())
    assert caught.value.line == line
    assert reason in caught.value.detail


def test_bytes_that_are_no_text_are_named_with_their_line() -> None:
    with pytest.raises(SettingsFileWrong) as caught:
        read_values(b"[training]\nseed = 1 # \xff\n")
    assert caught.value.line == 2


def test_a_file_of_comments_alone_sets_nothing() -> None:
    assert read_values(b"# nothing\n") == {}
    assert read_values(rendered({}).encode()) == {}


def test_a_table_stands_once_however_the_settings_are_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btmd.settings.file.SCHEMA", SCHEMA[::2] + SCHEMA[1::2])
    text = rendered({"training.seed": 7})
    assert text.count("\n[training]\n") == 1
    assert read_values(text.encode()) == {"training.seed": 7}


def test_comments_and_order_stay() -> None:
    text = written(BY_HAND, {"checkpoints.keep": 3, "training.seed": 7, "chat.idle_s": 5.0, "jobs.crash_resumes": 1})
    for line in ("# mine", "keep = 3   # enough", "# the answer", "seed = 7", "idle_s = 5.0", "[jobs]"):
        assert line in text.splitlines()
    assert text.index("[checkpoints]") < text.index("[training]") < text.index("[chat]") < text.index("[jobs]")
    assert "keep" not in written(text, {"training.seed": 7})
    assert "# the answer" in written(text, {})
    assert written(BY_HAND, {"checkpoints.keep": 3, "training.seed": 42}) == BY_HAND


def _values_of(one: Setting) -> st.SearchStrategy[Value]:
    if one.choices:
        return st.sampled_from(one.choices)
    if isinstance(one.default, bool):
        return st.booleans()
    low, high = one.minimum, one.maximum
    if isinstance(one.default, int):
        return st.integers(int(low or 0), int(high or 10**9))
    if isinstance(one.default, float):
        return st.floats(low or 0.0, high or 1e9)
    if one.key == "queue.quiet_hours":
        return st.sampled_from(("", "22:00-07:00", "12:30-13:00 Mon-Fri; 00:00-06:00 Sat"))
    if one.key == "notify.command":
        return st.sampled_from(("", "/usr/bin/logger btmd", "'/opt/my program' --to \"one two\""))
    return st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


ANY_VALUES = st.fixed_dictionaries({}, optional={one.key: _values_of(one) for one in SCHEMA})


@given(ANY_VALUES, ANY_VALUES, ANY_VALUES)
def test_what_is_written_is_read_again(
    first: dict[str, Value], second: dict[str, Value], third: dict[str, Value]
) -> None:
    text = rendered(first)
    assert read_values(text.encode()) == first
    for values in (second, third, {}, first):
        text = written(text, values)
        assert read_values(text.encode()) == values
    assert read_values(written(BY_HAND, second).encode()) == second


def test_the_line_of_a_key_is_found_in_every_form() -> None:
    assert line_of("training.seed = 1\n", "training.seed") == 1
    assert line_of('[chat]\nseed=2\n[ training ]\n"seed"=1\n', "training.seed") == 4
    assert line_of("[chat]\n", "training.seed") is None


def test_a_save_between_look_and_write_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(b"old")
    seen = read_content(path)
    path.write_bytes(b"a person's")
    assert replace_content(path, seen, b"ours") is False
    assert path.read_bytes() == b"a person's"
    assert replace_content(path, read_content(path), b"ours") is True
    assert path.read_bytes() == b"ours"
    assert replace_content(path, None, b"again") is False
    assert os.listdir(tmp_path) == ["settings.toml"]


def test_a_new_file_is_private_and_an_old_one_keeps_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    assert replace_content(path, None, b"ours") is True
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    assert replace_content(path, read_content(path), b"more") is True
    assert path.stat().st_mode & 0o777 == 0o640


def test_links_and_other_things_are_not_followed(tmp_path: Path) -> None:
    other, path = tmp_path / "other", tmp_path / "settings.toml"
    other.write_bytes(b"[training]\nseed = 1\n")
    path.symlink_to(other)
    with pytest.raises(FileWrong):
        read_content(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(FileWrong):
        read_content(path)
    path.unlink()
    assert read_content(path) is None


def test_a_save_onto_a_content_that_is_just_taken_back_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(b"old")
    seen = read_content(path)
    path.write_bytes(b"a first save")
    swap, saves = watched_file._swap, [b"a second save"]

    def swap_then_save(one: Path, other: Path) -> bool:
        done = swap(one, other)
        if saves:
            (tmp_path / "beside").write_bytes(saves.pop())
            (tmp_path / "beside").rename(path)
        return done

    monkeypatch.setattr(watched_file, "_swap", swap_then_save)
    assert watched_file.replace_content(path, seen, b"the daemon's") is False
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"a second save", ["settings.toml"])


@pytest.mark.parametrize("change", [lambda path, seen: replace_content(path, seen, b"the daemon's"), remove_content])
def test_a_file_that_an_editor_has_opened_to_write_is_left_to_it(
    tmp_path: Path, change: Callable[[Path, Content | None], bool]
) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(b"old")
    seen = read_content(path)
    with path.open("r+b") as editor:
        assert change(path, seen) is False
        editor.truncate()
        editor.write(b"a person's")
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"a person's", ["settings.toml"])
    assert change(path, read_content(path)) is True


def test_a_save_while_a_removal_is_taken_back_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"old")
    seen = read_content(path)
    assert seen is not None
    path.write_bytes(b"a first save")
    rename = os.rename

    def rename_then_save(one: Path, other: Path) -> None:
        rename(one, other)
        path.write_bytes(b"a second save")

    monkeypatch.setattr(watched_file.os, "rename", rename_then_save)
    assert remove_content(path, seen) is False
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"a second save", ["mine.toml"])


def test_only_what_was_looked_at_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"old")
    seen = read_content(path)
    assert seen is not None
    path.write_bytes(b"a person's")
    assert remove_content(path, seen) is False
    assert path.read_bytes() == b"a person's"
    again = read_content(path)
    assert again is not None
    assert remove_content(path, again) is True
    assert remove_content(path, again) is False
    assert os.listdir(tmp_path) == []
