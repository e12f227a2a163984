"""Layouts in which data is published are told without help; what is unclear is asked about, with a working answer."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from btmd.data.rows import Row
from btmd.errors import BtmdError, DatasetRefused, RatedAnswers, UnknownLayout
from tests.data_files.cases import inspected
from tests.data_files.layouts import EXAMPLES, Example, Turns
from tests.data_files.programs import libreoffice_csv
from tests.data_files.unclear_layouts import UNCLEAR, Unclear


def said(row: Row) -> Turns | str:
    return row["text"] if "text" in row else tuple((turn["role"], turn["content"]) for turn in row["messages"])


def as_shown(rows: Sequence[Turns | str]) -> list[Turns | str]:
    return [row if isinstance(row, str) else tuple(row) for row in rows]


def test_there_are_enough_of_each_kind() -> None:
    assert len({example.title for example in EXAMPLES}) == len(EXAMPLES) >= 30
    assert len({unclear.title for unclear in UNCLEAR}) == len(UNCLEAR) >= 10


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.title)
def test_a_layout_is_told_without_help(example: Example, tmp_path: Path) -> None:
    content = example.content() if callable(example.content) else example.content
    facts, rows = inspected(tmp_path, example.name, content)
    assert [said(row) for row in rows] == as_shown(example.rows)
    assert [row.get("split") for row in rows if "split" in row] == list(example.sides)
    found = [tuple((turn["role"], turn["content"]) for turn in row["rejected"]) for row in rows if "rejected" in row]
    assert found == list(example.rejected)
    assert (facts.rows_broken, facts.rows_empty) == (0, 0)
    assert example.layout in ("", facts.layout)


@pytest.mark.parametrize("unclear", UNCLEAR, ids=lambda unclear: unclear.title)
def test_what_is_unclear_is_asked_about(unclear: Unclear, tmp_path: Path) -> None:
    with pytest.raises(DatasetRefused) as refused:
        inspected(tmp_path, unclear.name, unclear.content)
    error: BtmdError = refused.value
    assert isinstance(error, UnknownLayout | RatedAnswers)
    assert unclear.names in error.detail
    assert error.hint
    if unclear.is_suggested:
        assert isinstance(error, UnknownLayout)
        assert dict(unclear.answer) in [dict(one) for one in error.suggestions]
    if unclear.answer:
        _, rows = inspected(tmp_path, unclear.name, unclear.content, unclear.answer)
        assert [said(row) for row in rows][: len(unclear.rows)] == as_shown(unclear.rows)


@pytest.mark.parametrize("columns", [2, 3])
def test_texts_in_place_of_names_are_not_told_nor_suggested(columns: int, tmp_path: Path) -> None:
    rows = [(f"Where is lamp {n}?", f"Lamp {n} stands in the tower.", f"harbour {n}")[:columns] for n in range(9)]
    with pytest.raises(UnknownLayout) as refused:
        inspected(tmp_path, "a.csv", libreoffice_csv(list(rows[0]), rows[1:]))
    error = refused.value
    told = f"{error.detail} {error.hint} {error.suggestions}".lower()
    assert "lamp" not in told
    assert "harbour" not in told
    assert "looks like a row" in error.detail
    assert error.suggestions[0] == {"file:header": "none", "prompt": "column 1", "completion": "column 2"}
