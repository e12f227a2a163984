"""Tables as text, a row a line and a mark between the columns: which mark, what the first line holds, and the rows."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from btmd.errors import DatasetUnsafe, UnknownLayout
from btmd.reading.records import MAX_RECORD_BYTES, Record

MOST_COLUMNS: Final = 10_000
_SAMPLE_CHARS: Final = 1 << 16
_LONGEST_FIRST_LINE_CHARS: Final = 1 << 24
_LOOKED_AT_ROWS: Final = 50
_SEPARATORS: Final = (",", ";", "\t", "|")
_SEPARATOR_LINE: Final = re.compile(r"\ufeff?sep=(.)\r?\n")
"""What a spreadsheet may write before the header."""


class Table(Struct, frozen=True):
    """How a table is written, and its columns' names: ``column 1`` and so on where the first line is a row already."""

    separator: str
    columns: tuple[str, ...]
    first_line: tuple[str, ...]
    """What stands in it, be it names or a row."""
    has_header: bool
    is_told: bool
    """Whether a person said so."""
    skipped_lines: int = 0
    """Before the first line."""

    @property
    def repeats_names(self) -> bool:
        """Whether two cells of the first line are the same."""
        filled = [cell for cell in self.first_line if cell]
        return len(set(filled)) < len(filled)


def numbered(count: int) -> tuple[str, ...]:
    """What columns are called by their places."""
    return tuple(f"column {number}" for number in range(1, count + 1))


def table_of(separator: str, first_line: Sequence[str], *, has_header: bool | None, skipped_lines: int = 0) -> Table:
    """A table by its first line; a second column of the same name is called by its place."""
    cells = tuple(cell.strip() for cell in first_line)
    places = numbered(len(cells))
    columns: dict[str, None] = {}
    for cell, place in zip(cells, places, strict=True):
        columns[cell if cell and cell not in columns else place] = None
    names = tuple(columns) if has_header is not False and len(columns) == len(cells) else places
    return Table(separator, names, cells, has_header is not False, has_header is not None, skipped_lines)


def detect_table(file: io.TextIOWrapper, *, is_named_table: bool, has_header: bool | None) -> Table:
    """How the table is written. Raises UnknownLayout, DatasetUnsafe for a first line without end."""
    sample = file.read(_SAMPLE_CHARS)
    told = _SEPARATOR_LINE.match(sample)
    separators = _SEPARATORS if told is None else (told.group(1),)
    begin = told.end() if told is not None else 0
    separator, first_line = _first_line(sample[begin:], separators)
    # A first line that fills the sample is not whole.
    while len(sample) >= _SAMPLE_CHARS and "\n" not in sample[begin:] and "\r" not in sample[begin:]:
        more = file.read(len(sample))
        if not more:
            break
        if len(sample) >= _LONGEST_FIRST_LINE_CHARS:
            raise DatasetUnsafe(
                f"The first line has more than {_LONGEST_FIRST_LINE_CHARS >> 20} million characters.",
                hint="Check that the file is what its name says: a table has a row a line.",
            )
        sample += more
        separator, first_line = _first_line(sample[begin:], separators)
    if not is_named_table and len(first_line) < 2:
        raise UnknownLayout(
            "It cannot be told what kind of file this is.",
            hint="Give it a name that says so: .csv, .txt, .docx, .odt, .pdf, .html, .md, .json, .jsonl or .parquet.",
        )
    if len(first_line) > MOST_COLUMNS:
        raise UnknownLayout(
            f"The first line has {len(first_line):,} columns, more than the {MOST_COLUMNS:,} that can be looked at.",
            hint="Save the columns to learn from as a table of their own; if it lies on its side, turn it round.",
        )
    return table_of(separator, first_line, has_header=has_header, skipped_lines=int(told is not None))


def _first_line(sample: str, separators: Sequence[str]) -> tuple[str, list[str]]:
    """The mark by which most rows have as many columns as the first one, and that one."""
    best: tuple[int, int] | None = None
    chosen: tuple[str, list[str]] = (",", [])
    for order, separator in enumerate(separators):
        rows = _first_rows(sample, separator)
        if not rows:
            continue
        agreeing = sum(1 for row in rows if len(row) == len(rows[0]))
        score = (agreeing if len(rows[0]) > 1 else 0, -order)
        if best is None or score > best:
            best, chosen = score, (separator, rows[0])
    return chosen


def _first_rows(sample: str, separator: str) -> list[list[str]]:
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(sample, newline=""), delimiter=separator):
            if row:
                rows.append(row)
            if len(rows) == _LOOKED_AT_ROWS:
                break
    except csv.Error:
        pass
    return rows


def table_records(file: io.TextIOWrapper, table: Table) -> Iterator[Record]:
    """Every row, broken ones with their reason. Raises DatasetUnsafe for a line without end."""
    csv.field_size_limit(MAX_RECORD_BYTES)
    lines = _bounded_lines(file)
    for _ in range(table.skipped_lines):
        next(lines, "")
    reader = csv.reader(lines, delimiter=table.separator, strict=True)
    is_header = table.has_header
    while True:
        line = reader.line_num + 1 + table.skipped_lines
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield Record(line, broken=_reason(error, lines=reader.line_num + table.skipped_lines - line))
            is_header = False
            continue
        if row is None:
            return
        if not row:
            continue
        if is_header:
            is_header = False
        elif len(row) != len(table.columns):
            yield Record(line, broken=f"{len(row)} columns instead of {len(table.columns)}")
        else:
            yield Record(line, fields=dict(zip(table.columns, row, strict=True)))


def _bounded_lines(file: io.TextIOWrapper) -> Iterator[str]:
    while line := file.readline(MAX_RECORD_BYTES):
        if len(line) >= MAX_RECORD_BYTES:
            raise DatasetUnsafe(
                f"The file has a line of more than {MAX_RECORD_BYTES >> 20} MiB.",
                hint="Check that it is what its name says: a table has a row a line.",
            )
        yield line


def _reason(error: csv.Error, *, lines: int) -> str:
    if "unexpected end" not in str(error):
        return "quotes are not in order"
    swallowed = f"; the {lines} lines behind it cannot be told apart" if lines > 0 else ""
    return "a quote is opened and never closed" + swallowed
