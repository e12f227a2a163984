"""Reads a folder: all its tables as one, or all its documents; what is left out is named with the reason."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from btmd.errors import DatasetEmpty, DatasetRefused, MixedFolder
from btmd.reading.folder_files import FolderPart, SkippedFile
from btmd.reading.grouping import grouped
from btmd.reading.layout_choice import layout_of
from btmd.reading.layouts import SIDES, Layout
from btmd.reading.one_file import OneFile, open_file
from btmd.reading.records import Record
from btmd.reading.told import DOCUMENTS, ONLY, TABLES, Told, told_by

MOST_NAMED: Final = 1000
"""Files that are named in the facts; of more, the first."""
_TABLE_ENDINGS: Final = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_ABOUT_DATA: Final = ("readme", "license", "licence", "changelog", "citation", "notice", "contributing")
_ABOUT_DATA_FILES: Final = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")

Placed = tuple[Record, Layout]


class Folder(Struct):
    """What a folder turned out to be; ``parts`` and ``skipped`` grow while its records are read."""

    first: OneFile
    layout: Layout
    told: Told
    columns: Mapping[str, str]
    """What a person said of them."""
    parts: list[FolderPart] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)
    encoding_guessed: bool = False
    """Of the file that is being read."""


def open_folder(
    files: Sequence[tuple[str, Path]], skipped: Sequence[SkippedFile], mapping: Mapping[str, str] | None, scratch: Path
) -> tuple[Folder, Iterator[Placed]]:
    """The folder and its records, file after file in the order of their names. Raises DatasetRefused in its kinds."""
    told, columns = told_by(mapping)
    chosen, left_out = _chosen(sorted(files), told)
    left_out = [*skipped, *left_out]
    has_tables = any(_is_table(name) for name, _ in chosen)
    for place, (name, path) in enumerate(chosen):
        try:
            first = _opened(path, name, told, required=has_tables)
        except DatasetRefused as error:
            if has_tables:
                raise
            left_out.append(SkippedFile(name, error.detail))
            continue
        folder = Folder(first, _layout(first, name, columns), told, columns, skipped=left_out)
        return folder, _records(folder, chosen[place:], scratch)
    reasons = "; ".join(f"{one.name[:80]}: {one.reason}" for one in left_out[:3])
    raise DatasetEmpty(
        "The folder has no file that can be used" + (f" ({reasons})" if reasons else "") + ".",
        hint="Possible are JSONL, JSON, CSV, Parquet, text, Markdown, .docx, .odt, .html and PDFs with a text layer.",
    )


def _chosen(files: list[tuple[str, Path]], told: Told) -> tuple[list[tuple[str, Path]], list[SkippedFile]]:
    """The tables or the documents, and what is left out. Raises MixedFolder where it has both and nobody said which."""
    tables = [one for one in files if _is_table(one[0])]
    about = {name for name, _ in files if tables and _is_about_data(name)}
    documents = [one for one in files if not _is_table(one[0]) and one[0] not in about]
    left_out = [SkippedFile(name, "tells about the data") for name in sorted(about)]
    if told.only == TABLES or (not documents and told.only is None):
        return tables, [*left_out, *(SkippedFile(name, "not a table") for name, _ in documents)]
    if told.only == DOCUMENTS or not tables:
        return documents, [*left_out, *(SkippedFile(name, "a table") for name, _ in tables)]
    likelier = (DOCUMENTS, TABLES) if len(documents) > len(tables) else (TABLES, DOCUMENTS)
    raise MixedFolder(
        f"It has tables ({_some(tables)}) and documents ({_some(documents)}): it cannot be told which to learn.",
        hint=f"Say it: --only {likelier[0]}, or --only {likelier[1]}.",
        suggestions=tuple({ONLY: one} for one in likelier),
    )


def _is_table(name: str) -> bool:
    return name.lower().endswith(_TABLE_ENDINGS) and not _is_about_data(name)


def _is_about_data(name: str) -> bool:
    plain = PurePosixPath(name).name.lower()
    return plain in _ABOUT_DATA_FILES or plain.partition(".")[0] in _ABOUT_DATA


def _some(files: Sequence[tuple[str, Path]]) -> str:
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"{files[0][0][:80]}{more}"


def _opened(path: Path, name: str, told: Told, *, required: bool) -> OneFile:
    try:
        return open_file(path, name, lambda _share: None, told)
    except DatasetRefused as error:
        if not required:
            raise
        raise _in_file(name, error) from error


def _layout(opened: OneFile, name: str, mapping: Mapping[str, str]) -> Layout:
    try:
        return layout_of(opened, mapping)
    except DatasetRefused as error:
        raise _in_file(name, error) from error


def _in_file(name: str, error: DatasetRefused) -> DatasetRefused:
    return type(error)(f"In {name[:200]}: {error.detail}", hint=error.hint, suggestions=error.suggestions)


def _records(folder: Folder, files: Sequence[tuple[str, Path]], scratch: Path) -> Iterator[Placed]:
    sides = _sides([name for name, _ in files])
    base = 0
    for name, path in files:
        is_first = path == files[0][1] and base == 0
        try:
            opened = folder.first if is_first else _opened(path, name, folder.told, required=not folder.first.is_text)
        except DatasetRefused as error:
            if not folder.first.is_text:
                raise
            folder.skipped.append(SkippedFile(name, error.detail))
            continue
        layout = folder.layout if is_first else _layout(opened, name, folder.columns)
        folder.encoding_guessed = opened.encoding_guessed
        if layout.kind != folder.layout.kind:
            raise MixedFolder(
                f"{name[:200]} holds another kind of rows ({layout.kind}) than the files before it "
                f"({folder.layout.kind}).",
                hint="Add them as two datasets.",
            )
        if len(folder.parts) < MOST_NAMED:
            folder.parts.append(FolderPart(name, opened.format, base + 1, opened.unit))
        side = sides.get(name)
        if side is not None and layout.split is None:
            layout = replace(layout, split="split")
        records = opened.rest(layout.columns_used)
        if layout.grouping is not None:
            records = grouped(records, layout, scratch)
        last = base
        for record in records:
            if side is not None and record.fields is not None and layout.split == "split":
                record.fields.setdefault("split", side)
            yield replace(record, line=base + record.line), layout
            last = max(last, base + record.line)
        base = last


def _sides(names: Sequence[str]) -> dict[str, str]:
    """The side of each file by its name, train-00000.parquet say, where some train and some are held out."""
    found = {}
    for name in names:
        path = PurePosixPath(name)
        for part in (path.name.lower(), *(parent.lower() for parent in path.parts[:-1])):
            word = part.replace("-", " ").replace("_", " ").replace(".", " ").split(" ")[0]
            if word in SIDES:
                found[name] = str(SIDES[word])
                break
    return found if {"train", "held_out"} <= set(found.values()) else {}
