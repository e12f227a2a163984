"""Opens what a person gave as a dataset and yields its records, each with the layout that makes a row of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Final

from btmd.errors import DatasetRefused, FileMissing, UnknownLayout
from btmd.inspection.characters import scan
from btmd.inspection.grouping import grouped
from btmd.inspection.layouts import Layout
from btmd.inspection.mapping import layout_for
from btmd.inspection.nothing_usable import nothing_usable
from btmd.inspection.sources import Opened, Record, detect, read_records

SAMPLE_ROWS: Final = 100
_MOST_COLUMNS: Final = 200

Placed = tuple[Record, Layout]
"""A record, and the layout that makes a row of it."""


@dataclass(slots=True)
class Reading:
    """A dataset that is open. ``records`` can be gone through once."""

    format: str
    encoding: str
    separator: str | None
    layout: str
    kind: str
    columns: tuple[str, ...]
    columns_used: tuple[str, ...]
    sha256: str
    size_bytes: int
    records: Iterator[Placed] = field(repr=False)


def open_dataset(
    source: Path, name: str, *, mapping: Mapping[str, str] | None, scratch: Path, on_scan: Callable[[float], None]
) -> Reading:
    """Tell what ``source`` is and how rows are made of it; ``on_scan`` hears how much of it was read for that.

    ``scratch`` names a file for what has to be sorted; it is gone when all records were read.

    Raises DatasetRefused in one of its kinds, FileMissing or InvalidValue.
    """
    _refuse_no_file(source, name)
    scanned = scan(source, on_scan)
    opened = detect(source, name, scanned.encoding)
    records = read_records(source, opened, scanned.encoding)
    first = list(islice(records, SAMPLE_ROWS))
    columns = _columns(opened, first)
    layout = _layout(opened, first, columns, mapping)
    every: Iterator[Record] = chain(first, records)
    if layout.grouping is not None:
        every = grouped(every, layout, scratch)
    return Reading(
        format=opened.format,
        encoding=scanned.encoding,
        separator=opened.separator,
        layout=layout.name,
        kind=layout.kind,
        columns=columns,
        columns_used=layout.columns_used,
        sha256=scanned.sha256,
        size_bytes=scanned.size_bytes,
        records=((record, layout) for record in every),
    )


def _refuse_no_file(source: Path, name: str) -> None:
    if source.is_dir():
        raise DatasetRefused(
            f"'{name}' is a folder; a dataset is one file.", hint="Give a .jsonl, .json, .csv, .txt or .md file."
        )
    if not source.is_file():
        raise FileMissing(f"There is no file '{name}'.", hint="Check the path; relative ones start where you are.")


def _columns(opened: Opened, first: list[Record]) -> tuple[str, ...]:
    if opened.header is not None:
        return opened.header
    seen: dict[str, None] = {}
    for record in first:
        for column in record.fields or ():
            if len(seen) < _MOST_COLUMNS:
                seen.setdefault(column)
    return tuple(seen)


def _layout(opened: Opened, first: list[Record], columns: tuple[str, ...], mapping: Mapping[str, str] | None) -> Layout:
    if opened.format == "text":
        if mapping:
            raise UnknownLayout("A plain text has no columns to map.", hint="Leave --map out for .txt and .md files.")
        return Layout("text", text="text")
    sample = [record.fields for record in first if record.fields is not None]
    if not sample:
        raise nothing_usable(first, is_all=len(first) < SAMPLE_ROWS)
    return layout_for(sample, columns, mapping)
