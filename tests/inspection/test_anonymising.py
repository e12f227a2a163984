"""The child's part of anonymising: consistent placeholders, nothing kept, the same with one process and several."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from btmd.data.row_chunks import RowsWriter
from btmd.data.rows import Row, read_rows
from btmd.errors import InvalidValue
from btmd.inspection.anonymising import anonymise, preview
from btmd.inspection.personal_data import survey_personal_data
from btmd.inspection.requests import OwnExpression, Replacing, WordList
from btmd.inspection.row_scan import LookingFor, look_through


def quiet(_share: float, _text: str) -> None:
    return


def chat(line: int, question: str, answer: str, rejected: str | None = None) -> dict[str, Any]:
    asked = {"role": "user", "content": question}
    row: dict[str, Any] = {"line": line, "messages": [asked, {"role": "assistant", "content": answer}]}
    if rejected is not None:
        row["rejected"] = [asked, {"role": "assistant", "content": rejected}]
    return row


def written(path: Path, rows: Sequence[Any]) -> Path:
    with RowsWriter(path) as out:
        for row in rows:
            out.write(row)
        out.finish()
    return path


def anonymised(tmp_path: Path, rows: Sequence[Any], replacing: Replacing | None = None) -> list[Row]:
    source = written(tmp_path / "rows", rows)
    made = anonymise(source, len(rows), tmp_path / "out", replacing or Replacing(), quiet)
    assert made.rows_sha256 is not None
    return list(read_rows(tmp_path / "out"))


def test_one_value_has_one_placeholder_in_every_row_turn_and_answer(tmp_path: Path) -> None:
    rows = anonymised(
        tmp_path,
        [
            chat(1, "Mail bob@example.com", "Or BOB@example.com, or eve@example.com"),
            chat(4, "Rufen Sie 0171 1234567 an", "Gern: +49 171 1234567", rejected="Nein, (0171) 123 45 67 ist falsch"),
            {"line": 9, "text": "eve@example.com once more", "split": "held_out"},
        ],
    )
    assert rows[0]["messages"][0]["content"] == "Mail [EMAIL_1]"
    assert rows[0]["messages"][1]["content"] == "Or [EMAIL_1], or [EMAIL_2]"
    assert rows[1]["messages"][0]["content"] == "Rufen Sie [PHONE_1] an"
    assert rows[1]["messages"][1]["content"] == "Gern: [PHONE_1]"
    assert rows[1]["rejected"][0] == rows[1]["messages"][0]
    assert rows[1]["rejected"][1]["content"] == "Nein, [PHONE_1] ist falsch"
    assert rows[2] == {"line": 9, "text": "[EMAIL_2] once more", "split": "held_out"}


def test_placeholders_that_are_there_keep_their_numbers_for_themselves(tmp_path: Path) -> None:
    rows = anonymised(tmp_path, [chat(1, "Mail [EMAIL_3]", "bob@example.com")])
    assert [one["content"] for one in rows[0]["messages"]] == ["Mail [EMAIL_3]", "[EMAIL_4]"]


def test_a_second_run_finds_nothing_and_writes_nothing(tmp_path: Path) -> None:
    anonymised(tmp_path, [chat(1, "Mail bob@example.com", "tel 0171 1234567"), chat(2, "a", "b")])
    again = anonymise(tmp_path / "out", 2, tmp_path / "again", Replacing(), quiet)
    assert (again.rows_sha256, again.changes.rows_changed) == (None, 0)
    assert not (tmp_path / "again").exists()
    assert survey_personal_data(tmp_path / "out", 2, quiet).kinds == ()


def test_changes_tell_counts_and_lines_and_no_text(tmp_path: Path) -> None:
    source = written(
        tmp_path / "rows", [chat(1, "a", "b"), chat(7, "bob@example.com eve@example.com", "bob@example.com")]
    )
    changes = anonymise(source, 2, tmp_path / "out", Replacing(), quiet).changes
    assert (changes.rows_changed, changes.lines) == (1, (7,))
    email = changes.kinds["email"]
    assert (email.rows, email.findings, email.different) == (1, 3, 2)
    assert "bob" not in repr(changes)


def test_lists_patterns_and_kinds_that_stay(tmp_path: Path) -> None:
    replacing = Replacing(
        lists=(WordList("name", ("Max Müller", "Anna")),), patterns=(OwnExpression("customer", r"K-\d+"),), keep=("ip",)
    )
    rows = anonymised(tmp_path, [chat(1, "Anna (K-12) an Max Müller", "von 203.0.113.9, ANNA")], replacing)
    assert [one["content"] for one in rows[0]["messages"]] == [
        "[NAME_1] ([CUSTOMER_1]) an [NAME_2]",
        "von 203.0.113.9, [NAME_1]",
    ]


def test_values_of_a_column_are_replaced_throughout_the_text(tmp_path: Path) -> None:
    table = tmp_path / "customers.csv"
    table.write_text("customer,question\nErika Gabler,Where is it?\nXi,Hello\n")
    replacing = Replacing(columns={"customer": "name"}, source=str(table), source_name="customers.csv")
    rows = anonymised(tmp_path, [chat(1, "It is Erika Gabler again", "Dear ERIKA GABLER, xi is a letter")], replacing)
    assert [one["content"] for one in rows[0]["messages"]] == ["It is [NAME_1] again", "Dear [NAME_1], xi is a letter"]
    with pytest.raises(InvalidValue, match="no column buyer"):
        anonymised(tmp_path, [chat(1, "a", "b")], Replacing(columns={"buyer": "name"}, source=str(table)))


def test_the_columns_are_those_of_the_file_as_it_was_read(tmp_path: Path) -> None:
    table = tmp_path / "customers.csv"
    table.write_bytes("Łucja Żak,tea\nBogusław Kość,milk\n".encode("iso8859-2"))
    replacing = Replacing(
        columns={"column 1": "name"},
        source=str(table),
        source_name="customers.csv",
        source_told={"file:header": "none", "file:encoding": "iso8859-2", "text": "column 2"},
    )
    [row] = anonymised(tmp_path, [chat(1, "Who is Łucja Żak?", "She knows Bogusław Kość.")], replacing)
    assert [turn["content"] for turn in row["messages"]] == ["Who is [NAME_1]?", "She knows [NAME_2]."]


def test_the_preview_shows_each_kind_in_its_context_and_counts_all(tmp_path: Path) -> None:
    rows = [chat(number, f"Please mail p{number}@example.com today", "ok") for number in range(1, 30)]
    source = written(tmp_path / "rows", [*rows, chat(40, "a", "b", rejected="from 203.0.113.9 at night")])
    shown = preview(source, 30, Replacing(), 2, quiet)
    assert {one.kind: (one.rows, one.findings) for one in shown.kinds} == {"email": (29, 29), "ip": (1, 1)}
    assert [(one.line, one.kind, one.found) for one in shown.findings] == [
        (1, "email", "p1@example.com"),
        (2, "email", "p2@example.com"),
        (40, "ip", "203.0.113.9"),
    ]
    first, last = shown.findings[0], shown.findings[-1]
    assert (first.before, first.after, first.placeholder) == ("Please mail ", " today", "[EMAIL_1]")
    assert (last.role, last.rejected) == ("assistant", True)


def test_a_survey_names_rows_and_lines_by_kind(tmp_path: Path) -> None:
    source = written(tmp_path / "rows", [chat(3, "bob@example.com", "eve@example.com"), chat(5, "a", "203.0.113.9")])
    found = survey_personal_data(source, 2, quiet)
    assert (found.rows, found.rows_affected) == (2, 2)
    assert {one.kind: (one.rows, one.findings, one.lines) for one in found.kinds} == {
        "email": (1, 2, (3,)),
        "ip": (1, 1, (5,)),
    }


def test_several_processes_find_what_one_finds_in_the_same_order(tmp_path: Path) -> None:
    rows = [chat(number, f"from p{number % 700}@example.com", "x" * 300) for number in range(1, 5001)]
    source = written(tmp_path / "rows", rows)

    def everything(workers: int) -> list[tuple[int, list[Any]]]:
        return [
            (row["line"], looked.found.get(number, []))
            for looked in look_through(source, LookingFor(), workers=workers)
            for number, row in enumerate(looked.rows)
        ]

    assert everything(3) == everything(1)


def test_a_pattern_without_end_is_refused_from_a_worker_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btmd.privacy.own_patterns.TIME_LIMIT_S", 0.2)
    source = written(tmp_path / "rows", [chat(1, "a" * 4000 + "b", "c")])
    looking_for = LookingFor(patterns=(("customer", r"(?:(a|aa)+)+(?<!a)$"),))
    with pytest.raises(InvalidValue, match="customer"):
        list(look_through(source, looking_for, workers=2))
