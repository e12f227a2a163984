"""A file of JSON lines in blocks: processes make rows of them, and this one puts these in their order.

Which rows and chunks come out does not depend on blocks or processes: a row is encoded without its line, and only here,
where all rows come by in order, is it numbered and put into a chunk.
"""

import os
from array import array
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from btmd.data.row_chunks import RowsWriter, encode_row
from btmd.inspection.tallies import Tallies
from btmd.inspection.workers import in_turn
from btmd.reading.json_lines import JsonLines, record_of_line
from btmd.reading.layouts import Layout
from btmd.reading.usual_turns import UsualTurns

BLOCK_BYTES: Final = 1 << 20
LONG_LINE_BYTES: Final = 8 << 20
"""What reaches further over a block is read here: several such lines at once would take much memory."""
_WORTH_PROCESSES_BYTES: Final = 4 << 20
_MOST_WORKERS: Final = 4
_BUFFER_BYTES: Final = 1 << 17


class EncodedRows(NamedTuple):
    """Rows of a block as `encode_row` makes them: of each its line in the block, its size, and whether it may end.

    In one piece: to hand it over takes 6 % less of the processor than a tuple for each row.
    """

    lines: "array[int]"
    sizes: "array[int]"
    may_end: bytearray
    text: bytes


Block = tuple[int, EncodedRows, Tallies]
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
            text, begin_of = memoryview(rows.text), 0
            for line, size, may_end in zip(rows.lines, rows.sizes, rows.may_end, strict=True):
                out.add(lines + line, text[begin_of : begin_of + size], bool(may_end))
                begin_of += size
            tallies.add(counted, lines=lines)
            lines += block_lines
            yield min(size_bytes, begin + BLOCK_BYTES)


def _reaches_far(path: Path, begin: int) -> bool:
    with path.open("rb") as file:
        file.seek(begin + BLOCK_BYTES - 1)
        return len(file.readline(LONG_LINE_BYTES)) == LONG_LINE_BYTES


def _block(path: Path, begin: int, layout: Layout) -> Block:
    rows, tallies, usual = _Encoder(), Tallies(), UsualTurns.of(layout)
    with path.open("rb", buffering=_BUFFER_BYTES) as file:
        file.seek(max(0, begin - 1))
        records = JsonLines(file, begin=begin, end=begin + BLOCK_BYTES)
        for line, text in records.undecoded():
            turns = usual.read(text) if usual is not None and text is not None else None
            if turns is None or not tallies.take_usual(line, turns, rows):
                tallies.take([(record_of_line(line, text), layout)], rows)
    return records.lines, rows.encoded(), tallies


class _Encoder:
    """Makes the rows of one block."""

    def __init__(self) -> None:
        self._lines, self._sizes, self._may_end = array("Q"), array("Q"), bytearray()
        self._rests: list[memoryview] = []

    def write(self, row: Mapping[str, Any]) -> None:
        rest, may_end = encode_row(row)
        self._lines.append(row["line"])
        self._sizes.append(len(rest))
        self._may_end.append(may_end)
        self._rests.append(rest)

    def encoded(self) -> EncodedRows:
        return EncodedRows(self._lines, self._sizes, self._may_end, b"".join(self._rests))
