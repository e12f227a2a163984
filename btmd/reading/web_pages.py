"""The text of an HTML page in lines: headings, paragraphs, lists and tables; scripts and navigation left out."""

import codecs
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Final

from btmd.errors import DatasetEncoding, DatasetUnsafe
from btmd.reading.text_blocks import Line

MOST_BYTES: Final = 32 * 1024 * 1024
_CHARSET: Final = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?([\w.:-]{2,40})""", re.IGNORECASE)
_HEADINGS: Final = frozenset(("h1", "h2", "h3", "h4", "h5", "h6", "title"))
_BLOCKS: Final = _HEADINGS | frozenset(
    (
        *("p", "div", "section", "article", "main", "header", "ul", "ol", "li", "dl", "dt", "dd", "table", "tr", "pre"),
        *("blockquote", "figure", "figcaption", "hr", "body", "details", "summary", "address", "caption", "br"),
    )
)
_LEFT_OUT: Final = frozenset(
    (
        *("script", "style", "noscript", "template", "nav", "footer", "aside", "form", "button", "select", "svg"),
        *("iframe", "object", "canvas", "math"),
    )
)
_TAG: Final = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9:-]{0,40})")
_RAW: Final = {tag: re.compile(f"</{tag}", re.IGNORECASE) for tag in ("script", "style", "textarea", "xmp")}
"""What stands in these is no page: it ends at their closing mark."""
_VOID: Final = frozenset(("br", "hr", "img", "input", "meta", "link", "source", "wbr", "area", "base", "col", "embed"))


def html_lines(path: Path, encoding: str) -> Iterator[Line]:
    """The lines of the page, numbered as in the file. Raises DatasetUnsafe or DatasetEncoding."""
    if path.stat().st_size > MOST_BYTES:
        raise DatasetUnsafe(
            f"The page is larger than {MOST_BYTES >> 20} MiB.", hint="Save its text as .txt, or split it."
        )
    reader = _Reader()
    reader.read(_decoded(path.read_bytes(), encoding))
    reader.end_line()
    lines = reader.lines
    if reader.title and any(line.is_heading and line.text == reader.title for line in lines[1:]):
        # Pages say their name twice: for the window and for the reader.
        lines = lines[1:]
    yield from lines


def declared_encoding(path: Path) -> str | None:
    """What the page says it is written in, if all of it is."""
    if path.stat().st_size > MOST_BYTES:
        return None
    content = path.read_bytes()
    said = _CHARSET.search(content[:4096])
    if said is None:
        return None
    try:
        name = codecs.lookup(said.group(1).decode("ascii")).name
        content.decode(name)
    except (LookupError, UnicodeDecodeError, ValueError):
        return None
    return name


def _decoded(content: bytes, encoding: str) -> str:
    try:
        return content.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        raise DatasetEncoding(
            "The page's characters cannot be read.", hint="Open it in a browser and save it again as UTF-8."
        ) from error


class _Reader:
    """Goes through the page from mark to mark. Every search ends at what it looks for or at the end of the page.

    The standard library's parser begins anew at each mark that is never closed: a page of nothing but those would take
    hours.
    """

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._words: list[str] = []
        self._begins_at = 1
        self._heading = False
        self._left_out: list[str] = []
        self.title = ""
        """Of the page, where it is the first line."""
        self._pre = 0
        self._line = 1

    def read(self, page: str) -> None:
        at = 0
        while at < len(page):
            mark = page.find("<", at)
            end = mark if mark >= 0 else len(page)
            if end > at:
                self._take_text(unescape(page[at:end]))
                self._line += page.count("\n", at, end)
            if mark < 0:
                return
            at = self._after_mark(page, mark)
            self._line += page.count("\n", mark, at)

    def _after_mark(self, page: str, at: int) -> int:
        """Where the page goes on behind what begins here."""
        if page.startswith("<!--", at):
            return _behind(page, "-->", at + 4)
        found = _TAG.match(page, at)
        if found is None:
            if page[at + 1 : at + 2] in ("!", "?", "/"):
                return _behind(page, ">", at + 1)
            self._take_text("<")
            return at + 1
        tag = found.group(2).lower()
        end = _behind(page, ">", found.end())
        if found.group(1):
            self._end_tag(tag)
            return end
        self._start_tag(tag)
        if tag in _RAW:
            closing = _RAW[tag].search(page, end)
            self._end_tag(tag)
            return len(page) if closing is None else _behind(page, ">", closing.end())
        return end

    def _start_tag(self, tag: str) -> None:
        if tag in _LEFT_OUT:
            self._left_out.append(tag)
        elif tag in _BLOCKS:
            self.end_line(apart=tag not in ("li", "tr", "br", "dd"))
            self._heading = tag in _HEADINGS
            if tag == "li":
                self._words.append("- ")
        elif tag in ("td", "th") and any(word.strip() for word in self._words):
            self._words.append(" | ")
        if tag == "pre":
            self._pre += 1

    def _end_tag(self, tag: str) -> None:
        if tag in _LEFT_OUT:
            # What was opened inside and never closed ends here too.
            if tag in self._left_out:
                del self._left_out[self._left_out.index(tag) :]
        elif tag in _BLOCKS and tag not in _VOID:
            if tag == "title" and not self.lines:
                self.title = " ".join("".join(self._words).split())
            self.end_line(apart=tag not in ("li", "tr", "dd"))
            self._heading = False
        if tag == "pre" and self._pre:
            self._pre -= 1

    def _take_text(self, data: str) -> None:
        if self._left_out:
            return
        if not self._words:
            self._begins_at = self._line
        self._words.append(data)

    def end_line(self, *, apart: bool = True) -> None:
        text = "".join(self._words)
        self._words.clear()
        rows = [row.rstrip() for row in text.split("\n")] if self._pre else [" ".join(text.split())]
        for row in rows:
            if row.strip() not in ("", "-", "|"):
                self.lines.append(Line(self._begins_at, row, self._heading))
        if apart and self.lines and self.lines[-1].text:
            self.lines.append(Line(self._begins_at, ""))


def _behind(page: str, mark: str, at: int) -> int:
    """The place behind the next mark; the page's end without one."""
    found = page.find(mark, at)
    return len(page) if found < 0 else found + len(mark)
