"""Reads a dataset file of any known format and writes its rows in the one normalised form."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from msgspec import structs

from btmd.data.row_chunks import RowsWriter
from btmd.errors import DatasetEmpty
from btmd.inspection.facts import DatasetFacts
from btmd.inspection.line_blocks import read_blocks, workers_for_lines
from btmd.inspection.requests import aside, scratch_beside
from btmd.inspection.tallies import Tallies
from btmd.reading.layouts import Layout
from btmd.reading.opening import FolderContents, Placed, Reading, open_dataset

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
        on_stage=lambda done, text: progress(_SCAN_SHARE + (1 - _SCAN_SHARE) * done, text),
    )
    tallies = Tallies(encoding_guessed=reading.encoding_guessed)
    with RowsWriter(rows_path) as out:
        workers = workers_for_lines(reading.size_bytes) if reading.by_lines is not None else 1
        if reading.by_lines is not None and workers > 1:
            _take_blocks(source, reading.by_lines, out, tallies, workers, progress)
        else:
            tallies.take(_watched(reading, out, progress), out)
        facts = _facts(reading, tallies, out)
        _refuse_unusable(facts)
        written = out.finish()
    return structs.replace(facts, rows_sha256=written.sha256)


def _take_blocks(
    source: Path, layout: Layout, out: RowsWriter, tallies: Tallies, workers: int, progress: Progress
) -> None:
    size_bytes = source.stat().st_size
    with closing(read_blocks(source, layout, out, tallies, workers)) as blocks:
        for done in blocks:
            progress(_SCAN_SHARE + (1 - _SCAN_SHARE) * done / size_bytes, f"{out.rows:,} rows read")


def _watched(reading: Reading, out: RowsWriter, progress: Progress) -> Iterator[Placed]:
    for number, placed in enumerate(reading.records, 1):
        if number % _PROGRESS_EVERY == 0 and not reading.groups:
            # Rows are written about as large as they are read: near enough for a bar.
            share = min(1.0, out.size_bytes / max(1, reading.size_bytes))
            progress(_SCAN_SHARE + (1 - _SCAN_SHARE) * share, f"{number:,} rows read")
        yield placed


def _facts(reading: Reading, tallies: Tallies, out: RowsWriter) -> DatasetFacts:
    kept = out.rows
    return DatasetFacts(
        format=reading.format,
        encoding=reading.encoding,
        separator=reading.separator,
        layout=reading.layout,
        columns=reading.columns,
        columns_used=reading.columns_used,
        rows_total=kept + tallies.broken + tallies.empty,
        rows_kept=kept,
        rows_broken=tallies.broken,
        rows_empty=tallies.empty,
        duplicates=kept - tallies.distinct,
        damaged_characters=tallies.damaged_characters,
        broken=tuple(tallies.listed_broken),
        broken_reasons=dict(tallies.reasons.most_common()),
        empty_lines=tuple(tallies.listed_empty),
        has_split=tallies.sided > 0,
        rows_held_out=tallies.held_out,
        unknown_splits=tallies.unknown_splits,
        turns_total=tallies.turns,
        average_chars=round(tallies.chars / kept, 1) if kept else 0.0,
        longest_chars=tallies.longest,
        sha256=reading.sha256,
        size_bytes=reading.size_bytes,
        rows_sha256="",
        rows_size_bytes=out.size_bytes,
        kind=reading.kind,
        byte_order_mark=reading.byte_order_mark,
        columns_as=reading.columns_as,
        unit=reading.unit,
        files=tuple(reading.parts),
        skipped=tuple(reading.skipped[:_MOST_SKIPPED]),
        skipped_total=len(reading.skipped),
        guessed_rows=tallies.guessed,
        guessed_lines=tuple(tallies.listed_guessed),
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
