"""A file of JSON lines in blocks: processes make rows of them, and this one puts these in their order.

Which rows and chunks come out does not depend on blocks or processes: a row is encoded without its line, and only here,
where all rows come by in order, is it numbered and put into a chunk.
"""

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from btmd.data.row_chunks import RowsWriter, encode_row
from btmd.data.rows import Row
from btmd.inspection.tallies import Tallies
from btmd.inspection.workers import in_turn
from btmd.reading.json_lines import JsonLines
from btmd.reading.layouts import Layout

BLOCK_BYTES: Final = 1 << 20
LONG_LINE_BYTES: Final = 8 << 20
"""What reaches further over a block is read here: several such lines at once would take much memory."""
_WORTH_PROCESSES_BYTES: Final = 4 << 20
_MOST_WORKERS: Final = 4
_BUFFER_BYTES: Final = 1 << 17

EncodedRow = tuple[int, bytes, bool]
"""Its line in the block, and what `encode_row` makes of it."""
Block = tuple[int, list[EncodedRow], Tallies]
"""How many lines it has, its rows, and what was counted."""


def workers_for_lines(size_bytes: int) -> int:
    """How many processes are worth their start for a file of this size; 1 says that none is."""
    return 1 if size_bytes < _WORTH_PROCESSES_BYTES else min(len(os.sched_getaffinity(0)), _MOST_WORKERS)


def read_blocks(
    path: Path, layout: Layout, out: RowsWriter, tallies: Tallies, workers: int
) -> Generator[int, None, None]:
    """Write the rows of a file and count its records; yields how many bytes of it are done. To be closed."""
    size_bytes, lines = path.stat().st_size, 0
    begins = range(0, size_bytes, BLOCK_BYTES)

    def of_worker(number: int) -> Iterator[Block | None]:
        for begin in begins[number::workers]:
            yield None if _reaches_far(path, begin) else _block(path, begin, layout)

    with closing(in_turn(of_worker, workers)) as blocks:
        for begin, found in zip(begins, blocks, strict=True):
            block_lines, rows, counted = found or _block(path, begin, layout)
            for line, rest, may_end in rows:
                out.add(lines + line, rest, may_end)
            tallies.add(counted, lines=lines)
            lines += block_lines
            yield min(size_bytes, begin + BLOCK_BYTES)


def _reaches_far(path: Path, begin: int) -> bool:
    with path.open("rb") as file:
        file.seek(begin + BLOCK_BYTES - 1)
        return len(file.readline(LONG_LINE_BYTES)) == LONG_LINE_BYTES


def _block(path: Path, begin: int, layout: Layout) -> Block:
    rows, tallies = _Encoded(), Tallies()
    with path.open("rb", buffering=_BUFFER_BYTES) as file:
        file.seek(max(0, begin - 1))
        records = JsonLines(file, begin=begin, end=begin + BLOCK_BYTES)
        tallies.take(((record, layout) for record in records), rows)
    return records.lines, rows.rows, tallies


class _Encoded:
    """Rows of one block."""

    def __init__(self) -> None:
        self.rows: list[EncodedRow] = []

    def write(self, row: Row) -> None:
        self.rows.append((row["line"], *encode_row(row)))
