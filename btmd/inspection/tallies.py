"""What is counted while records become rows: in one go, or piece by piece and put together afterwards."""

import array
import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
from msgspec import Struct, field

from btmd.data.rows import Message, Row, shared_turns
from btmd.inspection.facts import BrokenRow
from btmd.reading.layouts import Layout
from btmd.reading.opening import Placed
from btmd.reading.records import Record
from btmd.reading.turns import Blank, Broken
from btmd.reading.usual_turns import Turn

_LISTED: Final = 100


class Writes(Protocol):
    """Takes the usable rows."""

    def write(self, row: Mapping[str, Any], /) -> None:
        """Raises UnicodeEncodeError, nothing being written, for what no file can hold."""
        ...


def _never() -> bool:
    return False


class Tallies(Struct):
    """Counts of records and of the rows made of them; ``listed`` ones are the first, by their lines."""

    listed_broken: list[BrokenRow] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    listed_empty: list[int] = field(default_factory=list)
    empty: int = 0
    keys: "array.array[int]" = field(default_factory=lambda: array.array("q"))
    """Of the contents of rows: eight bytes each instead of digests is enough to count repeats."""
    damaged_characters: int = 0
    held_out: int = 0
    sided: int = 0
    unknown_splits: int = 0
    turns: int = 0
    chars: int = 0
    longest: int = 0
    encoding_guessed: Callable[[], bool] = _never
    """Of the record that comes next."""
    guessed: int = 0
    listed_guessed: list[int] = field(default_factory=list)

    @property
    def broken(self) -> int:
        """How many records could not be read."""
        return sum(self.reasons.values())

    @property
    def distinct(self) -> int:
        """How many rows there are when each counts once."""
        return len(np.unique(np.frombuffer(self.keys, dtype=np.uint64))) if self.keys else 0

    def take(self, records: Iterable[Placed], out: Writes) -> None:
        """Write the rows that records can be made into, and count all."""
        for record, layout in records:
            self._take(record, layout, out)

    def take_usual(self, line: int, turns: Sequence[Turn], out: Writes) -> bool:
        """Write and count turns that are a row as they are; False, and nothing done, where no file can hold them."""
        try:
            out.write({"line": line, "messages": turns})
        except UnicodeEncodeError:
            return False
        self._count(line, [turn.content for turn in turns], [turn.role for turn in turns], len(turns))
        return True

    def add(self, later: "Tallies", *, lines: int) -> None:
        """Count in what was counted of the piece behind this one, which begins so many ``lines`` into the file."""
        room = _LISTED - len(self.listed_broken)
        self.listed_broken += [BrokenRow(one.line + lines, one.reason) for one in later.listed_broken[:room]]
        self.reasons.update(later.reasons)
        self.listed_empty += [line + lines for line in later.listed_empty[: _LISTED - len(self.listed_empty)]]
        self.empty += later.empty
        self.keys += later.keys
        self.damaged_characters += later.damaged_characters
        self.held_out += later.held_out
        self.sided += later.sided
        self.unknown_splits += later.unknown_splits
        self.turns += later.turns
        self.chars += later.chars
        self.longest = max(self.longest, later.longest)

    def _take(self, record: Record, layout: Layout, out: Writes) -> None:
        if record.fields is None:
            self._note_broken(record.line, record.broken or "not readable")
            return
        try:
            row = layout.row(record.line, record.fields)
            out.write(row)
        except Broken as error:
            self._note_broken(record.line, error.reason)
        except UnicodeEncodeError:
            self._note_broken(record.line, "has bytes that are no characters")
        except Blank:
            self.empty += 1
            _list(self.listed_empty, record.line)
        else:
            self._note(row)
            self._note_side(row, record, layout.split)

    def _note_broken(self, line: int, reason: str) -> None:
        self.reasons[reason] += 1
        _list(self.listed_broken, BrokenRow(line, reason), key=_line_of)

    def _note(self, row: Row) -> None:
        turns: Sequence[Message] = row.get("messages", ())
        if "rejected" in row:
            rejected = row["rejected"]
            turns = [*turns, {"role": "", "content": ""}, *rejected[shared_turns(turns, rejected) :]]
        contents = [message["content"] for message in turns] or [row.get("text", "")]
        roles = [message["role"] for message in turns]
        self._count(row["line"], contents, roles, len(contents) - ("rejected" in row))

    def _count(self, line: int, contents: Sequence[str], roles: Sequence[str], turns: int) -> None:
        # The same in a process that was forked from this one.
        self.keys.append(hash((*contents, *roles)))
        self.turns += turns
        chars = sum(map(len, contents))
        self.chars += chars
        if chars > self.longest:
            self.longest = chars
        for content in contents:
            if "\ufffd" in content:
                self.damaged_characters += 1
                break
        if self.encoding_guessed() and not all(map(str.isascii, contents)):
            self.guessed += 1
            _list(self.listed_guessed, line)

    def _note_side(self, row: Row, record: Record, split: str | None) -> None:
        if "split" in row:
            self.sided += 1
            self.held_out += row["split"] == "held_out"
        elif split is not None and record.fields is not None and record.fields.get(split) not in (None, ""):
            self.unknown_splits += 1


def _line_of(row: BrokenRow) -> int:
    return row.line


def _list(listed: list[Any], one: Any, *, key: Callable[[Any], int] | None = None) -> None:
    """Keep the first by their lines, in whatever order they come: messages are put together before they are rows."""
    if len(listed) < _LISTED:
        bisect.insort(listed, one, key=key)
    elif (key or int)(one) < (key or int)(listed[-1]):
        listed.pop()
        bisect.insort(listed, one, key=key)
