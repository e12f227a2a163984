"""Reads a folder: all its tables as one, or all its documents; what is left out is named with the reason."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final

from btmd.errors import DatasetEmpty, DatasetRefused, UnknownLayout
from btmd.reading.folder_files import FolderPart, SkippedFile
from btmd.reading.grouping import grouped
from btmd.reading.layouts import SIDES, Layout
from btmd.reading.mapping import layout_for
from btmd.reading.nothing_usable import nothing_usable
from btmd.reading.one_file import SAMPLE_ROWS, OneFile, open_file
from btmd.reading.records import Record

MOST_NAMED: Final = 1000
"""Files that are named in the facts; of more, the first."""
_TABLE_ENDINGS: Final = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_ABOUT_DATA: Final = ("readme", "license", "licence", "changelog", "citation", "notice", "contributing")
_ABOUT_DATA_FILES: Final = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")

Placed = tuple[Record, Layout]


@dataclass(slots=True)
class Folder:
    """What a folder turned out to be; ``parts`` and ``skipped`` grow while its records are read."""

    first: OneFile
    layout: Layout
    parts: list[FolderPart] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)


def open_folder(
    files: Sequence[tuple[str, Path]], skipped: Sequence[SkippedFile], mapping: Mapping[str, str] | None, scratch: Path
) -> tuple[Folder, Iterator[Placed]]:
    """The folder and its records, file after file in the order of their names. Raises DatasetRefused in its kinds."""
    ordered = sorted(files)
    tables = [one for one in ordered if _is_table(one[0])]
    about = [name for name, _ in ordered if _is_about_data(name)] if tables else []
    documents = [one for one in ordered if not _is_table(one[0]) and one[0] not in about]
    if tables and documents:
        raise UnknownLayout(
            f"The folder has tables ({_some(tables)}) and documents ({_some(documents)}): it cannot be told which "
            "of them to learn.",
            hint="Put them into folders of their own and add one, or both under two names.",
        )
    left_out = [*skipped, *(SkippedFile(name, "tells about the data") for name in about)]
    chosen = [one for one in (tables or documents) if one[0] not in about]
    for place, (name, path) in enumerate(chosen):
        try:
            first = _opened(path, name, required=bool(tables))
        except DatasetRefused as error:
            if tables:
                raise
            left_out.append(SkippedFile(name, error.detail))
            continue
        folder = Folder(first, _layout(first, name, mapping), skipped=left_out)
        return folder, _records(folder, chosen[place:], mapping, scratch)
    reasons = "; ".join(f"{one.name[:80]}: {one.reason}" for one in left_out[:3])
    raise DatasetEmpty(
        "The folder has no file that can be used" + (f" ({reasons})" if reasons else "") + ".",
        hint="Possible are JSONL, JSON, CSV, Parquet, text, Markdown, .docx, .odt, .html and PDFs with a text layer.",
    )


def _is_table(name: str) -> bool:
    return name.lower().endswith(_TABLE_ENDINGS) and not _is_about_data(name)


def _is_about_data(name: str) -> bool:
    plain = PurePosixPath(name).name.lower()
    return plain in _ABOUT_DATA_FILES or plain.partition(".")[0] in _ABOUT_DATA


def _some(files: Sequence[tuple[str, Path]]) -> str:
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"{files[0][0][:80]}{more}"


def _opened(path: Path, name: str, *, required: bool) -> OneFile:
    try:
        return open_file(path, name, lambda _share: None)
    except DatasetRefused as error:
        if not required:
            raise
        raise type(error)(f"In {name[:200]}: {error.detail}", hint=error.hint) from error


def _layout(opened: OneFile, name: str, mapping: Mapping[str, str] | None) -> Layout:
    if opened.is_text:
        if mapping:
            raise UnknownLayout("Documents have no columns to map.", hint="Leave --map out for texts and documents.")
        return Layout("text", text="text")
    if not opened.sample:
        raise nothing_usable(opened.first, is_all=len(opened.first) < SAMPLE_ROWS)
    try:
        return layout_for(opened.sample, opened.columns, mapping)
    except UnknownLayout as error:
        raise UnknownLayout(
            f"In {name[:200]}: {error.detail}", hint=error.hint, suggestions=error.suggestions
        ) from error


def _records(
    folder: Folder, files: Sequence[tuple[str, Path]], mapping: Mapping[str, str] | None, scratch: Path
) -> Iterator[Placed]:
    sides = _sides([name for name, _ in files])
    base = 0
    for name, path in files:
        is_first = path == files[0][1] and base == 0
        try:
            opened = folder.first if is_first else _opened(path, name, required=not folder.first.is_text)
        except DatasetRefused as error:
            if not folder.first.is_text:
                raise
            folder.skipped.append(SkippedFile(name, error.detail))
            continue
        layout = folder.layout if is_first else _layout(opened, name, mapping)
        if layout.kind != folder.layout.kind:
            raise UnknownLayout(
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
