"""What a person or a program gets to see: tables, fields, progress lines and JSON, fitted to the terminal."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TextIO

from btmd.control_characters import clean, clean_json

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_GAP = "  "
_NARROWEST_LAST_COLUMN = 12


class Output:
    """Results on standard output, everything said to the person on standard error."""

    def __init__(
        self,
        *,
        as_json: bool = False,
        environment: Mapping[str, str] = os.environ,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        self.as_json = as_json
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr
        plain = bool(environment.get("NO_COLOR")) or environment.get("TERM") == "dumb"
        self.is_terminal = self._stdout.isatty()
        self.messages_at_terminal = self._stderr.isatty()
        self._colour = self.is_terminal and not plain
        self._colour_messages = self.messages_at_terminal and not plain
        self._progress_shown = False
        self._progress_text = ""
        self._is_blank = True
        """Whether there was nothing to see so far."""

    @property
    def coloured(self) -> bool:
        """Whether results are in colour."""
        return self._colour

    @property
    def width(self) -> int:
        """Columns of the terminal; a pipe has no edge."""
        import shutil

        return shutil.get_terminal_size((80, 24)).columns if self.is_terminal else 1_000_000

    @property
    def _message_width(self) -> int:
        import shutil

        return shutil.get_terminal_size((80, 24)).columns if self.messages_at_terminal else 1_000_000

    # --- results --------------------------------------------------------------------------------

    def document(self, value: Any) -> None:
        """One JSON document."""
        self._write(self._harmless(json.dumps(value, indent=2, ensure_ascii=False)) + "\n")

    def json_line(self, value: Any) -> None:
        """One JSON object of a stream, at once."""
        self._write(self._harmless(json.dumps(value, ensure_ascii=False, separators=(",", ":"))) + "\n")

    def _harmless(self, document: str) -> str:
        """The same document; at a terminal, what could steer it stands escaped."""
        return clean_json(document) if self.is_terminal else document

    def line(self, text: str = "", style: str = "") -> None:
        self._write(self.styled(clean(text), style) + "\n")

    def pieces(self, pieces: Iterable[tuple[str, str]]) -> None:
        """A line of texts, each in a style of its own."""
        self._write("".join(self.styled(clean(text), style) for text, style in pieces).rstrip() + "\n")

    def raw(self, text: str) -> None:
        """Text as it is, for logs and answers; at a terminal without what could steer it."""
        self._write(clean(text, keep="\n\t") if self.is_terminal else text)

    def steer(self, sequence: str) -> None:
        """A control sequence of our own, where results go to a terminal."""
        if self.is_terminal:
            self._write(sequence)

    def paragraph(self, text: str, indent: str = "", style: str = "") -> None:
        """A sentence or several, wrapped at the terminal's edge."""
        import textwrap

        width = max(20, min(self.width, 100) - 1)
        lines = textwrap.wrap(clean(text), width, initial_indent=indent, subsequent_indent=indent)
        for line in lines or [""]:
            self._write(self.styled(line, style) + "\n")

    def fields(self, pairs: Iterable[tuple[str, object]]) -> None:
        """Names and values, the values aligned, or below them where no room is beside; an empty one is left out."""
        shown = [(clean(name), clean(str(value))) for name, value in pairs if value not in (None, "")]
        widest = max((columns(name) for name, _ in shown), default=0)
        margin = widest + len(_GAP)
        room = self.width - margin
        below = room < _NARROWEST_LAST_COLUMN and any(columns(value) > room for _, value in shown)
        for name, value in shown:
            if below:
                self._write(self.styled(name, "dim") + "\n" + _GAP + _folded(value, self.width, len(_GAP)) + "\n")
                continue
            folded = _folded(value, self.width, margin)
            self._write(self.styled(_padded(name, widest), "dim") + _GAP + folded + "\n")

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[object]], *, wrap: bool = False) -> None:
        """Aligned columns; at a terminal too narrow for them, one block a row.

        The last column is cut at the terminal's edge, or with ``wrap`` goes on below itself.
        """
        headings = [clean(heading) for heading in headings]
        cells = [[clean("" if value is None else str(value)) for value in row] for row in rows]
        widths = [max([columns(heading), *(columns(row[at]) for row in cells)]) for at, heading in enumerate(headings)]
        fixed = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
        room = self.width - fixed
        if room < min(widths[-1], _NARROWEST_LAST_COLUMN):
            for row in cells:
                self.fields(zip(headings, row, strict=True))
                self._write("\n")
            return
        self._write(self.styled(_row(headings, widths, room), "bold") + "\n")
        for row in cells:
            first, *more = _wrapped(row[-1], room) if wrap else [row[-1]]
            self._write(_row([*row[:-1], first], widths, room) + "\n")
            for line in more:
                self._write(" " * fixed + line + "\n")

    # --- messages -------------------------------------------------------------------------------

    def say(self, text: str = "", style: str = "") -> None:
        """A message to the person."""
        self.end_progress()
        code = _STYLES.get(style, "") if self._colour_messages else ""
        text = _folded(clean(text), self._message_width)
        self._stderr.write((f"\x1b[{code}m{text}\x1b[0m" if code else text) + "\n")
        self._stderr.flush()
        self._is_blank = False

    def question(self, text: str) -> None:
        """What a person is to answer on the same line."""
        self.end_progress()
        self._stderr.write(_folded(clean(text.rstrip()), self._message_width - 1) + " ")
        self._stderr.flush()
        self._is_blank = False

    def progress(self, share: float | None, text: str) -> None:
        """How far something is: a line that is written over at a terminal, else one line for each new sentence."""
        if not self.messages_at_terminal:
            if text and text != self._progress_text and not self.as_json:
                self._stderr.write(clean(text) + "\n")
                self._stderr.flush()
            self._progress_text = text
            return
        width = self._message_width
        figure = "" if share is None else f"{share:4.0%} "
        bar = "" if share is None or width < 60 else _bar(share, 20) + " "
        shown = cut(f"{figure}{bar}{clean(text)}", width - 1)
        self._stderr.write("\r\x1b[K" + shown)
        self._stderr.flush()
        self._progress_shown, self._is_blank = True, False

    def progress_text(self, text: str) -> None:
        """Progress of which nobody knows how far it is."""
        self.progress(None, text)

    def waiting(self) -> Callable[[], None]:
        """Where a person sees nothing yet: that the daemon is waited for, until what is returned is called."""
        if not (self._is_blank and self.messages_at_terminal):
            return lambda: None
        self.progress_text("Waiting for the daemon...")
        return self._waited

    def _waited(self) -> None:
        self.end_progress()
        self._is_blank = True

    def end_progress(self) -> None:
        """Take the progress line away."""
        if self._progress_shown:
            self._stderr.write("\r\x1b[K")
            self._stderr.flush()
            self._progress_shown = False

    def problem(self, what: str, why: str, hint: str) -> None:
        """Three lines: what, why, and the command that helps."""
        self.end_progress()
        for label, text, code in (("error", what, "31;1"), ("  why", why, "2"), ("  try", hint, "36")):
            if text:
                said = clean(" ".join(text.split()))
                # A command that is broken into lines cannot be pasted.
                if not said.startswith("btmctl "):
                    said = _folded(said, self._message_width, len(label) + 2)
                label = f"\x1b[{code}m{label}:\x1b[0m" if self._colour_messages else f"{label}:"
                self._stderr.write(f"{label} {said}\n")
        self._stderr.flush()

    def styled(self, text: str, style: str) -> str:
        code = _STYLES.get(style, "") if self._colour else ""
        return f"\x1b[{code}m{text}\x1b[0m" if code else text

    def _write(self, text: str) -> None:
        self._stdout.write(text)
        self._stdout.flush()
        self._is_blank = False


