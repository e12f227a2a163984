"""Opens one file of any known format: its hash, its columns, and its records."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from btmd.errors import DatasetEmpty, FileMissing
from btmd.reading.characters import hash_of, scan
from btmd.reading.kinds import Kind, kind_of
from btmd.reading.own_process import read_apart
from btmd.reading.parquet import parquet_columns, parquet_records
from btmd.reading.processor_time import limited_processor_time
from btmd.reading.records import Record
from btmd.reading.separated_values import Table
from btmd.reading.sources import detect, read_records
from btmd.reading.text_blocks import Line, blocks
from btmd.reading.told import Told

SAMPLE_ROWS: Final = 100
_MOST_COLUMNS: Final = 200
_UNITS: Final = {"pdf": "page", "docx": "paragraph", "odt": "paragraph", "parquet": "row"}

_NOTHING_TOLD: Final = Told()

OnScan = Callable[[float], None]


class OneFile(Struct):
    """A file that is open. ``first`` are its first records, ``rest`` gives all of them, once."""

    format: str
    encoding: str
    byte_order_mark: bool
    encoding_guessed: bool
    """Whether nothing says which it is, and another would make other letters."""
    table: Table | None
    """How a table of separated values is written."""
    columns: tuple[str, ...]
    is_text: bool
    """Whether it is a plain text or a document: its records have one field, ``text``."""
    unit: str
    """What a record's line counts: ``line``, ``paragraph``, ``page`` or ``row``."""
    sha256: str
    size_bytes: int
    first: list[Record]
    rest: Callable[[Sequence[str]], Iterator[Record]]
    """All records, with these columns at least."""

    @property
    def sample(self) -> list[dict[str, Any]]:
        """The fields of the first records that can be read."""
        return [record.fields for record in self.first if record.fields is not None]


def open_file(path: Path, name: str, on_scan: OnScan, told: Told = _NOTHING_TOLD) -> OneFile:
    """Tell what the file is. Raises DatasetRefused in one of its kinds or FileMissing."""
    if not path.is_file():
        raise FileMissing(f"There is no file '{name}'.", hint="Check the path; relative ones start where you are.")
    if path.stat().st_size == 0:
        raise DatasetEmpty("The file is empty: it has 0 bytes.", hint="Check that the right file was given.")
    kind = kind_of(path, name)
    if kind == "parquet":
        return _open_parquet(path, on_scan)
    if kind != "text":
        return _open_document(path, kind, on_scan, told)
    scanned = scan(path, on_scan, told.encoding)
    opened = detect(path, name, scanned.encoding, has_header=told.has_header)
    records = read_records(path, opened, scanned.encoding)
    first = list(islice(records, SAMPLE_ROWS))
    return OneFile(
        format=opened.format,
        encoding=scanned.encoding,
        byte_order_mark=scanned.byte_order_mark,
        encoding_guessed=scanned.encoding_guessed,
        table=opened.table,
        columns=opened.table.columns if opened.table is not None else _columns(first),
        is_text=opened.format == "text",
        unit="line",
        sha256=scanned.sha256,
        size_bytes=scanned.size_bytes,
        first=first,
        rest=lambda _columns: chain(first, records),
    )


def _columns(first: list[Record]) -> tuple[str, ...]:
    seen: dict[str, None] = {}
    for record in first:
        for column in record.fields or ():
            if len(seen) < _MOST_COLUMNS:
                seen.setdefault(column)
    return tuple(seen)


def _open_parquet(path: Path, on_scan: OnScan) -> OneFile:
    columns = parquet_columns(path)
    sha256, size_bytes = hash_of(path, on_scan)
    return OneFile(
        format="parquet",
        encoding="utf-8",
        byte_order_mark=False,
        encoding_guessed=False,
        table=None,
        columns=columns,
        is_text=False,
        unit=_UNITS["parquet"],
        sha256=sha256,
        size_bytes=size_bytes,
        first=list(islice(parquet_records(path), SAMPLE_ROWS)),
        # Read anew: a column of pictures or of numbers that nobody learns from is left where it is.
        rest=lambda used: parquet_records(path, [column for column in columns if column in used] or None),
    )


def _open_document(path: Path, kind: Kind, on_scan: OnScan, told: Told) -> OneFile:
    encoding, byte_order_mark, guessed = "utf-8", False, False
    sha256, size_bytes = hash_of(path, on_scan)
    if kind == "html":
        from btmd.reading.web_pages import declared_encoding

        declared = told.encoding or declared_encoding(path)
        if declared is None:
            scanned = scan(path, on_scan)
            declared, byte_order_mark = scanned.encoding, scanned.byte_order_mark
            guessed = scanned.encoding_guessed
        encoding = declared

    def read() -> list[tuple[int, str]]:
        with limited_processor_time():
            return list(blocks(_lines(path, kind, encoding)))

    if kind == "pdf":
        # Loaded here once, or each document's process would load it.
        import btmd.reading.portable_documents  # noqa: F401

    # Wholly before the first row: a document that breaks off in its middle is refused, not learned by halves.
    found = read_apart(read, "PDF") if kind == "pdf" else read()
    records = [Record(number, fields={"text": text}) for number, text in found]
    if not records:
        raise DatasetEmpty("The document holds no text.", hint="Check that the right file was given.")
    return OneFile(
        format=kind,
        encoding=encoding,
        byte_order_mark=byte_order_mark,
        encoding_guessed=guessed,
        table=None,
        columns=("text",),
        is_text=True,
        unit=_UNITS.get(kind, "line"),
        sha256=sha256,
        size_bytes=size_bytes,
        first=records[:SAMPLE_ROWS],
        rest=lambda _columns: iter(records),
    )


def _lines(path: Path, kind: Kind, encoding: str) -> Iterator[Line]:
    # Each reader is imported only for a file that needs it.
    match kind:
        case "docx":
            from btmd.reading.office import docx_lines

            return docx_lines(path)
        case "odt":
            from btmd.reading.office import odt_lines

            return odt_lines(path)
        case "pdf":
            from btmd.reading.portable_documents import pdf_lines

            return pdf_lines(path)
        case _:
            from btmd.reading.web_pages import html_lines

            return html_lines(path, encoding)
