"""Opens what a person gave as a dataset and yields its records, each with the layout that makes a row of it."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from btmd.errors import DatasetRefused
from btmd.reading.folder_files import FolderFile, FolderPart, SkippedFile
from btmd.reading.folders import open_folder
from btmd.reading.grouping import OnStage, grouped, not_told
from btmd.reading.layout_choice import layout_of
from btmd.reading.layouts import Layout
from btmd.reading.one_file import OneFile, open_file
from btmd.reading.records import Record
from btmd.reading.told import told_by

_MOST_COLUMNS: Final = 200
"""That are named in the facts."""

Placed = tuple[Record, Layout]
"""A record, and the layout that makes a row of it."""


class Reading(Struct):
    """A dataset that is open. ``records`` can be gone through once; ``parts`` and ``skipped`` are whole behind it."""

    format: str
    encoding: str
    byte_order_mark: bool
    separator: str | None
    layout: str
    kind: str
    columns: tuple[str, ...]
    columns_used: tuple[str, ...]
    columns_as: dict[str, str]
    unit: str
    sha256: str
    size_bytes: int
    records: Iterator[Placed]
    parts: Sequence[FolderPart] = ()
    skipped: Sequence[SkippedFile] = ()
    encoding_guessed: Callable[[], bool] = lambda: False
    """Whether nothing says in which letters the record that was yielded last is written."""
    groups: bool = False
    """Whether ``on_stage`` of `open_dataset` is told how far it is."""
    by_lines: Layout | None = None
    """Set where every line of the source is a JSON record in UTF-8, and this layout alone makes a row of it."""


class FolderContents(Struct, frozen=True):
    """The files of a folder by their names in it, and what the person's side left out."""

    files: Sequence[tuple[str, Path]]
    skipped: Sequence[SkippedFile]


def folder_contents(folder: Sequence[FolderFile] | None, skipped: Sequence[SkippedFile] = ()) -> FolderContents | None:
    """A request's folder, if it has one."""
    return None if folder is None else FolderContents([(file.name, Path(file.path)) for file in folder], skipped)


def open_dataset(
    source: Path,
    name: str,
    *,
    mapping: Mapping[str, str] | None,
    scratch: Path,
    on_scan: Callable[[float], None],
    on_stage: OnStage = not_told,
    folder: FolderContents | None = None,
) -> Reading:
    """Tell what ``source`` is and how rows are made of it; ``on_scan`` hears how much of it was read for that.

    ``on_stage`` hears how far messages are put together while records are gone through, where they have to be.
    ``scratch`` names a file for what has to be sorted; it is gone when all records were read. With ``folder``,
    ``source`` is the list of its files. Raises DatasetRefused in one of its kinds, FileMissing or InvalidValue.
    """
    if folder is not None:
        return _open_folder(source, folder, mapping, scratch)
    if source.is_dir():
        raise DatasetRefused(f"'{name}' is a folder.", hint="btmctl datasets add takes folders; send their files.")
    told, columns = told_by(mapping)
    opened = open_file(source, name, on_scan, told)
    layout = layout_of(opened, columns)
    records = opened.rest(layout.columns_used)
    if layout.grouping is not None:
        records = grouped(records, layout, scratch, size_bytes=opened.size_bytes, on_stage=on_stage)
    reading = _reading(opened, layout, ((record, layout) for record in records))
    reading.encoding_guessed = lambda: opened.encoding_guessed
    reading.groups = layout.grouping is not None
    if (opened.format, opened.encoding, layout.grouping) == ("jsonl", "utf-8", None):
        reading.by_lines = layout
    return reading


def _reading(opened: OneFile, layout: Layout, records: Iterator[Placed]) -> Reading:
    return Reading(
        format=opened.format,
        encoding=opened.encoding,
        byte_order_mark=opened.byte_order_mark,
        separator=opened.table.separator if opened.table is not None else None,
        layout=layout.name,
        kind=layout.kind,
        columns=opened.columns[:_MOST_COLUMNS],
        columns_used=layout.columns_used,
        columns_as={} if opened.is_text else layout.columns_as,
        unit=opened.unit,
        sha256=opened.sha256,
        size_bytes=opened.size_bytes,
        records=records,
    )


def _open_folder(source: Path, folder: FolderContents, mapping: Mapping[str, str] | None, scratch: Path) -> Reading:
    opened, records = open_folder(folder.files, folder.skipped, mapping, scratch)
    reading = _reading(opened.first, opened.layout, records)
    reading.format = "folder"
    reading.sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    reading.size_bytes = sum(path.stat().st_size for _, path in folder.files)
    reading.parts, reading.skipped = opened.parts, opened.skipped
    reading.encoding_guessed = lambda: opened.encoding_guessed
    return reading
