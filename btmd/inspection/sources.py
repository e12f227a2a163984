"""Opens a dataset file of unknown format: what is it, in which characters, and its records one at a time.

Memory stays flat: whatever the size of the file, a few chunks and one record are held.
"""

import codecs
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import msgspec

from btmd.errors import DatasetDamaged, DatasetEmpty, DatasetTruncated, UnknownLayout
from btmd.inspection.text_blocks import text_blocks

Format = Literal["jsonl", "json", "csv", "text"]

MAX_RECORD_BYTES: Final = 64 * 1024 * 1024
_CHUNK_CHARS: Final = 1 << 20
_SAMPLE_CHARS: Final = 1 << 16
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
_MARKDOWN: Final = (".md", ".markdown")


@dataclass(frozen=True, slots=True)
class Record:
    """One record as the file has it. Exactly one of ``fields`` and ``broken`` (a reason) is set."""

    line: int
    fields: dict[str, Any] | None = None
    broken: str | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A dataset file whose format is known. ``header`` is set for CSV."""

    format: Format
    separator: str | None
    header: tuple[str, ...] | None
    markdown: bool = False
    """Headings say where something new begins."""


def detect(path: Path, name: str, encoding: str) -> Opened:
    """Tell the format by the content, and by the name's ending where the content does not say.

    Raises DatasetEmpty, DatasetTruncated or UnknownLayout.
    """
    with _open_text(path, encoding) as file:
        sample = file.read(_SAMPLE_CHARS)
    if not sample.strip():
        raise DatasetEmpty("The file holds nothing but white space.", hint="Check that the right file was given.")
    suffix = _SUFFIXES.get(Path(name).suffix.lower())
    begins = sample.lstrip()[:1]
    if suffix == "text":
        return Opened("text", None, None, Path(name).suffix.lower() in _MARKDOWN)
    if begins == "[" and suffix in (None, "json", "jsonl"):
        return Opened("json", None, None)
    if begins == "{":
        if suffix != "jsonl" and not _first_line_is_object(sample):
            raise _one_object(whole=_is_json(sample) or len(sample) == _SAMPLE_CHARS)
        return Opened("jsonl", None, None)
    if suffix in ("json", "jsonl"):
        raise UnknownLayout(
            "The file is called JSON but does not begin with an object or a list.",
            hint="Give one JSON object a line, or a list of objects.",
        )
    return _detect_csv(sample, is_named_csv=suffix == "csv")


def _first_line_is_object(sample: str) -> bool:
    line, newline, _ = sample.lstrip().partition("\n")
    # A record may be longer than the sample: then it begins like an object and has no line break, as JSONL does.
    return _is_json(line) or (not newline and len(sample) == _SAMPLE_CHARS)


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


def _one_object(*, whole: bool) -> UnknownLayout | DatasetTruncated:
    if whole:
        return UnknownLayout(
            "The file is one JSON object over several lines, not a list of rows.",
            hint="Give a JSON list of objects, or one object a line (JSONL).",
        )
    return DatasetTruncated(
        "The file begins with a JSON object that never ends: it looks cut off.", hint="Copy or download it again."
    )


def _detect_csv(sample: str, *, is_named_csv: bool) -> Opened:
    best: tuple[int, int] | None = None
    chosen: tuple[str, list[str]] = (",", [])
    for order, separator in enumerate(_SEPARATORS):
        lines = io.StringIO(sample, newline="")
        rows = [row for row in csv.reader(lines, delimiter=separator) if row][:50]
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
            hint="Use a name ending in .jsonl, .json, .csv, .txt or .md.",
        )
    names = [name.strip() for name in header]
    if len(set(names)) < len(names):
        raise UnknownLayout(
            "Two columns of the CSV file have the same name.", hint="Give every column in the first line its own name."
        )
    return Opened("csv", separator, tuple(names))


def read_records(path: Path, opened: Opened, encoding: str) -> Iterator[Record]:
    """Yield every record, broken ones with their reason. Raises DatasetTruncated or DatasetDamaged for a JSON list."""
    if opened.format == "jsonl":
        if encoding == "utf-8":
            with path.open("rb") as raw:
                yield from _json_lines(raw)
        else:
            with _open_text(path, encoding) as file:
                yield from _json_lines(_Utf8Lines(file))
        return
    with _open_text(path, encoding) as file:
        if opened.format == "json":
            yield from _json_list(file)
        elif opened.format == "csv":
            yield from _csv_rows(file, opened.header or (), opened.separator or ",")
        else:
            for line, text in text_blocks(file, markdown=opened.markdown):
                yield Record(line, fields={"text": text})


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


def _json_lines(file: "BinaryIO | _Utf8Lines") -> Iterator[Record]:
    number = 0
    while line := file.readline(MAX_RECORD_BYTES):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) >= MAX_RECORD_BYTES and not line.endswith(b"\n"):
            while (rest := file.readline(MAX_RECORD_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield Record(number, broken=f"longer than {MAX_RECORD_BYTES >> 20} MiB")
            continue
        if line.isspace():
            continue
        yield _json_record(number, line)


def _json_record(number: int, line: bytes) -> Record:
    try:
        value = msgspec.json.decode(line)
    except msgspec.DecodeError:
        cut = not line.endswith(b"\n") and line.lstrip().startswith(b"{")
        return Record(number, broken="not valid JSON" + (", the file ends inside the row" if cut else ""))
    except UnicodeDecodeError:
        return Record(number, broken="not valid UTF-8")
    except RecursionError:
        return Record(number, broken="nested too deeply")
    return _record(number, value)


def _record(line: int, value: Any) -> Record:
    if not isinstance(value, dict):
        return Record(line, broken="not an object with named fields")
    return Record(line, fields=value)


def _json_list(file: io.TextIOWrapper) -> Iterator[Record]:
    window = _Window(file)
    window.skip_white_space()
    window.take()  # the opening bracket
    window.skip_white_space()
    if window.peek() == "]":
        return
    while True:
        line = window.line
        yield _record(line, window.value())
        window.skip_white_space()
        mark = window.take()
        if mark == "]":
            break
        if mark != ",":
            raise _cut(window.line) if not mark else _damaged(window.line)
        window.skip_white_space()
    window.skip_white_space()
    if window.peek():
        raise _damaged(window.line)


class _Window:
    """A sliding part of a JSON text, from which values are taken one after another."""

    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._decoder = json.JSONDecoder()
        self.line = 1

    def _more(self, size: int = _CHUNK_CHARS) -> bool:
        read = self._file.read(size)
        self._text = self._text[self._at :] + read
        self._at = 0
        return bool(read)

    def peek(self) -> str:
        if self._at >= len(self._text):
            self._more()
        return self._text[self._at : self._at + 1]

    def take(self) -> str:
        mark = self.peek()
        self._at += len(mark)
        self.line += mark == "\n"
        return mark

    def skip_white_space(self) -> None:
        while self.peek() and self.peek() in " \t\r\n\ufeff":
            self.take()

    def value(self) -> Any:
        size = _CHUNK_CHARS
        if self._at >= len(self._text):
            self._more()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise _damaged(self.line) from error
            except json.JSONDecodeError as error:
                if self._is_final(error):
                    raise _damaged(self.line + self._text.count("\n", self._at, error.pos)) from error
                if len(self._text) - self._at > MAX_RECORD_BYTES:
                    raise DatasetDamaged(
                        f"The row that begins at line {self.line} is longer than {MAX_RECORD_BYTES >> 20} MiB.",
                        hint="Split it into several rows.",
                    ) from error
                if not self._more(size):
                    raise _cut(self.line) from error
                size *= 2
                continue
            # A value that touches the end of what was read may go on behind it (a number would).
            if end == len(self._text) and self._more(size):
                continue
            self.line += self._text.count("\n", self._at, end)
            self._at = end
            return value

    def _is_final(self, error: json.JSONDecodeError) -> bool:
        """Whether the error stands so far from the end of what was read that more text cannot mend it."""
        return not error.msg.startswith("Unterminated string") and error.pos < len(self._text) - 16


def _cut(line: int) -> DatasetTruncated:
    return DatasetTruncated(
        f"The JSON list is cut off: the file ends inside the row that begins at line {line}.",
        hint="Copy or download the file again; a list has to end with a closing bracket.",
    )


def _damaged(line: int) -> DatasetDamaged:
    return DatasetDamaged(
        f"The JSON list is not valid at line {line}.",
        hint="Repair that line, or save the data as one object a line (JSONL), where one bad row spoils nothing else.",
    )


def _csv_rows(file: io.TextIOWrapper, header: tuple[str, ...], separator: str) -> Iterator[Record]:
    csv.field_size_limit(MAX_RECORD_BYTES)
    reader = csv.reader(file, delimiter=separator, strict=True)
    is_header = True
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield Record(line, broken=_csv_reason(error, lines=reader.line_num - line))
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


def _csv_reason(error: csv.Error, *, lines: int) -> str:
    if "unexpected end" not in str(error):
        return "quotes are not in order"
    swallowed = f"; the {lines} lines behind it cannot be told apart" if lines > 0 else ""
    return "a quote is opened and never closed" + swallowed
