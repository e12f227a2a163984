"""Records of a file with one JSON value a line, from its beginning or from any place in it."""

import codecs
from collections.abc import Iterator
from typing import Final, Protocol

import msgspec

from btmd.reading.records import MAX_RECORD_BYTES, Record, record_of

_ENDLESS: Final = 1 << 62


class Lines(Protocol):
    """What lines are read from."""

    def readline(self, limit: int, /) -> bytes:
        """The next line, or so many bytes of it; nothing at the end."""
        ...


class JsonLines:
    """The records of lines; ``lines`` says how many were read, empty ones too.

    With ``begin`` and ``end``, of a seekable file, these are the lines whose first byte stands from ``begin`` up to
    ``end``, counted from 1. Whatever the places, pieces next to each other have each line once.
    """

    def __init__(self, file: Lines, *, begin: int = 0, end: int = _ENDLESS) -> None:
        self._file, self._at, self._end = file, begin, end
        self._is_first = begin == 0
        self.lines = 0

    def __iter__(self) -> Iterator[Record]:
        """Yield every record, broken ones with their reason."""
        for number, line in self.undecoded():
            yield record_of_line(number, line)

    def undecoded(self) -> Iterator[tuple[int, bytes | None]]:
        """Yield the number and the bytes of every line that is not empty; None for one that is too long."""
        file = self._file
        if not self._is_first:
            # The line that began before: read no further than to the end of this piece, or a line over many pieces
            # would be read by each of them. Whoever hands over a place has put the file on the byte before it.
            self._at += len(file.readline(self._end - self._at + 1)) - 1
        while self._at < self._end and (line := file.readline(MAX_RECORD_BYTES)):
            self._at += len(line)
            self.lines += 1
            if self._is_first:
                line, self._is_first = line.removeprefix(codecs.BOM_UTF8), False
            if len(line) >= MAX_RECORD_BYTES and not line.endswith(b"\n"):
                self._pass_over()
                yield self.lines, None
            elif not line.isspace():
                yield self.lines, line

    def _pass_over(self) -> None:
        """Go to the end of a line."""
        while rest := self._file.readline(MAX_RECORD_BYTES):
            self._at += len(rest)
            if rest.endswith(b"\n"):
                return


def record_of_line(number: int, line: bytes | None) -> Record:
    """A line as a record; None is one that is too long."""
    if line is None:
        return Record(number, broken=f"longer than {MAX_RECORD_BYTES >> 20} MiB")
    try:
        value = msgspec.json.decode(line)
    except msgspec.DecodeError:
        cut = not line.endswith(b"\n") and line.lstrip().startswith(b"{")
        return Record(number, broken="not valid JSON" + (", the file ends inside the row" if cut else ""))
    except UnicodeDecodeError:
        return Record(number, broken="not valid UTF-8")
    except RecursionError:
        return Record(number, broken="nested too deeply")
    return record_of(number, value)
