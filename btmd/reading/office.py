"""Paragraphs of .docx and .odt documents: headings, lists and tables as text; comments and deleted text left out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from btmd.reading.text_blocks import Line
from btmd.reading.zipped_xml import encrypted, opened_archive, safe_parser, unpacked

_WORD: Final = "http://schemas.openxmlformats.org/wordprocessingml/2006/main "
_STRICT_WORD: Final = "http://purl.oclc.org/ooxml/wordprocessingml/main "
_TEXT: Final = "urn:oasis:names:tc:opendocument:xmlns:text:1.0 "
_TABLE: Final = "urn:oasis:names:tc:opendocument:xmlns:table:1.0 "
_OFFICE: Final = "urn:oasis:names:tc:opendocument:xmlns:office:1.0 "
_MOST_SPACES: Final = 100
_HEADINGS: Final = ("heading", "title", "überschrift", "berschrift", "titre", "titolo", "titulo", "kop")


def docx_lines(path: Path) -> Iterator[Line]:
    """The paragraphs, numbered from 1. Raises DatasetDamaged, DatasetEncrypted or DatasetUnsafe."""
    return _lines(path, "word/document.xml", _WordText())


def odt_lines(path: Path) -> Iterator[Line]:
    """The paragraphs, numbered from 1. Raises DatasetDamaged, DatasetEncrypted or DatasetUnsafe."""
    with opened_archive(path) as archive:
        if any(b"encryption-data" in piece for piece in unpacked(archive, "META-INF/manifest.xml")):
            raise encrypted()
    return _lines(path, "content.xml", _OpenText())


def _lines(path: Path, part: str, text: "_Text") -> Iterator[Line]:
    parser = safe_parser()
    parser.StartElementHandler = text.start
    parser.EndElementHandler = text.end
    parser.CharacterDataHandler = text.characters
    with opened_archive(path) as archive:
        for piece in unpacked(archive, part):
            parser.Parse(piece, False)
            yield from text.take()
        parser.Parse(b"", True)
        yield from text.take()


class _Text:
    """Collects the paragraphs of one document. A paragraph inside another, in a text box, comes before it."""

    def __init__(self) -> None:
        self._done: list[Line] = []
        self._number = 0
        self._open: list[list[str]] = []
        self._heading = False
        self._item = False
        self._hidden = 0
        self._cells: list[list[str]] = []

    def take(self) -> list[Line]:
        done, self._done = self._done, []
        return done

    def start(self, name: str, attributes: dict[str, str]) -> None:
        raise NotImplementedError

    def end(self, name: str) -> None:
        raise NotImplementedError

    def characters(self, text: str) -> None:
        raise NotImplementedError

    def _begin_paragraph(self, *, heading: bool = False, item: bool = False) -> None:
        self._open.append([])
        self._heading, self._item = heading, item

    def _add(self, text: str) -> None:
        if self._open and not self._hidden:
            self._open[-1].append(text)

    def _end_paragraph(self) -> None:
        if not self._open:
            return
        text = "".join(self._open.pop()).strip()
        if self._cells:
            self._cells[-1].append(" ".join(text.split()))
            return
        if text and self._item:
            text = f"- {text}"
        self._write(text, heading=self._heading)
        self._heading = self._item = False

    def _begin_row(self) -> None:
        self._cells.append([])

    def _end_row(self) -> None:
        if self._cells:
            cells = [cell for cell in self._cells.pop() if cell]
            if self._cells:
                self._cells[-1] += cells
            elif cells:
                self._write(" | ".join(cells), table=True)

    def _write(self, text: str, *, heading: bool = False, table: bool = False) -> None:
        self._number += 1
        self._done.append(Line(self._number, text, heading))
        if text and not table:
            self._done.append(Line(self._number, ""))


class _WordText(_Text):
    def __init__(self) -> None:
        super().__init__()
        self._in_text = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        space, _, tag = name.rpartition(" ")
        if tag == "Fallback":
            # The same text once more, for programs that cannot show what stands before it.
            self._hidden += 1
        if f"{space} " not in (_WORD, _STRICT_WORD):
            return
        value = attributes.get(f"{space} val", "")
        if tag == "p":
            self._begin_paragraph()
        elif tag == "pStyle":
            self._heading = value.lower().startswith(_HEADINGS)
        elif tag == "numPr":
            self._item = True
        elif tag == "t":
            self._in_text = True
        elif tag == "tab":
            self._add("\t")
        elif tag in ("br", "cr"):
            self._add("\n")
        elif tag == "tr":
            self._begin_row()

    def end(self, name: str) -> None:
        space, _, tag = name.rpartition(" ")
        if tag == "Fallback":
            self._hidden -= 1
        if f"{space} " not in (_WORD, _STRICT_WORD):
            return
        if tag == "p":
            self._end_paragraph()
        elif tag == "t":
            self._in_text = False
        elif tag == "tr":
            self._end_row()

    def characters(self, text: str) -> None:
        if self._in_text:
            self._add(text)


class _OpenText(_Text):
    _hiding: Final = (f"{_TEXT}tracked-changes", f"{_OFFICE}annotation", f"{_TEXT}note-citation")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name in self._hiding:
            self._hidden += 1
        elif name == f"{_TEXT}h":
            self._begin_paragraph(heading=True)
        elif name == f"{_TEXT}p":
            self._begin_paragraph(item=self._item)
        elif name == f"{_TEXT}list-item":
            self._item = True
        elif name == f"{_TEXT}s":
            count = attributes.get(f"{_TEXT}c", "1")
            self._add(" " * (min(int(count), _MOST_SPACES) if count.isascii() and count.isdigit() else 1))
        elif name == f"{_TEXT}tab":
            self._add("\t")
        elif name == f"{_TEXT}line-break":
            self._add("\n")
        elif name == f"{_TABLE}table-row":
            self._begin_row()

    def end(self, name: str) -> None:
        if name in self._hiding:
            self._hidden -= 1
        elif name in (f"{_TEXT}h", f"{_TEXT}p"):
            self._end_paragraph()
        elif name == f"{_TEXT}list-item":
            self._item = False
        elif name == f"{_TABLE}table-row":
            self._end_row()

    def characters(self, text: str) -> None:
        self._add(" ".join(text.split("\n")))
