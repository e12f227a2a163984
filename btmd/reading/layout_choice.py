"""Which layout an open file has, by what a person said of it or by what can be told; what is unclear is asked about."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from btmd.errors import BtmdError, DatasetRefused, UnknownLayout
from btmd.reading.first_line import what_stands_first
from btmd.reading.layouts import Layout
from btmd.reading.mapping import layout_for
from btmd.reading.nothing_usable import nothing_usable
from btmd.reading.one_file import SAMPLE_ROWS, OneFile
from btmd.reading.separated_values import Table, numbered
from btmd.reading.suggestions import MOST_SUGGESTIONS, Suggestion, in_words, suggest
from btmd.reading.told import HEADER, NAMES, NONE
from btmd.reading.turns import Blank, Broken

_BY_PLACE: Final = re.compile(r"column \d+")
_SAY_IT: Final = "Say it with --header or --no-header; with the latter, columns are called 'column 1', 'column 2', ..."


def layout_of(opened: OneFile, mapping: Mapping[str, str]) -> Layout:
    """The layout; ``mapping`` is what was said of columns. Raises DatasetRefused in its kinds, InvalidValue."""
    if opened.is_text:
        if mapping:
            raise UnknownLayout("A text has no columns to map.", hint="Leave --map out for texts and documents.")
        return Layout("text", text="text")
    if opened.table is not None and not opened.table.is_told:
        return _of_table(opened, opened.table, mapping)
    if not opened.sample:
        raise nothing_usable(opened.first, is_all=len(opened.first) < SAMPLE_ROWS)
    if opened.table is not None and opened.table.has_header and opened.table.repeats_names:
        raise _repeated_names()
    told = {} if opened.table is None else {HEADER: NAMES if opened.table.has_header else NONE}
    return _tried(opened.sample, opened.columns, mapping, told)


def _of_table(opened: OneFile, table: Table, mapping: Mapping[str, str]) -> Layout:
    """The layout of a table whose first line may hold names or be a row."""
    sample = opened.sample
    below = [list(record.values()) for record in sample]
    first = what_stands_first(table.first_line, below)
    if first != "names" and (table.repeats_names or not sample):
        raise _first_line_unclear(table, below, first == "row", mapping)
    if not sample:
        raise nothing_usable(opened.first, is_all=len(opened.first) < SAMPLE_ROWS)
    if table.repeats_names:
        raise _repeated_names()
    named = [column for key, column in mapping.items() if not key.startswith("role:")]
    if first != "names" and any(_BY_PLACE.fullmatch(column) and column not in table.first_line for column in named):
        raise _first_line_unclear(table, below, first == "row", mapping)
    if first == "names" or named:
        return _tried(sample, opened.columns, mapping, {})
    try:
        return layout_for(sample, opened.columns, mapping)
    except UnknownLayout as error:
        raise _first_line_unclear(table, below, first == "row", mapping) from error


def _tried(
    sample: Sequence[Mapping[str, Any]], columns: Sequence[str], mapping: Mapping[str, str], told: Mapping[str, str]
) -> Layout:
    """The layout, or a refusal of which every suggestion works."""
    try:
        return layout_for(sample, columns, mapping)
    except UnknownLayout as error:
        working = [one for one in error.suggestions if _works(sample, columns, one)]
        raise in_words(error.detail, [{**told, **one} for one in working], otherwise=error.hint) from error


def _works(sample: Sequence[Mapping[str, Any]], columns: Sequence[str], mapping: Suggestion) -> bool:
    """Whether a row can be made so; where rows are put together first, whether the columns are there."""
    try:
        layout = layout_for(sample, columns, mapping)
    except BtmdError:
        return False
    if layout.grouping is not None:
        return True
    for record in sample:
        try:
            layout.row(0, record)
        except (Broken, Blank):
            continue
        return True
    return False


def _first_line_unclear(
    table: Table, below: Sequence[Sequence[str]], is_row: bool, mapping: Mapping[str, str]
) -> DatasetRefused:
    """The question what the first line is. Its cells are not told: they may be the text of a row."""
    columns = numbered(len(table.first_line))
    rows = [dict(zip(columns, row, strict=True)) for row in below]
    whole = [dict(zip(columns, table.first_line, strict=True)), *rows]
    chosen = [dict(mapping)] if mapping and all(map(_BY_PLACE.fullmatch, mapping.values())) else None
    as_rows = [{HEADER: NONE, **one} for one in chosen or suggest(whole, columns) if _works(whole, columns, one)]
    as_names = [{HEADER: NAMES, **one} for one in chosen or suggest(rows, columns) if _works(rows, columns, one)]
    suggestions = [one for pair in zip(as_rows, as_names, strict=False) for one in pair] or as_rows or as_names
    if is_row:
        return in_words(
            "Where the columns' names should stand there is what looks like a row.",
            as_rows or suggestions,
            otherwise=_SAY_IT,
        )
    return in_words(
        "It cannot be told whether the first line holds the columns' names or is a row already.",
        suggestions[:MOST_SUGGESTIONS],
        otherwise=_SAY_IT,
    )


def _repeated_names() -> UnknownLayout:
    return UnknownLayout(
        "Two columns of the CSV file have the same name.",
        hint="Give every column in the first line its own name; if it is a row already: --no-header",
    )
