"""Reads a dataset file of any known format and writes its rows in the one normalised form."""

import array
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import numpy as np

from btmd.data.rows import Row, content_key, shared_turns
from btmd.errors import DatasetEmpty, DatasetRefused, FileMissing, UnknownLayout
from btmd.inspection.characters import Scanned, scan
from btmd.inspection.facts import BrokenRow, DatasetFacts
from btmd.inspection.layouts import Layout, detect_layout, mapped_layout
from btmd.inspection.requests import aside
from btmd.inspection.sources import Opened, Record, detect, read_records
from btmd.inspection.turns import Blank, Broken

_SAMPLE_ROWS: Final = 100
_LISTED: Final = 100
_MOST_COLUMNS: Final = 200
_PROGRESS_EVERY: Final = 2000
_SCAN_SHARE: Final = 0.2

Progress = Callable[[float, str], None]


def inspect_dataset(
    source: Path, name: str, rows_path: Path, *, mapping: Mapping[str, str] | None = None, progress: Progress
) -> DatasetFacts:
    """Read ``source``, write its usable rows to ``rows_path``, and say what was found.

    ``name`` is what the person called the file; its ending helps where the content does not tell the format.
    ``rows_path`` appears whole or not at all. Raises DatasetRefused in one of its kinds, FileMissing or InvalidValue.
    """
    _refuse_no_file(source, name)
    scanned = scan(source, lambda done: progress(done * _SCAN_SHARE, "Reading the file"))
    opened = detect(source, name, scanned.encoding)
    records = read_records(source, opened, scanned.encoding)
    first = list(islice(records, _SAMPLE_ROWS))
    columns = _columns(opened, first)
    layout = _layout(opened, first, columns, mapping)
    part = Path(aside(str(rows_path)))
    try:
        with part.open("wb") as out:
            intake = _Intake(out, layout)
            for record in _watched(chain(first, records), out, scanned, progress):
                intake.take(record)
            out.flush()
            os.fsync(out.fileno())
        facts = intake.facts(opened, scanned, columns)
        _refuse_unusable(facts)
        part.replace(rows_path)
    finally:
        part.unlink(missing_ok=True)
    return facts


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
        raise _nothing_usable(first)
    return mapped_layout(mapping, columns) if mapping else detect_layout(sample, columns)


def _watched(records: Iterator[Record], out: BinaryIO, scanned: Scanned, progress: Progress) -> Iterator[Record]:
    for number, record in enumerate(records, 1):
        if number % _PROGRESS_EVERY == 0:
            # Rows are written about as large as they are read: near enough for a bar.
            share = min(1.0, out.tell() / max(1, scanned.size_bytes))
            progress(_SCAN_SHARE + (1 - _SCAN_SHARE) * share, f"{number:,} rows read")
        yield record