def columns(text: str) -> int:
    """How many columns a terminal needs for the text."""
    if text.isascii():
        return len(text)
    import unicodedata

    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) != 0 for letter in text)


def cut(text: str, width: int) -> str:
    """The text, shortened with an ellipsis where it is wider than ``width`` columns."""
    if columns(text) <= width:
        return text
    while text and columns(text) > max(0, width - 1):
        text = text[:-1]
    return text + "…" if width > 0 else ""


def _padded(text: str, width: int) -> str:
    return text + " " * (width - columns(text))


def _row(cells: Sequence[str], widths: Sequence[int], room: int) -> str:
    fixed = [_padded(cell, width) for cell, width in zip(cells[:-1], widths[:-1], strict=True)]
    return _GAP.join([*fixed, cut(cells[-1], room)]).rstrip()


def _folded(text: str, width: int, margin: int = 0) -> str:
    """The text in lines that fit ``width`` where ``margin`` columns are taken on each; paths stay whole."""
    room = width - margin
    if columns(text) <= room or room < _NARROWEST_LAST_COLUMN:
        return text
    import textwrap

    return ("\n" + " " * margin).join(textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False))


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, max(10, width)) or [""]


def _bar(share: float, width: int) -> str:
    full = round(min(1.0, max(0.0, share)) * width)
    return "█" * full + "░" * (width - full)
