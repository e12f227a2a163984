"""Reads JSON texts of any size value by value: a list of rows, an object that holds such a list, values in a row."""

import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct, field

from btmd.errors import DatasetDamaged, DatasetTruncated
from btmd.reading.records import MAX_RECORD_BYTES, Record, record_of

_CHUNK_CHARS: Final = 1 << 20
_WHITE_SPACE: Final = re.compile(r"[ \t\r\n\ufeff]+")
_MOST_KEYS: Final = 1000
"""Of an object that holds the rows: more are looked over, but not remembered."""


def json_list(file: io.TextIOWrapper) -> Iterator[Record]:
    """The values of a list. Raises DatasetTruncated or DatasetDamaged."""
    window = _Window(file)
    window.skip_white_space()
    yield from _values_of_list(window)
    window.skip_white_space()
    if window.peek():
        raise _damaged(window.line)


def json_values(file: io.TextIOWrapper) -> Iterator[Record]:
    """Values that follow one another, each over as many lines as it likes. Raises as `json_list`."""
    window = _Window(file)
    while True:
        window.skip_white_space()
        if not window.peek():
            return
        line = window.line
        yield record_of(line, window.value())


def json_rows_under(file: io.TextIOWrapper, keys: Mapping[str, str | None], side_column: str) -> Iterator[Record]:
    """The values of the lists under these keys of an object; a side is written into the records of its list."""
    window = _Window(file)
    for key in _keys(window):
        if key not in keys or window.peek() != "[":
            _skip_value(window)
            continue
        side = keys[key]
        for record in _values_of_list(window):
            if side is not None and record.fields is not None:
                record.fields.setdefault(side_column, side)
            yield record


class Shape(Struct):
    """What an object holds: keys with lists of objects, of texts, objects, and anything else; and what follows it."""

    lists_of_objects: list[str] = field(default_factory=list)
    lists_of_others: list[str] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    has_more: bool = False


def shape_of_object(file: io.TextIOWrapper) -> Shape:
    """Look an object over from end to end. Raises DatasetTruncated or DatasetDamaged."""
    window = _Window(file)
    shape = Shape()
    for count, key in enumerate(_keys(window)):
        mark = window.peek()
        kept = shape.objects if mark == "{" else shape.others
        if mark == "[":
            objects = others = 0
            for record in _values_of_list(window):
                objects += record.fields is not None
                others += record.fields is None
            kept = shape.lists_of_objects if objects > others else shape.lists_of_others
        else:
            _skip_value(window)
        if count < _MOST_KEYS:
            kept.append(key)
    window.skip_white_space()
    shape.has_more = bool(window.peek())
    return shape


def _keys(window: "_Window") -> Iterator[str]:
    """The keys of the object that begins here; whoever asks takes each value before asking for the next key."""
    window.skip_white_space()
    if window.take() != "{":
        raise _damaged(window.line)
    window.skip_white_space()
    if window.peek() == "}":
        window.take()
        return
    while True:
        window.skip_white_space()
        key = window.value()
        window.skip_white_space()
        if not isinstance(key, str) or window.take() != ":":
            raise _damaged(window.line)
        window.skip_white_space()
        yield key
        window.skip_white_space()
        mark = window.take()
        if mark == "}":
            return
        if mark != ",":
            raise _cut(window.line) if not mark else _damaged(window.line)


def _skip_value(window: "_Window") -> None:
    if window.peek() == "[":
        for _ in _values_of_list(window):
            pass
    else:
        window.value()


def _values_of_list(window: "_Window") -> Iterator[Record]:
    window.take()  # the opening bracket
    window.skip_white_space()
    if window.peek() == "]":
        window.take()
        return
    while True:
        line = window.line
        yield record_of(line, window.value())
        window.skip_white_space()
        mark = window.take()
        if mark == "]":
            return
        if mark != ",":
            raise _cut(window.line) if not mark else _damaged(window.line)
        window.skip_white_space()


class _Window:
    """A sliding part of a JSON text, from which values are taken one after another."""

    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._decoder = json.JSONDecoder()
        self.line = 1

    def _more(self, size: int = _CHUNK_CHARS) -> bool:
        read = self._file.read(size)
        self._text = self._text[self._at :] + read
        self._at = 0
        return bool(read)

    def peek(self) -> str:
        if self._at >= len(self._text):
            self._more()
        return self._text[self._at : self._at + 1]

    def take(self) -> str:
        mark = self.peek()
        self._at += len(mark)
        self.line += mark == "\n"
        return mark

    def skip_white_space(self) -> None:
        while self._at < len(self._text) or self._more():
            found = _WHITE_SPACE.match(self._text, self._at)
            end = self._at if found is None else found.end()
            self.line += self._text.count("\n", self._at, end)
            self._at = end
            if end < len(self._text):
                return

    def value(self) -> Any:
        size = _CHUNK_CHARS
        if self._at >= len(self._text):
            self._more()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._is_final(error):
                    raise _damaged(self.line + self._text.count("\n", self._at, error.pos)) from error
                if len(self._text) - self._at > MAX_RECORD_BYTES:
                    raise DatasetDamaged(
                        f"The row that begins at line {self.line} is longer than {MAX_RECORD_BYTES >> 20} MiB.",
                        hint="Split it into several rows.",
                    ) from error
                refusal = (_cut if self._breaks_off(error) else _damaged)(self.line)
                if not self._more(size):
                    raise refusal from error
                size *= 2
                continue
            except (RecursionError, ValueError) as error:
                # Nested without end, or a number with thousands of digits.
                raise _damaged(self.line) from error
            # A value that touches the end of what was read may go on behind it (a number would).
            if end == len(self._text) and self._more(size):
                continue
            self.line += self._text.count("\n", self._at, end)
            self._at = end
            return value

    def _breaks_off(self, error: json.JSONDecodeError) -> bool:
        """Whether more text would have been needed, now that there is none."""
        rest = self._text[error.pos :].strip()
        return (
            not rest
            or error.msg.startswith(("Unterminated string", "Invalid \\"))
            or any(word.startswith(rest) for word in ("true", "false", "null", "-"))
        )

    def _is_final(self, error: json.JSONDecodeError) -> bool:
        """Whether the error stands so far from the end of what was read that more text cannot mend it."""
        return not error.msg.startswith("Unterminated string") and error.pos < len(self._text) - 16


def _cut(line: int) -> DatasetTruncated:
    return DatasetTruncated(
        f"The JSON is cut off: the file ends inside the row that begins at line {line}.",
        hint="Copy or download the file again; a list has to end with a closing bracket.",
    )


def _damaged(line: int) -> DatasetDamaged:
    return DatasetDamaged(
        f"The JSON is not valid at line {line}.",
        hint="Repair that line, or save the data as one object a line (JSONL), where one bad row spoils nothing else.",
    )
