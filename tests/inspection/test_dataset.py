"""A dataset is read whatever its format, counted exactly, and refused in words when it cannot be used."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btmd.data.rows import Row, read_rows
from btmd.errors import (
    BtmdError,
    DatasetBinary,
    DatasetDamaged,
    DatasetEmpty,
    DatasetEncoding,
    DatasetRefused,
    DatasetTruncated,
    FileMissing,
    InvalidValue,
    UnknownLayout,
)
from btmd.inspection.dataset import inspect_dataset
from btmd.inspection.facts import DatasetFacts

SECRET = "zebra-in-pyjamas"


def inspected(
    folder: Path, content: bytes | str, name: str = "data.jsonl", mapping: Mapping[str, str] | None = None
) -> tuple[DatasetFacts, list[Row]]:
    """The facts and rows of a file with this content; afterwards only the rows stand in the folder."""
    source = folder / "source"
    source.write_bytes(content.encode() if isinstance(content, str) else content)
    rows_path = folder / "rows.jsonl"
    facts = inspect_dataset(source, name, rows_path, mapping=mapping, progress=lambda _share, _text: None)
    assert sorted(os.listdir(folder)) == ["rows.jsonl", "rows.jsonl.chunks", "source"]
    return facts, list(read_rows(rows_path))


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def said(row: Row) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in row["messages"]]


PAIR = [("user", "Why?"), ("assistant", "Because.")]


@pytest.mark.parametrize(
    ("row", "layout"),
    [
        ({"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]}, "messages"),
        (
            {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]},
            "conversations",
        ),
        ({"instruction": "Why?", "input": "", "output": "Because."}, "instruction"),
        ({"Instruction": "Why?", "Response": "Because."}, "instruction"),
        ({"prompt": "Why?", "completion": " Because."}, "prompt_completion"),
        ({"question": "Why?", "answer": "Because.", "id": 3}, "question_answer"),
        ({"input": "Why?", "output": "Because."}, "question_answer"),
    ],
)
def test_a_known_layout_is_found_and_brought_into_one_form(row: dict[str, Any], layout: str, tmp_path: Path) -> None:
    facts, rows = inspected(tmp_path, lines(row))
    assert facts.layout == layout
    assert [said(kept) for kept in rows] == [PAIR]


def test_an_input_is_part_of_the_question_and_a_system_column_comes_first(tmp_path: Path) -> None:
    row = {"instruction": "Translate.", "input": "Haus", "output": "House", "system": "Be short."}
    _, rows = inspected(tmp_path, lines(row))
    assert said(rows[0]) == [("system", "Be short."), ("user", "Translate.\n\nHaus"), ("assistant", "House")]


def test_contents_in_parts_are_joined_and_numbers_are_text(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Wh"}, {"type": "text", "text": "y?"}]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "Because."}]
    assert said(inspected(tmp_path, lines({"messages": turns}))[1][0]) == PAIR
    assert said(inspected(tmp_path, lines({"question": "6 x 7?", "answer": 42}))[1][0])[1] == ("assistant", "42")


def test_plain_text_rows(tmp_path: Path) -> None:
    facts, rows = inspected(tmp_path, lines({"text": "Once."}, {"text": "Twice."}))
    assert facts.layout == "text"
    assert rows == [{"line": 1, "text": "Once."}, {"line": 2, "text": "Twice."}]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_list_is_read_with_the_lines_its_rows_begin_at(indent: int | None, tmp_path: Path) -> None:
    data = [{"question": f"q{number}", "answer": '[,]}{\\"\n'} for number in range(3)]
    facts, rows = inspected(tmp_path, "\ufeff" + json.dumps(data, indent=indent), "data.json")
    assert facts.format == "json"
    assert [row["line"] for row in rows] == ([1, 1, 1] if indent is None else [2, 6, 10])


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_csv_with_any_separator_and_quoted_line_breaks(separator: str, tmp_path: Path) -> None:
    rows_in = [["question", "answer"], ['"one\nline, ; and | another"', "yes"], ["two", "no"]]
    text = "\r\n".join(separator.join(row) for row in rows_in)
    facts, rows = inspected(tmp_path, text, "data.csv")
    assert (facts.format, facts.separator) == ("csv", separator)
    assert [(row["line"], said(row)[0][1]) for row in rows] == [(2, "one\nline, ; and | another"), (4, "two")]


def test_windows_1252_is_noticed(tmp_path: Path) -> None:
    text = "question;answer\nWo liegt Köln?;Am Rhein – „schön“\nWas heißt das?;Nichts für ungut\n" * 3
    facts, rows = inspected(tmp_path, text.encode("cp1252"), "data.csv")
    assert facts.encoding == "windows-1252"
    assert said(rows[0]) == [("user", "Wo liegt Köln?"), ("assistant", "Am Rhein – „schön“")]


def test_utf_16_with_its_mark_is_read(tmp_path: Path) -> None:
    text = lines({"question": "Köln?", "answer": "Ja."})
    for name in ("utf-16", "utf-16-be"):
        content = (b"\xfe\xff" if name == "utf-16-be" else b"") + text.encode(name)
        facts, rows = inspected(tmp_path, content)
        assert facts.encoding == "utf-16"
        assert said(rows[0])[0] == ("user", "Köln?")


def test_text_becomes_blocks_of_whole_paragraphs(tmp_path: Path) -> None:
    paragraph = "A sentence about nothing in particular. " * 20
    facts, rows = inspected(tmp_path, "\n\n".join([paragraph] * 6) + "\n\nThe end.\n", "notes.md")
    assert facts.format == "text"
    assert [row["line"] for row in rows] == [1, 3, 5, 7, 9, 11, 13][: len(rows)]
    assert "\n\n".join(row["text"] for row in rows).split() == ("\n\n".join([paragraph] * 6) + " The end.").split()
    assert all(len(row["text"]) < 3000 for row in rows)


def test_one_endless_line_of_text_is_split_between_words(tmp_path: Path) -> None:
    _, rows = inspected(tmp_path, "word " * 4000, "notes.txt")
    assert len(rows) > 5
    assert {word for row in rows for word in row["text"].split()} == {"word"}
    assert {row["line"] for row in rows} == {1}


def test_broken_and_empty_rows_are_counted_with_their_lines(tmp_path: Path) -> None:
    good = {"question": "Why?", "answer": "Because."}
    text = (
        lines(good)
        + "{oops}\n\n"
        + lines([1, 2], {"question": "Why?"})
        + lines({"question": "Why?", "answer": "  "}, {"question": "Why?", "answer": None})
        + lines({"question": "Why?", "answer": {"text": "x"}}, good)
        + '{"question": "Wh'
    )
    facts, rows = inspected(tmp_path, text)
    assert [(row.line, row.reason) for row in facts.broken] == [
        (2, "not valid JSON"),
        (4, "not an object with named fields"),
        (5, "no column 'answer'"),
        (8, "column 'answer' is not text"),
        (10, "not valid JSON, the file ends inside the row"),
    ]
    assert facts.empty_lines == (6, 7)
    assert (facts.rows_total, facts.rows_kept, facts.rows_broken, facts.rows_empty) == (9, 2, 5, 2)
    assert facts.duplicates == 1
    assert [row["line"] for row in rows] == [1, 9]


def test_a_line_with_bytes_that_are_no_characters_is_one_broken_row(tmp_path: Path) -> None:
    good = '{"question": "Où?", "answer": "Là."}\n'.encode()
    facts, _ = inspected(tmp_path, good * 3 + good.replace("Là".encode(), b"L\xe0") + good)
    assert [(row.line, row.reason) for row in facts.broken] == [(4, "not valid UTF-8")]
    data = json.dumps([json.loads(good)] * 4, ensure_ascii=False, indent=0).encode()
    facts, _ = inspected(tmp_path, data.replace("Là".encode(), b"L\xe0", 1), "data.json")
    assert [row.reason for row in facts.broken] == ["has bytes that are no characters"]


def test_a_csv_row_of_another_width_and_a_quote_never_closed_are_named(tmp_path: Path) -> None:
    text = 'question,answer\na,b\nc\nd,e,f\ng,h\ni,"j\nk,l\nm,n\n'
    facts, rows = inspected(tmp_path, text, "data.csv")
    assert [row["line"] for row in rows] == [2, 5]
    assert [row.line for row in facts.broken] == [3, 4, 6]
    assert facts.broken[0].reason == "1 columns instead of 2"
    assert "never closed; the 2 lines behind it" in facts.broken[2].reason


def test_a_row_nested_without_end_is_one_broken_row(tmp_path: Path) -> None:
    good = lines({"question": "Why?", "answer": "Because."})
    facts, _ = inspected(tmp_path, good + '{"question": ' + "[" * 100_000 + "\n" + good)
    assert [row.line for row in facts.broken] == [2]


def test_conversations_are_checked_turn_by_turn(tmp_path: Path) -> None:
    user, answer = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    facts, rows = inspected(
        tmp_path,
        lines(
            {"messages": [user, answer]},
            {"messages": [user]},
            {"messages": [user, {"role": "oracle", "content": "b"}]},
            {"messages": [user, {"role": "assistant", "content": None}]},
            {"messages": "a"},
            {"messages": []},
            {"messages": [user, {"role": "assistant", "content": " "}]},
        ),
    )
    assert len(rows) == 1
    assert [row.line for row in facts.broken] == [2, 3, 4, 5]
    assert facts.empty_lines == (6, 7)


def test_the_order_in_which_a_turn_names_its_fields_makes_no_other_rows(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    turned = [dict(reversed(turn.items())) for turn in turns]
    (facts, _), (other, _) = (inspected(tmp_path, lines({"messages": found})) for found in (turns, turned))
    assert facts.rows_sha256 == other.rows_sha256


def test_a_split_column_is_read_in_its_usual_spellings(tmp_path: Path) -> None:
    sides = ["train", "Test", "validation", "held_out", "dev", "eval", "other", ""]
    facts, rows = inspected(tmp_path, lines(*[{"question": "q", "answer": "a", "split": side} for side in sides]))
    assert [row.get("split") for row in rows] == ["train", *["held_out"] * 5, None, None]
    assert (facts.has_split, facts.rows_held_out, facts.unknown_splits) == (True, 5, 1)


def test_a_mapping_names_the_columns(tmp_path: Path) -> None:
    row = {"ask": "Why?", "reply": "Because.", "chosen": "x", "rejected": "y"}
    facts, rows = inspected(tmp_path, lines(row), mapping={"prompt": "ask", "completion": "Reply"})
    assert facts.layout == "mapped"
    assert facts.columns_used == ("ask", "reply")
    assert said(rows[0]) == PAIR
    assert inspected(tmp_path, lines(row), mapping={"text": "ask"})[1] == [{"line": 1, "text": "Why?"}]


@pytest.mark.parametrize(
    ("mapping", "kind"),
    [
        ({"prompt": "ask", "completion": "nowhere"}, UnknownLayout),
        ({"prompt": "ask"}, InvalidValue),
        ({"text": "ask", "prompt": "reply"}, InvalidValue),
        ({"speaker": "ask"}, InvalidValue),
    ],
)
def test_a_mapping_that_cannot_be_is_refused(mapping: dict[str, str], kind: type[BtmdError], tmp_path: Path) -> None:
    with pytest.raises(kind):
        inspected(tmp_path, lines({"ask": SECRET, "reply": SECRET}), mapping=mapping)


ONE_ROW = lines({"question": SECRET, "answer": SECRET})
SHIFT_JIS = '{"question": "日本の首都はどこですか。教えてください。", "answer": "東京です。とても大きな町です。"}\n' * 9
KOI8 = '{"question": "Где находится столица этой страны?", "answer": "Столица находится в Москве."}\n' * 9
MISTAKE = b'[{"text": "a"},\n{"text" "b"},\n{"text": "cccccccccccccccccc"}]'
SAME = lines({"prompt": "a", "chosen": SECRET, "rejected": SECRET})
REFUSED: dict[str, tuple[bytes, str, type[DatasetRefused]]] = {
    "no bytes at all": (b"", "data.jsonl", DatasetEmpty),
    "only white space": (b" \n\n ", "data.jsonl", DatasetEmpty),
    "an empty list": (b"[]", "data.json", DatasetEmpty),
    "a header without rows": (b"question,answer\n", "data.csv", DatasetEmpty),
    "every row empty": (b'{"question": "a", "answer": ""}\n' * 3, "data.jsonl", DatasetEmpty),
    "every row broken": (b"{nonsense}\n" * 3, "data.jsonl", DatasetEmpty),
    "no row to train on": (b'{"question": "a", "answer": "b", "split": "test"}', "data.jsonl", DatasetEmpty),
    "a list cut off inside a row": (json.dumps([{"text": SECRET}] * 5)[:-20].encode(), "data.json", DatasetTruncated),
    "a list cut off after a row": (json.dumps([{"text": SECRET}] * 5)[:-1].encode(), "data.json", DatasetTruncated),
    "an object cut off": (b'{\n "data": [\n {"text": "a"},\n', "data.json", DatasetTruncated),
    "one object over several lines": (json.dumps({"data": [1]}, indent=1).encode(), "data.json", UnknownLayout),
    "a list with a mistake": (MISTAKE, "x.json", DatasetDamaged),
    "text after the list": (b'[{"text": "a"}] and so on', "data.json", DatasetDamaged),
    "zero bytes inside": (b'{"text": "a\0\0\0"}', "data.jsonl", DatasetBinary),
    "random bytes": (bytes(range(256)) * 40, "data.jsonl", DatasetBinary),
    "control characters": (bytes(range(1, 9)) * 400, "data.txt", DatasetBinary),
    "a zip archive": (b"PK\x03\x04" + b"x" * 99, "data.csv", DatasetBinary),
    "half a parquet file": (b"PAR1" + b"x" * 99, "data.jsonl", DatasetTruncated),
    "utf-16 without its mark": (ONE_ROW.encode("utf-16-le"), "data.jsonl", DatasetEncoding),
    "utf-16 cut in a character": (ONE_ROW.encode("utf-16")[:-1], "data.jsonl", DatasetEncoding),
    "japanese in shift-jis": (SHIFT_JIS.encode("shift-jis"), "data.jsonl", DatasetEncoding),
    "russian in koi8-r": (KOI8.encode("koi8-r"), "data.jsonl", DatasetEncoding),
    "one column that is not text": (lines({"question": SECRET}).encode(), "data.jsonl", UnknownLayout),
    "one column of csv": (b"question\nwhy\nwhat\n", "data.csv", UnknownLayout),
    "unknown columns": (lines({"a": SECRET, "b": SECRET}).encode(), "data.jsonl", UnknownLayout),
    "two columns of one name": (b"text,text\na,b\n", "data.csv", UnknownLayout),
    "prose without a telling name": (b"Once upon a time.\nThe end.\n", "story", UnknownLayout),
    "prose called json": (b"Once upon a time.\nThe end.\n", "story.json", UnknownLayout),
    "pairs without a difference": (SAME.encode(), "x.jsonl", DatasetEmpty),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_words_and_leaves_nothing(case: str, tmp_path: Path) -> None:
    content, name, kind = REFUSED[case]
    with pytest.raises(kind) as refusal:
        inspected(tmp_path, content, name)
    assert type(refusal.value) is kind
    assert os.listdir(tmp_path) == ["source"]
    assert SECRET not in refusal.value.detail + refusal.value.hint
    assert refusal.value.detail.endswith(".")
    assert len(refusal.value.detail) > 20
    assert refusal.value.hint


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for source, kind in ((tmp_path / "nothing.jsonl", FileMissing), (tmp_path, DatasetRefused)):
        with pytest.raises(kind):
            inspect_dataset(source, source.name, tmp_path / "rows", progress=lambda _share, _text: None)
    assert os.listdir(tmp_path) == []


@given(content=st.binary(max_size=400), name=st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.txt", "a"]))
@settings(max_examples=150)
def test_any_bytes_are_read_or_refused(content: bytes, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")
    try:
        facts, rows = inspected(folder, content, name)
    except BtmdError:
        return
    assert facts.rows_kept == len(rows) > 0
    assert facts.rows_total == facts.rows_kept + facts.rows_broken + facts.rows_empty


@given(
    rows=st.lists(st.text(min_size=1, max_size=40).filter(str.strip), min_size=1, max_size=12),
    cut=st.integers(1, 30),
)
@settings(max_examples=80)
def test_a_json_list_says_the_same_as_its_lines_and_is_refused_when_cut(
    rows: list[str], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("list")
    data = [{"text": row} for row in rows]
    _, as_lines = inspected(folder, lines(*data))
    _, as_list = inspected(folder, json.dumps(data), "data.json")
    assert [row["text"] for row in as_list] == [row["text"] for row in as_lines] == rows
    whole = json.dumps(data)
    with pytest.raises(DatasetRefused):
        inspected(folder, whole[: max(1, len(whole) - cut)], "data.json")


MEASURE = """
import resource, sys
from pathlib import Path
from btmd.inspection.dataset import inspect_dataset
facts = inspect_dataset(Path(sys.argv[1]), sys.argv[1], Path(sys.argv[1] + ".rows"), progress=lambda a, b: None)
print(facts.rows_kept, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "txt"])
def test_memory_stays_flat_as_the_file_grows(form: str, tmp_path: Path) -> None:
    peaks = []
    for rows in (4_000, 100_000):
        path = tmp_path / f"{rows}.{form}"
        answer = "It was a dark and stormy night; the rain fell in torrents. " * 5
        with path.open("w") as out:
            out.write({"json": "[", "csv": "question,answer\n"}.get(form, ""))
            for number in range(rows):
                row = json.dumps({"question": f"q{number}", "answer": answer})
                if form == "csv":
                    row = f'{number},"{answer}"'
                elif form == "txt":
                    row = answer + "\n"
                out.write(("," if form == "json" and number else "") + row + "\n")
            out.write("]" if form == "json" else "")
        kept, peak_kb = subprocess.check_output([sys.executable, "-c", MEASURE, str(path)], text=True).split()
        assert int(kept) >= rows // 10
        peaks.append(int(peak_kb))
    assert peaks[1] - peaks[0] < 8_000, peaks
