"""Curves in a terminal: dots of braille letters, or of plain ones where those cannot be written."""

import textwrap
from collections.abc import Sequence

from btmctl.client import Document
from btmctl.output import Output
from btmctl.plots.scales import Panel

ROWS = 8
MARGIN = 9
"""Columns for the labels of the vertical axis."""
NARROWEST, WIDEST = 30, 100
HELD_OUT_MARK = "o"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Braille dots by row and column, from U+2800."""


class Canvas:
    """Dots on a grid of letters: two by four a letter in braille, one by two in plain ones."""

    def __init__(self, columns: int, rows: int, *, braille: bool) -> None:
        self.columns, self.rows, self.braille = columns, rows, braille
        self.across, self.down = (2, 4) if braille else (1, 2)
        self.width, self.height = columns * self.across, rows * self.down
        self._dots: set[tuple[int, int]] = set()
        self._marks: dict[tuple[int, int], str] = {}

    def bar(self, x: int, top: int, bottom: int) -> None:
        """Dots in one column from one row to another."""
        for y in range(min(top, bottom), max(top, bottom) + 1):
            if 0 <= x < self.width and 0 <= y < self.height:
                self._dots.add((x, y))

    def line(self, x0: int, y0: int, x1: int, y1: int) -> None:
        """Dots between two points, without a gap."""
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for at in range(steps + 1):
            y = round(y0 + (y1 - y0) * at / steps)
            self.bar(round(x0 + (x1 - x0) * at / steps), y, y)

    def mark(self, x: int, y: int, letter: str) -> None:
        """A letter at a point, over all dots there."""
        cell = min(self.columns - 1, x // self.across), min(self.rows - 1, y // self.down)
        self._marks[cell] = letter

    def row(self, number: int) -> list[tuple[str, bool]]:
        """The letters of a row, each with whether it is a mark."""
        cells = ((column, number) for column in range(self.columns))
        return [(self._marks[cell], True) if cell in self._marks else (self._letter(*cell), False) for cell in cells]

    def _letter(self, column: int, row: int) -> str:
        x, y = column * self.across, row * self.down
        if not self.braille:
            upper, lower = (x, y) in self._dots, (x, y + 1) in self._dots
            return ":" if upper and lower else "'" if upper else "." if lower else " "
        bits = 0
        for dy, dots in enumerate(_DOTS):
            for dx, bit in enumerate(dots):
                if (x + dx, y + dy) in self._dots:
                    bits |= bit
        return chr(0x2800 + bits) if bits else " "


def width_of(output: Output) -> int:
    """Columns of a plot; what goes into a file or a pipe is as wide as a common terminal."""
    return max(NARROWEST, min(WIDEST, output.width)) if output.is_terminal else 80


def points_wanted(width: int) -> int:
    """As many points as a plot of this width has dots."""
    return max(10, 2 * (width - MARGIN - 1))


def show(panel: Panel, last_step: int, resumed_at: Sequence[int], output: Output, *, width: int, braille: bool) -> None:
    """One panel with its title, axes and sentences."""
    canvas = Canvas(width - MARGIN - 1, ROWS, braille=braille)
    line, measured = _split(panel.curves)
    for curve in line:
        _draw(canvas, curve, panel, last_step)
    for step, value in zip(measured["step"], measured["mean"], strict=True) if measured else ():
        canvas.mark(_across(step, last_step, canvas), _down(value, panel, canvas), HELD_OUT_MARK)
    title = panel.title
    if measured and line:
        title = f"{line[0]['title']}  ({HELD_OUT_MARK} {measured['title']})"
    output.line(title, "bold")
    labels = {0: panel.label(panel.high), ROWS - 1: panel.label(panel.low), ROWS // 2: _middle(panel)}
    for number in range(ROWS):
        output.pieces(_pieces(canvas.row(number), labels.get(number, "")))
    for line_of_foot in _foot(last_step, resumed_at, canvas):
        output.line(line_of_foot, "dim")
    for curve in panel.curves:
        for line_said in textwrap.wrap(str(curve["said"]), width - 1, initial_indent="  ", subsequent_indent="  "):
            output.line(line_said)


def _middle(panel: Panel) -> str:
    return panel.label(panel.high - (panel.high - panel.low) * (ROWS // 2) / (ROWS - 1))


def _split(curves: Sequence[Document]) -> tuple[list[Document], Document | None]:
    """Curves drawn as lines, and the one drawn as marks. A measured loss alone is a line as well."""
    lines = [curve for curve in curves if curve["key"] != "held_out"]
    measured = next((curve for curve in curves if curve["key"] == "held_out"), None)
    return lines, measured


def _draw(canvas: Canvas, curve: Document, panel: Panel, last_step: int) -> None:
    """From the lowest to the highest value of each point, and from point to point."""
    before: tuple[int, int] | None = None
    for step, low, high, mean in zip(curve["step"], curve["low"], curve["high"], curve["mean"], strict=True):
        x, y = _across(step, last_step, canvas), _down(mean, panel, canvas)
        canvas.bar(x, _down(high, panel, canvas), _down(low, panel, canvas))
        if before is not None:
            canvas.line(*before, x, y)
        before = x, y


def _across(step: int, last_step: int, canvas: Canvas) -> int:
    return round((canvas.width - 1) * step / max(1, last_step))


def _down(value: float, panel: Panel, canvas: Canvas) -> int:
    share = (panel.high - value) / (panel.high - panel.low)
    return min(canvas.height - 1, max(0, round((canvas.height - 1) * share)))


def _pieces(letters: Sequence[tuple[str, bool]], label: str) -> list[tuple[str, str]]:
    pieces = [(f"{label[: MARGIN - 1]:>{MARGIN - 1}} ", "dim"), ("|", "dim")]
    return pieces + [(letter, "yellow" if marked else "cyan") for letter, marked in letters]


def _foot(last_step: int, resumed_at: Sequence[int], canvas: Canvas) -> list[str]:
    """The horizontal axis: where the steps begin and end, and where a later attempt went on."""
    axis = ["-"] * canvas.columns
    for step in resumed_at:
        axis[min(canvas.columns - 1, _across(step, last_step, canvas) // canvas.across)] = "^"
    end = f"step {last_step:,}"
    note = "  ^ resumed" if resumed_at else ""
    room = canvas.columns - len(end) - 1 - len(note)
    return [
        " " * MARGIN + "+" + "".join(axis),
        " " * (MARGIN + 1) + "0" + note + " " * max(1, room) + end,
    ]


def can_write(letters: str, encoding: str | None) -> bool:
    """Whether letters can be written in an encoding."""
    try:
        letters.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
