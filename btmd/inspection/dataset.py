"""Reads a dataset file of any known format and writes its rows in the one normalised form."""

import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from msgspec import structs

from btmd.data.row_chunks import RowsWriter
from btmd.data.rows import Message, Row, shared_turns
from btmd.errors import DatasetEmpty
from btmd.inspection.facts import BrokenRow, DatasetFacts
from btmd.inspection.requests import aside, scratch_beside
from btmd.reading.layouts import Layout
from btmd.reading.opening import FolderContents, Placed, Reading, open_dataset
from btmd.reading.records import Record
from btmd.reading.turns import Blank, Broken

_LISTED: Final = 100
_MOST_SKIPPED: Final = 1000
_PROGRESS_EVERY: Final = 2000
_SCAN_SHARE: Final = 0.2

Progress = Callable[[float, str], None]


def inspect_dataset(
    source: Path,
    name: str,
    rows_path: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    folder: FolderContents | None = None,
    progress: Progress,
) -> DatasetFacts:
    """Read ``source``, write its usable rows to ``rows_path``, and say what was found.

    ``name`` is what the person called the file; its ending helps where the content does not tell the format.
    ``rows_path`` appears whole or not at all. Raises DatasetRefused in one of its kinds, FileMissing or InvalidValue.
    """
    reading = open_dataset(
        source,
        name,
        mapping=mapping,
        folder=folder,
        scratch=Path(aside(scratch_beside(str(rows_path)))),
        on_scan=lambda done: progress(done * _SCAN_SHARE, "Reading the file"),
    )
    with RowsWriter(rows_path) as out:
        intake = _Intake(out)
        for record, layout in _watched(reading, out, progress):
            intake.take(record, layout)
        facts = intake.facts(reading)
        _refuse_unusable(facts)
        written = out.finish()
    return structs.replace(facts, rows_sha256=written.sha256)


def _watched(reading: Reading, out: RowsWriter, progress: Progress) -> Iterator[Placed]:
    for number, placed in enumerate(reading.records, 1):
        if number % _PROGRESS_EVERY == 0:
            # Rows are written about as large as they are read: near enough for a bar.
            share = min(1.0, out.size_bytes / max(1, reading.size_bytes))
            progress(_SCAN_SHARE + (1 - _SCAN_SHARE) * share, f"{number:,} rows read")
        yield placed


class _Intake:
    """Takes records one by one, writes the usable ones, and counts the rest."""

    def __init__(self, out: RowsWriter) -> None:
        self._out = out
        self._broken: list[BrokenRow] = []
        self._reasons: Counter[str] = Counter()
        self._empty_lines: list[int] = []
        self._empty = 0
        self._keys = array.array("q")
        self._damaged_characters = 0
        self._held_out = 0
        self._sided = 0
        self._unknown_splits = 0
        self._turns = 0
        self._chars = 0
        self._longest = 0

    def take(self, record: Record, layout: Layout) -> None:
        if record.fields is None:
            self._note_broken(record.line, record.broken or "not readable")
            return
        try:
            row = layout.row(record.line, record.fields)
            self._out.write(row)
        except Broken as error:
            self._note_broken(record.line, error.reason)
        except UnicodeEncodeError:
            self._note_broken(record.line, "has bytes that are no characters")
        except Blank:
            self._empty += 1
            if len(self._empty_lines) < _LISTED:
                self._empty_lines.append(record.line)
        else:
            self._note(row)
            self._note_side(row, record, layout.split)

    def _note_broken(self, line: int, reason: str) -> None:
        self._reasons[reason] += 1
        if len(self._broken) < _LISTED:
            self._broken.append(BrokenRow(line, reason))

    def _note(self, row: Row) -> None:
        turns: Sequence[Message] = row.get("messages", ())
        if "rejected" in row:
            rejected = row["rejected"]
            turns = [*turns, {"role": "", "content": ""}, *rejected[shared_turns(turns, rejected) :]]
        contents = [message["content"] for message in turns] or [row.get("text", "")]
        # Eight bytes a row instead of a set of digests: enough to count repeats, and memory hardly grows.
        self._keys.append(hash((*contents, *[message["role"] for message in turns])))
        self._turns += len(contents) - ("rejected" in row)
        chars = sum(map(len, contents))
        self._chars += chars
        if chars > self._longest:
            self._longest = chars
        for content in contents:
            if "\ufffd" in content:
                self._damaged_characters += 1
                break

    def _note_side(self, row: Row, record: Record, split: str | None) -> None:
        if "split" in row:
            self._sided += 1
            self._held_out += row["split"] == "held_out"
        elif split is not None and record.fields is not None and record.fields.get(split) not in (None, ""):
            self._unknown_splits += 1

    def facts(self, reading: Reading) -> DatasetFacts:
        broken, kept = sum(self._reasons.values()), self._out.rows
        distinct = len(np.unique(np.frombuffer(self._keys, dtype=np.uint64))) if self._keys else 0
        return DatasetFacts(
            format=reading.format,
            encoding=reading.encoding,
            separator=reading.separator,
            layout=reading.layout,
            columns=reading.columns,
            columns_used=reading.columns_used,
            rows_total=kept + broken + self._empty,
            rows_kept=kept,
            rows_broken=broken,
            rows_empty=self._empty,
            duplicates=kept - distinct,
            damaged_characters=self._damaged_characters,
            broken=tuple(self._broken),
            broken_reasons=dict(self._reasons.most_common()),
            empty_lines=tuple(self._empty_lines),
            has_split=self._sided > 0,
            rows_held_out=self._held_out,
            unknown_splits=self._unknown_splits,
            turns_total=self._turns,
            average_chars=round(self._chars / kept, 1) if kept else 0.0,
            longest_chars=self._longest,
            sha256=reading.sha256,
            size_bytes=reading.size_bytes,
            rows_sha256="",
            rows_size_bytes=self._out.size_bytes,
            kind=reading.kind,
            byte_order_mark=reading.byte_order_mark,
            columns_as=reading.columns_as,
            unit=reading.unit,
            files=tuple(reading.parts),
            skipped=tuple(reading.skipped[:_MOST_SKIPPED]),
            skipped_total=len(reading.skipped),
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
