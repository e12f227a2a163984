"""Opens a dataset file of unknown format: what is it, in which characters, and its records one at a time.

Memory stays flat: whatever the size of the file, a few chunks and one record are held.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import msgspec

from btmd.errors import DatasetEmpty, DatasetUnsafe, UnknownLayout
from btmd.reading.json_lines import JsonLines
from btmd.reading.json_values import json_list, json_rows_under, json_values, shape_of_object
from btmd.reading.layouts import SIDES
from btmd.reading.names import plain
from btmd.reading.records import MAX_RECORD_BYTES, Record
from btmd.reading.text_blocks import text_blocks

Format = Literal["jsonl", "json", "csv", "text"]

_SAMPLE_CHARS: Final = 1 << 16
_LOOKED_AT_LINES: Final = 50
_SEPARATORS: Final = (",", ";", "\t", "|")
_SUFFIXES: Final[dict[str, Format]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "text",
    ".md": "text",
    ".markdown": "text",
}
_TURNS: Final = ("messages", "conversations", "conversation")
"""Lists of objects under these names are one conversation."""
_SEPARATOR_LINE: Final = re.compile(r"\ufeff?sep=(.)\r?\n")
"""What a spreadsheet may write before the header."""
_MARKDOWN: Final = (".md", ".markdown")


@dataclass(frozen=True, slots=True)
class Opened:
    """A dataset file whose format is known. ``header`` is set for CSV."""

    format: Format
    separator: str | None = None
    header: tuple[str, ...] | None = None
    markdown: bool = False
    """Headings say where something new begins."""
    skipped_lines: int = 0
    """Before a CSV file's header."""
    json_form: str = "list"
    """``list``, ``values`` one after another, or ``rows`` in the lists under the keys ``rows_under``."""
    rows_under: Mapping[str, str | None] = field(default_factory=dict)


def detect(path: Path, name: str, encoding: str) -> Opened:
    """Tell the format by the content, and by the name's ending where the content does not say.

    Raises DatasetEmpty, DatasetTruncated, DatasetDamaged or UnknownLayout.
    """
    with _open_text(path, encoding) as file:
        sample = file.read(_SAMPLE_CHARS)
    if not sample.strip():
        raise DatasetEmpty("The file holds nothing but white space.", hint="Check that the right file was given.")
    suffix = _SUFFIXES.get(Path(name).suffix.lower())
    begins = sample.lstrip()[:1]
    if suffix == "text":
        return _table_called_text(sample, name) or Opened("text", markdown=Path(name).suffix.lower() in _MARKDOWN)
    if begins == "[" and _has_a_list_a_line(sample):
        return Opened("jsonl")
    if begins == "[" and suffix in (None, "json", "jsonl"):
        return Opened("json")
    if begins == "{":
        if suffix == "jsonl" or _has_an_object_a_line(sample):
            return Opened("jsonl")
        return _detect_object(path, encoding)
    if suffix in ("json", "jsonl"):
        raise UnknownLayout(
            "The file is called JSON but does not begin with an object or a list.",
            hint="Give one JSON object a line, or a list of objects.",
        )
    return _detect_csv(sample, is_named_csv=suffix == "csv")


def _table_called_text(sample: str, name: str) -> Opened | None:
    """Rows that a mail program or a spreadsheet gave the ending of plain text."""
    if Path(name).suffix.lower() != ".txt":
        return None
    lines = [line for line in sample.splitlines()[:_LOOKED_AT_LINES] if line.strip()]
    whole = lines if len(sample) < _SAMPLE_CHARS or len(lines) < _LOOKED_AT_LINES else lines[:-1]
    if whole and all(line.lstrip().startswith("{") and _is_json(line) for line in whole):
        return Opened("jsonl")
    tabs = {line.count("\t") for line in whole}
    header = [cell.strip() for cell in whole[0].split("\t")] if whole else []
    if len(whole) > 2 and len(tabs) == 1 and tabs != {0} and all(header) and len(set(header)) == len(header):
        return Opened("csv", "\t", tuple(header))
    return None


def _has_a_list_a_line(sample: str) -> bool:
    first, newline, rest = sample.lstrip().partition("\n")
    return bool(newline) and rest.lstrip().startswith("[") and _is_json(first)


def _has_an_object_a_line(sample: str) -> bool:
    """Whether the first line is an object, and not the only line with something in it."""
    first, newline, rest = sample.lstrip().partition("\n")
    if not newline or not rest.strip():
        return False
    return _is_json(first) and (rest.lstrip().startswith("{") or not _is_json(first + rest))


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    except RecursionError:
        return True
    except UnicodeEncodeError:  # the sample has bytes that are no characters; the records tell which
        return True
    return True


def _detect_object(path: Path, encoding: str) -> Opened:
    """What an object is that fills the file: a row, or what holds the rows."""
    with _open_text(path, encoding) as file:
        shape = shape_of_object(file)
    lists = [key for key in shape.lists_of_objects if plain(key) not in _TURNS]
    if shape.has_more or (shape.lists_of_objects and not lists) or not shape.lists_of_objects + shape.lists_of_others:
        if len(shape.objects) > 1 and not shape.has_more and not shape.others:
            raise _by_columns()
        return Opened("json", json_form="values")
    if len(lists) == 1:
        return Opened("json", json_form="rows", rows_under={lists[0]: None})
    if len(lists) > 1 and all(key.strip().lower() in SIDES for key in lists):
        return Opened("json", json_form="rows", rows_under={key: SIDES[key.strip().lower()] for key in lists})
    if len(lists) > 1:
        shown = ", ".join(f"'{key[:40]}'" for key in lists[:10])
        raise UnknownLayout(
            f"The file is one JSON object with several lists of rows: {shown}.", hint="Save the one to learn by itself."
        )
    if len(shape.lists_of_others) > 1:
        raise _by_columns()
    return Opened("json", json_form="values")


