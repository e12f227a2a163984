"""Splits a plain text into rows: where a heading stands, or between paragraphs. Every word ends up in one row."""

import io
import re
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

BLOCK_CHARS: Final = 1500
"""About 400 tokens of English. A row ends after the paragraph with which it has half as many."""

_HEADING: Final = re.compile(r" {0,3}#{1,6}(?:\s|$)")
_FENCE: Final = re.compile(r" {0,3}(```|~~~)")


class Line(Struct, frozen=True):
    """A line of text and where it stands; an empty one ends a paragraph."""

    number: int
    text: str
    is_heading: bool = False


class _Block:
    """The row being put together."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.start = 1
        self.size = 0
        self.has_body = False
        """Whether anything but headings is in it."""
        self._paragraph_ended = False

    def take(self, line: Line) -> None:
        if not self.lines:
            self.start = line.number
        elif self._paragraph_ended:
            self.lines.append("")
        self._paragraph_ended = False
        self.lines.append(line.text.rstrip())
        self.size += len(line.text)
        self.has_body = self.has_body or not line.is_heading

    def end_paragraph(self) -> None:
        self._paragraph_ended = bool(self.lines)


def text_blocks(file: io.TextIOWrapper, *, markdown: bool) -> Iterator[tuple[int, str]]:
    """Rows as (line where it begins, text): whole paragraphs together, a longer one split between words.

    In Markdown a heading begins a row, except inside a code fence, and stays with what follows it.
    """
    return blocks(_lines(file, markdown=markdown))


def blocks(lines: Iterable[Line]) -> Iterator[tuple[int, str]]:
    """Rows of these lines, a heading at the beginning of one."""
    block = _Block()
    for whole in lines:
        for line in _pieces(whole):
            blank = not line.text.strip()
            is_full = block.size > BLOCK_CHARS or (blank and block.size > BLOCK_CHARS // 2)
            if block.has_body and (is_full or line.is_heading):
                yield block.start, "\n".join(block.lines)
                block = _Block()
            if blank:
                block.end_paragraph()
            else:
                block.take(line)
    if block.lines:
        yield block.start, "\n".join(block.lines)


def _pieces(line: Line) -> Iterator[Line]:
    """The line, split between words where it is longer than a row."""
    text = line.text
    while len(text) > BLOCK_CHARS:
        at = text.rfind(" ", 0, BLOCK_CHARS) + 1 or BLOCK_CHARS
        yield Line(line.number, text[:at], line.is_heading)
        text = text[at:]
    yield Line(line.number, text, line.is_heading)


def _lines(file: io.TextIOWrapper, *, markdown: bool) -> Iterator[Line]:
    fence = ""
    for number, text in _bounded_lines(file):
        yield Line(number, text, markdown and not fence and _HEADING.match(text) is not None)
        if markdown:
            fence = _fence_after(text, fence)


def _fence_after(line: str, fence: str) -> str:
    """The mark of the code fence that is open behind the line; empty for none."""
    found = _FENCE.match(line)
    if found is None:
        return fence
    if not fence:
        return found.group(1)
    return "" if found.group(1) == fence else fence


def _bounded_lines(file: io.TextIOWrapper) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; one of endless length comes in pieces that end at a space."""
    rest = ""
    number = 1
    while read := file.readline(BLOCK_CHARS):
        piece, rest = rest + read, ""
        ended = piece.endswith(("\n", "\r"))
        # Of fewer characters it is the last line, which may end without a mark.
        if not ended and len(read) == BLOCK_CHARS and (at := piece.rfind(" ") + 1) > 0:
            piece, rest = piece[:at], piece[at:]
        yield number, piece
        number += ended
    if rest:
        yield number, rest