class _Intake:
    """Takes records one by one, writes the usable ones, and counts the rest."""

    def __init__(self, out: BinaryIO, layout: Layout) -> None:
        self._out = out
        self._layout = layout
        self._encoder = msgspec.json.Encoder()
        self._digest = hashlib.sha256()
        self._size_bytes = 0
        self._kept = 0
        self._broken: list[BrokenRow] = []
        self._reasons: Counter[str] = Counter()
        self._empty_lines: list[int] = []
        self._empty = 0
        self._keys = array.array("Q")
        self._damaged_characters = 0
        self._held_out = 0
        self._sided = 0
        self._unknown_splits = 0
        self._turns = 0
        self._chars = 0
        self._longest = 0

    def take(self, record: Record) -> None:
        if record.fields is None:
            self._note_broken(record.line, record.broken or "not readable")
            return
        try:
            row = self._layout.row(record.line, record.fields)
            encoded = self._encoder.encode(row)
        except Broken as error:
            self._note_broken(record.line, error.reason)
        except UnicodeEncodeError:
            self._note_broken(record.line, "has bytes that are no characters")
        except Blank:
            self._empty += 1
            if len(self._empty_lines) < _LISTED:
                self._empty_lines.append(record.line)
        else:
            self._write(row, encoded)
            self._note_side(row, record)

    def _note_broken(self, line: int, reason: str) -> None:
        self._reasons[reason] += 1
        if len(self._broken) < _LISTED:
            self._broken.append(BrokenRow(line, reason))

    def _write(self, row: Row, encoded: bytes) -> None:
        self._out.write(encoded)
        self._out.write(b"\n")
        self._digest.update(encoded)
        self._digest.update(b"\n")
        self._size_bytes += len(encoded) + 1
        self._kept += 1
        # Eight bytes a row instead of a set of digests: enough to count repeats, and memory hardly grows.
        self._keys.append(int.from_bytes(content_key(row)[:8], "little"))
        turns = [
            *row.get("messages", ()),
            *row.get("rejected", ())[shared_turns(row.get("messages", ()), row.get("rejected", ())) :],
        ]
        contents = [message["content"] for message in turns] or [row.get("text", "")]
        self._turns += len(contents)
        chars = sum(map(len, contents))
        self._chars += chars
        self._longest = max(self._longest, chars)
        self._damaged_characters += any("\ufffd" in content for content in contents)

    def _note_side(self, row: Row, record: Record) -> None:
        split = self._layout.split
        if "split" in row:
            self._sided += 1
            self._held_out += row["split"] == "held_out"
        elif split is not None and record.fields is not None and record.fields.get(split) not in (None, ""):
            self._unknown_splits += 1

    def facts(self, opened: Opened, scanned: Scanned, columns: tuple[str, ...]) -> DatasetFacts:
        broken = sum(self._reasons.values())
        distinct = len(np.unique(np.frombuffer(self._keys, dtype=np.uint64))) if self._keys else 0
        return DatasetFacts(
            format=opened.format,
            encoding=scanned.encoding,
            separator=opened.separator,
            layout=self._layout.name,
            columns=columns,
            columns_used=self._layout.columns_used,
            rows_total=self._kept + broken + self._empty,
            rows_kept=self._kept,
            rows_broken=broken,
            rows_empty=self._empty,
            duplicates=self._kept - distinct,
            damaged_characters=self._damaged_characters,
            broken=tuple(self._broken),
            broken_reasons=dict(self._reasons.most_common()),
            empty_lines=tuple(self._empty_lines),
            has_split=self._sided > 0,
            rows_held_out=self._held_out,
            unknown_splits=self._unknown_splits,
            turns_total=self._turns,
            average_chars=round(self._chars / self._kept, 1) if self._kept else 0.0,
            longest_chars=self._longest,
            sha256=scanned.sha256,
            size_bytes=scanned.size_bytes,
            rows_sha256=self._digest.hexdigest(),
            rows_size_bytes=self._size_bytes,
            kind=self._layout.kind,
        )


def _refuse_unusable(facts: DatasetFacts) -> None:
    if facts.rows_kept == 0:
        if facts.rows_total == 0:
            raise DatasetEmpty("The file has no rows.", hint="A CSV file needs rows under its first line of names.")
        reasons = [f"{count:,} {reason}" for reason, count in list(facts.broken_reasons.items())[:3]]
        reasons += [f"{facts.rows_empty:,} empty in a column that matters"] if facts.rows_empty else []
        where = facts.broken[0].line if facts.broken else facts.empty_lines[0]
        raise DatasetEmpty(
            f"None of the {facts.rows_total:,} rows can be used: {'; '.join(reasons)}. The first is at line {where:,}.",
            hint="Repair these rows, or name the right columns with --map.",
        )
    if facts.rows_held_out == facts.rows_kept:
        raise DatasetEmpty(
            "The split column sets every row aside for testing, so there is nothing to train on.",
            hint="Mark the rows to train on as 'train', or remove the split column.",
        )


def _nothing_usable(first: list[Record]) -> DatasetRefused:
    if not first:
        return DatasetEmpty("The file has no rows.", hint="A CSV file needs rows under its first line of names.")
    reasons = Counter(record.broken or "" for record in first)
    reason, _ = reasons.most_common(1)[0]
    more = " so far" if len(first) == _SAMPLE_ROWS else ""
    return DatasetEmpty(
        f"None of the {len(first):,} rows{more} can be read ({reason}). The first is at line {first[0].line:,}.",
        hint="Check that the file is what its name says and is whole.",
    )
