"""Whether the first line of a table holds the columns' names or is a row already, by what stands below it."""

import re
from collections.abc import Sequence
from typing import Final, Literal

from btmd.reading import names as known
from btmd.reading.names import plain

FirstLine = Literal["names", "row", "unclear"]

_NUMBER: Final = re.compile(r"[-+]?[\d\s.,:/+TZ%€$-]*\d[\d\s.,:/+TZ%€$-]*")
"""Also a date or a time."""
_TRUTHS: Final = ("true", "false", "yes", "no", "0", "1", "ja", "nein", "x")
_ADDRESS: Final = re.compile(r"https?://\S+|[\w.+-]+@[\w.-]+\.\w+|[0-9a-fA-F-]{16,}")
_SENTENCE: Final = re.compile(r"\S\s+\S+\s+\S.*[.!…]\s*$|[。！]\s*$|.{121}", re.DOTALL)
"""What nobody calls a column: a sentence that is no question, or a long text."""
_IDENTIFIER: Final = re.compile(r"[^\W\d]+(?:_\w+)+|[a-z]+[A-Z]\w*|\w+_id")
_LONGEST_NAME_CHARS: Final = 40
_FEWEST_VALUES: Final = 3
_MOSTLY: Final = 0.9
_NAMES_ALONE: Final = frozenset(
    (*known.INSTRUCTION, *known.PROMPT, *known.QUESTION, *known.ANSWER, *known.TEXT, *known.CONVERSATION, *known.SYSTEM)
)


def what_stands_first(first_line: Sequence[str], below: Sequence[Sequence[str]]) -> FirstLine:
    """``below`` are rows of as many cells. Names that are known win.

    Where nothing speaks for either, as in a list of words, it is unclear."""
    if sum(plain(cell) in _NAMES_ALONE for cell in first_line) > 1:
        return "names"
    says_names = says_row = False
    repeats = [cell for cell in first_line if cell]
    if len(set(repeats)) < len(repeats):
        says_row = True
    for place, cell in enumerate(first_line):
        values = [value for row in below if (value := row[place].strip())]
        if cell:
            says_row = says_row or _is_like_a_row(cell, values)
            says_names = says_names or _is_like_a_name(cell, values)
    if says_names == says_row:
        return "unclear"
    return "names" if says_names else "row"


def _is_like_a_row(cell: str, values: Sequence[str]) -> bool:
    """Whether it is nothing that a column is called, or stands further down in its column too."""
    if _NUMBER.fullmatch(cell) or _ADDRESS.fullmatch(cell) or _SENTENCE.search(cell):
        return True
    return cell.casefold() in {value.casefold() for value in values}


def _is_like_a_name(cell: str, values: Sequence[str]) -> bool:
    """Whether it is what programs and people call columns, or unlike all that stands below it."""
    if len(cell) > _LONGEST_NAME_CHARS or _NUMBER.fullmatch(cell):
        return False
    if plain(cell) in _NAMES_ALONE or _IDENTIFIER.fullmatch(cell):
        return True
    if len(values) < _FEWEST_VALUES:
        return False
    others = sum(
        bool(_NUMBER.fullmatch(value) or _ADDRESS.fullmatch(value)) or value.lower() in _TRUTHS for value in values
    )
    longer = sum(len(value) > 2 * len(cell) + 4 for value in values)
    return max(others, longer) >= _MOSTLY * len(values)
