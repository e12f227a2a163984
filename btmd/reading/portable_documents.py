"""The text of a PDF's text layer, page by page, with lines put together into paragraphs again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pypdfium2 as pdfium

from btmd.errors import DatasetDamaged, DatasetEncrypted, DatasetScanned, DatasetUnsafe
from btmd.reading.text_blocks import Line

MOST_PAGES: Final = 10_000
_FEWEST_CHARS: Final = 16
"""On a page; with fewer it is a picture with perhaps a number printed on it."""
_FULL_LINE: Final = 0.7
"""Of a page's longest lines: shorter ones end a paragraph."""
_SOFT_HYPHENS: Final = ("\ufffe", "\x02", "\u00ad")


def pdf_lines(path: Path) -> Iterator[Line]:
    """Lines numbered by the page they stand on.

    Raises DatasetEncrypted, DatasetDamaged, DatasetScanned where no page has text, DatasetUnsafe for too many pages.
    """
    try:
        document = pdfium.PdfDocument(path)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower() or "security" in str(error).lower():
            raise DatasetEncrypted(
                "The PDF is protected by a password.", hint="Open it and save or print it as a PDF without one."
            ) from error
        raise _damaged() from error
    try:
        pages = len(document)
        if pages > MOST_PAGES:
            raise DatasetUnsafe(f"The PDF says it has {pages:,} pages.", hint="Split it into parts.")
        found = 0
        for number in range(pages):
            try:
                page = document[number]
                text_page = page.get_textpage()
                text = text_page.get_text_bounded()
                text_page.close()
                page.close()
            except pdfium.PdfiumError:
                continue
            if len(text.strip()) < _FEWEST_CHARS:
                continue
            found += 1
            yield from _paragraphs(number + 1, text)
        if pages == 0:
            raise _damaged()
        if not found:
            raise DatasetScanned(
                "The PDF has no text layer: its pages are pictures of text.",
                hint="Run a text recognition over it first (ocrmypdf makes a PDF with a text layer).",
            )
    finally:
        document.close()


def _damaged() -> DatasetDamaged:
    return DatasetDamaged("The PDF is damaged and cannot be read.", hint="Copy it anew, or print it to a new PDF.")


def _paragraphs(page: int, text: str) -> Iterator[Line]:
    for mark in _SOFT_HYPHENS:
        text = text.replace(f"{mark}\r\n", "").replace(f"{mark}\n", "").replace(mark, "")
    lines = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    lengths = sorted(len(line) for line in lines if line)
    full = lengths[int(len(lengths) * 0.9)] * _FULL_LINE if lengths else 0
    paragraph = ""
    for line in lines:
        if not line:
            if paragraph:
                yield from (Line(page, paragraph), Line(page, ""))
            paragraph = ""
            continue
        paragraph = _joined(paragraph, line)
        if len(line) < full:
            yield from (Line(page, paragraph), Line(page, ""))
            paragraph = ""
    if paragraph:
        # A paragraph may go on behind the page's end: no gap is made there.
        yield Line(page, paragraph)


def _joined(paragraph: str, line: str) -> str:
    if not paragraph:
        return line
    if paragraph.endswith("-") and paragraph[-2:-1].isalpha() and line[:1].islower():
        return paragraph[:-1] + line
    return f"{paragraph} {line}"
