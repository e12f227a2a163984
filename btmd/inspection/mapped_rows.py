"""A few rows as a mapping makes them, to be looked at before it is taken."""

from pathlib import Path
from typing import Final

from btmd.data.rows import Message, Row
from btmd.inspection.facts import MappedRows
from btmd.inspection.requests import MappedRowsRequest, aside
from btmd.reading.opening import folder_contents, open_dataset
from btmd.reading.turns import Blank, Broken

_LONGEST_CHARS: Final = 400
_MOST_TURNS: Final = 8


def mapped_rows(request: MappedRowsRequest) -> MappedRows:
    """The first rows that can be made. Raises DatasetRefused in one of its kinds or InvalidValue."""
    scratch = Path(aside(request.scratch))
    try:
        reading = open_dataset(
            Path(request.source),
            request.name,
            mapping=request.mapping,
            folder=folder_contents(request.folder),
            scratch=scratch,
            on_scan=lambda _share: None,
        )
        rows: list[Row] = []
        for record, layout in reading.records:
            if len(rows) == request.count:
                break
            if record.fields is None:
                continue
            try:
                rows.append(_shortened(layout.row(record.line, record.fields)))
            except (Broken, Blank):
                continue
        return MappedRows(tuple(rows), reading.layout)
    finally:
        scratch.unlink(missing_ok=True)


def _shortened(row: Row) -> Row:
    shown: Row = {"line": row["line"]}
    if "messages" in row:
        shown["messages"] = _short_turns(row["messages"])
    if "rejected" in row:
        shown["rejected"] = _short_turns(row["rejected"])
    if "text" in row:
        shown["text"] = _short(row["text"])
    if "split" in row:
        shown["split"] = row["split"]
    return shown


def _short_turns(turns: list[Message]) -> list[Message]:
    return [{"role": turn["role"], "content": _short(turn["content"])} for turn in turns[:_MOST_TURNS]]


def _short(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _LONGEST_CHARS else text[:_LONGEST_CHARS] + "..."
