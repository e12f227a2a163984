"""Rows in chunks: what is written is read, versions share what they have in common, damage is found."""

import random
from pathlib import Path

import pytest

from btmd.data.row_chunks import RowsFile, RowsWriter, chunks_folder, read_list
from btmd.data.rows import Row, decode_row, read_rows
from btmd.errors import Damaged, FileMissing


def rows_of(count: int, seed: int = 0) -> list[Row]:
    draw = random.Random(seed)
    return [{"line": number, "text": draw.randbytes(200).hex()} for number in range(1, count + 1)]


def written(path: Path, rows: list[Row]) -> str:
    with RowsWriter(path) as out:
        for row in rows:
            out.write(row)
        return out.finish().sha256


def test_rows_come_back_in_order_with_their_lines(tmp_path: Path) -> None:
    rows = rows_of(9000)
    del rows[17:40]
    written(tmp_path / "rows", rows)
    assert list(read_rows(tmp_path / "rows")) == rows
    assert len(read_list(tmp_path / "rows")) > 2
    assert RowsFile(tmp_path / "rows").rows == len(rows)


def test_a_row_is_read_by_its_place(tmp_path: Path) -> None:
    rows = rows_of(9000)
    written(tmp_path / "rows", rows)
    file, place = RowsFile(tmp_path / "rows"), 0
    for row, (line, _) in zip(rows, file.lines(), strict=True):
        if row["line"] % 977 == 1:
            assert decode_row(*RowsFile(tmp_path / "rows").line_at(place)) == row
        place += len(line)
    assert place == file.size_bytes


def test_an_inserted_row_makes_few_new_chunks(tmp_path: Path) -> None:
    rows = rows_of(40_000)
    written(tmp_path / "before", rows)
    before = {chunk.sha256 for chunk in read_list(tmp_path / "before")}
    more: list[Row] = [{"line": row["line"] + 1, "text": row["text"]} for row in rows]
    more.insert(2000, {"line": 2001, "text": "in between"})
    for number, row in enumerate(more, 1):
        row["line"] = number
    written(tmp_path / "after", more)
    after = {chunk.sha256 for chunk in read_list(tmp_path / "after")}
    assert len(before) > 8
    assert len(after - before) <= 2
    assert list(read_rows(tmp_path / "after")) == more


def test_the_same_rows_have_the_same_name(tmp_path: Path) -> None:
    assert written(tmp_path / "one", rows_of(3000)) == written(tmp_path / "other", rows_of(3000))


def test_what_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        written(tmp_path / "rows", [*rows_of(6000), {"line": 6001, "text": "\ud800"}])
    assert list(tmp_path.iterdir()) == []


def test_damage_is_found_before_a_wrong_row_is_handed_out(tmp_path: Path) -> None:
    rows = rows_of(9000)
    sha256 = written(tmp_path / "rows", rows)
    chunk = chunks_folder(tmp_path / "rows") / read_list(tmp_path / "rows")[1].sha256
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    first = read_list(tmp_path / "rows")[0].rows
    lines = RowsFile(tmp_path / "rows").lines(sha256)
    assert [decode_row(*next(lines)) for _ in range(first)] == rows[:first]
    with pytest.raises(Damaged):
        next(lines)
    chunk.unlink()
    with pytest.raises(FileMissing):
        list(RowsFile(tmp_path / "rows").lines())


def test_another_list_than_the_one_named_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "rows", rows_of(10))
    with pytest.raises(Damaged):
        list(RowsFile(tmp_path / "rows").lines("0" * 64))


def test_plain_rows_of_earlier_releases_are_read(tmp_path: Path) -> None:
    plain = tmp_path / "rows"
    plain.write_bytes(b'{"line":3,"text":"one"}\n{"line":4,"text":"two"}\n')
    assert list(read_rows(plain)) == [{"line": 3, "text": "one"}, {"line": 4, "text": "two"}]
    assert decode_row(*RowsFile(plain).line_at(24)) == {"line": 4, "text": "two"}
    with pytest.raises(Damaged):
        list(RowsFile(plain).lines("0" * 64))


def test_one_row_longer_than_a_chunk(tmp_path: Path) -> None:
    rows: list[Row] = [{"line": 1, "text": "a"}, {"line": 2, "text": "b" * 9_000_000}, {"line": 3, "text": "c"}]
    written(tmp_path / "rows", rows)
    assert list(read_rows(tmp_path / "rows")) == rows
