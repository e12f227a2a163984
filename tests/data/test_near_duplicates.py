"""Rows that say the same are found, rows that only look alike are not, however they are read."""

import random
from pathlib import Path

import numpy as np
import pytest

from btmd.data import near_duplicates
from btmd.data.near_duplicates import Groups, SignatureFile, groups_of
from btmd.data.rows import Row
from btmd.data.shingles import signatures
from tests.data.planted import EDITS, Writer, as_row, edited, plant, told_apart

LONG = "The harbour master of the old town writes down each evening which boats came in and what they had caught. "


def groups(rows: list[Row], folder: Path, *, files: int = 1) -> Groups:
    signed = [SignatureFile(folder) for _ in range(files)]
    for number, row in enumerate(rows):
        signed[number % files].take(number, row)
    return groups_of(signed, folder)


def same(first: Row, second: Row, folder: Path) -> bool:
    return len(groups([first, second], folder).rows) == 1


def test_planted_near_duplicates_are_found_and_look_alikes_are_not(tmp_path: Path) -> None:
    """A fresh seed each time, named when it fails."""
    seed = random.SystemRandom().randrange(2**32)
    planted = plant(seed, 1500)
    recall, precision = told_apart(planted, tmp_path)
    assert recall > 0.95, f"recall {recall:.3f} with seed {seed}"
    assert precision > 0.9, f"precision {precision:.3f} with seed {seed}"


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_that_says_the_same_is_a_near_duplicate(edit: str, tmp_path: Path) -> None:
    writer = Writer(random.Random(7))
    question, answer = writer.sentences(5, 5), writer.sentences(5, 5)
    again = as_row(edited(question, edit, writer), edited(answer, edit, writer))  # type: ignore[arg-type]
    assert same(as_row(" ".join(question), " ".join(answer)), again, tmp_path)


def test_another_number_is_another_row(tmp_path: Path) -> None:
    one = as_row(LONG + "On Monday 14 boats came in.", LONG)
    assert not same(one, as_row(LONG + "On Monday 15 boats came in.", LONG), tmp_path)
    assert same(one, as_row(LONG + "On monday, 14 boats came in!", LONG), tmp_path)


def test_another_answer_or_another_question_about_the_same_is_another_row(tmp_path: Path) -> None:
    one = as_row(LONG * 5 + "Who writes?", "The harbour master of the old town does.")
    assert not same(one, as_row(LONG * 5 + "When does he write?", "He does so each evening."), tmp_path)
    assert not same(as_row(LONG, "positive"), as_row(LONG, "negative"), tmp_path)


def test_another_system_message_is_another_row_and_a_long_common_one_makes_none_alike(tmp_path: Path) -> None:
    one, other = as_row(LONG, LONG, system="Be brief."), as_row(LONG, LONG, system="Explain at length.")
    assert not same(one, other, tmp_path)
    first = as_row("Why is the sky blue?", "Air scatters blue light.", system=LONG * 3)
    assert not same(first, as_row("Who wrote Faust?", "Goethe did so.", system=LONG * 3), tmp_path)


def test_rows_without_words_are_alone_unless_they_are_the_same(tmp_path: Path) -> None:
    found = groups([as_row("??", "!!"), as_row("...", ";"), as_row("??", "!!"), as_row("?!", "?")], tmp_path)
    assert found.labels().tolist() == [0, 1, 0, 3]
    assert found.exact.tolist() == [True]


def test_scripts_without_spaces_are_compared_by_their_characters(tmp_path: Path) -> None:
    text = "港の責任者は毎晩どの船が入港して何を獲ったかを書き留めています。そして朝にはそれを読み上げます"
    assert same(as_row(text, text), as_row(text.replace("。", "、"), text.replace("毎晩", "毎夜")), tmp_path)
    assert not same(as_row(text, text), as_row(text[::-1], text[::-1]), tmp_path)


def test_the_first_row_leads_and_exact_repeats_are_told_from_near_ones(tmp_path: Path) -> None:
    rows = [as_row("Other", "Something else"), as_row(LONG, LONG), as_row(LONG.upper(), LONG), as_row(LONG, LONG)]
    found = groups(rows, tmp_path)
    assert found.labels().tolist() == [0, 1, 1, 1]
    assert found.rows.tolist() == [2, 3]
    assert found.exact.tolist() == [False, True]


def test_groups_do_not_depend_on_who_read_which_rows_nor_on_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = plant(3, 300).rows
    alone = groups(rows, tmp_path).labels()
    assert np.array_equal(groups(rows, tmp_path, files=3).labels(), alone)
    monkeypatch.setattr(near_duplicates, "_KEYS_AT_ONCE", 100)
    monkeypatch.setattr(near_duplicates, "_BLOCK_RECORDS", 64)
    assert np.array_equal(groups(rows, tmp_path).labels(), alone)


def test_groups_are_kept_in_a_file(tmp_path: Path) -> None:
    found = groups([as_row(LONG, LONG), as_row(LONG, LONG)], tmp_path)
    with (tmp_path / "groups").open("wb") as file:
        found.save(file)
    kept = Groups.load(tmp_path / "groups")
    assert (kept.rows.tolist(), kept.leaders.tolist(), kept.exact.tolist(), kept.total) == ([1], [0], [True], 2)


def test_nothing_is_left_in_the_folder(tmp_path: Path) -> None:
    groups(plant(1, 50).rows, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_rows_are_no_groups(tmp_path: Path) -> None:
    assert groups([], tmp_path).total == 0


def test_signatures_stay_the_same_in_every_release() -> None:
    """The held-out split stands on them: a training that is resumed would see other rows."""
    answer = "Sieben, said the “harbour master” – at 20:15."
    (found,) = signatures([as_row("How many boats came in on 14 May?", answer, system="Be brief.")])
    assert int(found["fixed"]) == 13637674321832716316
    assert found["slots"][[0, 63, 64, 127]].tolist() == [16201, 4365, 5553, 265]
