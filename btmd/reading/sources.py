"""Opens a dataset file of unknown format: what is it, in which characters, and its records one at a time.

Memory stays flat: whatever the size of the file, a few chunks and one record are held.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct, field

from btmd.errors import DatasetEmpty, UnknownLayout
from btmd.reading.json_lines import JsonLines
from btmd.reading.json_values import json_list, json_rows_under, json_values, shape_of_object
from btmd.reading.layouts import SIDES
from btmd.reading.names import plain
from btmd.reading.records import Record
from btmd.reading.separated_values import Table, detect_table, table_of, table_records
from btmd.reading.text_blocks import text_blocks

Format = Literal["jsonl", "json", "csv", "text"]

_SAMPLE_CHARS: Final = 1 << 16
_LOOKED_AT_LINES: Final = 50
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
_MARKDOWN: Final = (".md", ".markdown")


class Opened(Struct, frozen=True):
    """A dataset file whose format is known. ``table`` is set for CSV."""

    format: Format
    table: Table | None = None
    markdown: bool = False
    """Headings say where something new begins."""
    json_form: str = "list"
    """``list``, ``values`` one after another, or ``rows`` in the lists under the keys ``rows_under``."""
    rows_under: Mapping[str, str | None] = field(default_factory=dict)


def detect(path: Path, name: str, encoding: str, *, has_header: bool | None = None) -> Opened:
    """Tell the format by the content, and by the name's ending where the content does not say.

    ``has_header`` is what a person said of a table's first line. Raises DatasetEmpty, DatasetTruncated, DatasetDamaged
    or UnknownLayout.
    """
    with _open_text(path, encoding) as file:
        sample = file.read(_SAMPLE_CHARS)
    if not sample.strip():
        raise DatasetEmpty("The file holds nothing but white space.", hint="Check that the right file was given.")
    suffix = _SUFFIXES.get(Path(name).suffix.lower())
    begins = sample.lstrip()[:1]
    if suffix == "text":
        table = _table_called_text(sample, name, has_header)
        return table or Opened("text", markdown=Path(name).suffix.lower() in _MARKDOWN)
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
    with _open_text(path, encoding) as file:
        return Opened("csv", detect_table(file, is_named_table=suffix == "csv", has_header=has_header))


def _table_called_text(sample: str, name: str, has_header: bool | None) -> Opened | None:
    """Rows that a mail program or a spreadsheet gave the ending of plain text."""
    if Path(name).suffix.lower() != ".txt":
        return None
    lines = [line for line in sample.splitlines()[:_LOOKED_AT_LINES] if line.strip()]
    whole = lines if len(sample) < _SAMPLE_CHARS or len(lines) < _LOOKED_AT_LINES else lines[:-1]
    if whole and all(line.lstrip().startswith("{") and _is_json(line) for line in whole):
        return Opened("jsonl")
    tabs = {line.count("\t") for line in whole}
    if not whole or len(tabs) != 1 or tabs == {0}:
        return None
    table = table_of("\t", [cell.strip() for cell in whole[0].split("\t")], has_header=has_header)
    looks_like_names = len(whole) > 2 and all(table.first_line) and not table.repeats_names
    return Opened("csv", table) if has_header is not None or looks_like_names else None


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
        elif opened.table is not None:
            yield from table_records(file, opened.table)
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