def _by_columns() -> UnknownLayout:
    return UnknownLayout(
        "The JSON is written column by column, not row by row.",
        hint="Save it as one object a row; from pandas: to_json(orient='records', lines=True).",
    )


def _detect_csv(sample: str, *, is_named_csv: bool) -> Opened:
    told = _SEPARATOR_LINE.match(sample)
    body = sample[told.end() :] if told is not None else sample
    best: tuple[int, int] | None = None
    chosen: tuple[str, list[str]] = (",", [])
    for order, separator in enumerate(_SEPARATORS if told is None else (told.group(1),)):
        rows = _first_rows(body, separator)
        if not rows:
            continue
        agreeing = sum(1 for row in rows if len(row) == len(rows[0]))
        score = (agreeing if len(rows[0]) > 1 else 0, -order)
        if best is None or score > best:
            best, chosen = score, (separator, rows[0])
    separator, header = chosen
    if not is_named_csv and len(header) < 2:
        raise UnknownLayout(
            "It cannot be told what kind of file this is.",
            hint="Use a name ending in .jsonl, .json, .csv, .txt, .md, .parquet, .docx, .odt, .html or .pdf.",
        )
    names = [name.strip() or f"column {number}" for number, name in enumerate(header, 1)]
    if len(set(names)) < len(names):
        raise UnknownLayout(
            "Two columns of the CSV file have the same name.", hint="Give every column in the first line its own name."
        )
    return Opened("csv", separator, tuple(names), skipped_lines=int(told is not None))


def _first_rows(sample: str, separator: str) -> list[list[str]]:
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(sample, newline=""), delimiter=separator):
            if row:
                rows.append(row)
            if len(rows) == 50:
                break
    except csv.Error:
        pass
    return rows


def read_records(path: Path, opened: Opened, encoding: str) -> Iterator[Record]:
    """Yield every record, broken ones with their reason. Raises DatasetTruncated or DatasetDamaged for a JSON list."""
    if opened.format == "jsonl":
        if encoding == "utf-8":
            with path.open("rb") as raw:
                yield from JsonLines(raw)
        else:
            with _open_text(path, encoding) as file:
                yield from JsonLines(_Utf8Lines(file))
        return
    with _open_text(path, encoding) as file:
        if opened.format == "json":
            yield from _json_records(file, opened)
        elif opened.format == "csv":
            yield from _csv_rows(file, opened)
        else:
            for line, text in text_blocks(file, markdown=opened.markdown):
                yield Record(line, fields={"text": text})


def _json_records(file: io.TextIOWrapper, opened: Opened) -> Iterator[Record]:
    if opened.json_form == "rows":
        return json_rows_under(file, opened.rows_under, "split")
    return json_values(file) if opened.json_form == "values" else json_list(file)


def _open_text(path: Path, encoding: str) -> io.TextIOWrapper:
    codec = "utf-8-sig" if encoding == "utf-8" else "cp1252" if encoding == "windows-1252" else encoding
    # Bytes that are no characters survive as surrogates, so that the record they stand in can be named.
    errors = "surrogateescape" if encoding == "utf-8" else "replace"
    return path.open("r", encoding=codec, errors=errors, newline="")


class _Utf8Lines:
    """Lines of a text file as UTF-8 bytes, for the JSON decoder."""

    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file = file

    def readline(self, limit: int) -> bytes:
        return self._file.readline(limit).encode("utf-8", "surrogateescape")


def _csv_rows(file: io.TextIOWrapper, opened: Opened) -> Iterator[Record]:
    header = opened.header or ()
    csv.field_size_limit(MAX_RECORD_BYTES)
    lines = _bounded_lines(file)
    for _ in range(opened.skipped_lines):
        next(lines, "")
    reader = csv.reader(lines, delimiter=opened.separator or ",", strict=True)
    is_header = True
    while True:
        line = reader.line_num + 1 + opened.skipped_lines
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield Record(line, broken=_csv_reason(error, lines=reader.line_num + opened.skipped_lines - line))
            is_header = False
            continue
        if row is None:
            return
        if not row:
            continue
        if is_header:
            is_header = False
        elif len(row) != len(header):
            yield Record(line, broken=f"{len(row)} columns instead of {len(header)}")
        else:
            yield Record(line, fields=dict(zip(header, row, strict=True)))


def _bounded_lines(file: io.TextIOWrapper) -> Iterator[str]:
    while line := file.readline(MAX_RECORD_BYTES):
        if len(line) >= MAX_RECORD_BYTES:
            raise DatasetUnsafe(
                f"The file has a line of more than {MAX_RECORD_BYTES >> 20} MiB.",
                hint="Check that it is what its name says: a table has a row a line.",
            )
        yield line


def _csv_reason(error: csv.Error, *, lines: int) -> str:
    if "unexpected end" not in str(error):
        return "quotes are not in order"
    swallowed = f"; the {lines} lines behind it cannot be told apart" if lines > 0 else ""
    return "a quote is opened and never closed" + swallowed
