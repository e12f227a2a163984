"""Two answers in columns, written while they come: over themselves as long as they fit the screen."""

from btmctl.output import Output, columns, cut
from btmd.control_characters import clean

LEAST_WIDTH = 80
"""Narrower, two columns hold too few words: then one stands below the other."""
_GAP = " │ "
_TITLES = ("before", "after")


class SideBySide:
    """Draws both texts so far; ``end`` leaves them whole."""

    def __init__(self, output: Output, height: int) -> None:
        self._output, self._height = output, height
        self._width = (min(output.width, 160) - len(_GAP)) // 2
        self._texts = ["", ""]
        self._drawn = 0
        self._output.line(_row(*_TITLES, self._width), "bold")

    def add(self, side: int, text: str) -> None:
        """More of the answer on one side (0: before, 1: after)."""
        self._texts[side] += text
        self._draw(self._rows()[: self._height - 2])

    def end(self) -> None:
        """The whole answers, also the part that did not fit the screen while they came."""
        self._draw(self._rows())

    def _rows(self) -> list[str]:
        left, right = (_lines(text, self._width) for text in self._texts)
        count = max(len(left), len(right))
        left += [""] * (count - len(left))
        right += [""] * (count - len(right))
        return [_row(one, other, self._width) for one, other in zip(left, right, strict=True)]

    def _draw(self, rows: list[str]) -> None:
        back = f"\x1b[{self._drawn}A\r\x1b[J" if self._drawn else ""
        self._output.steer(back)
        for row in rows:
            self._output.line(row)
        self._drawn = len(rows)


def _row(left: str, right: str, width: int) -> str:
    left = cut(left, width)
    return f"{left}{' ' * (width - columns(left))}{_GAP}{cut(right, width)}".rstrip()


def _lines(text: str, width: int) -> list[str]:
    """The text in lines of at most ``width`` columns; words that are wider are broken."""
    found: list[str] = []
    for line in text.split("\n"):
        current = ""
        for word in clean(line).split(" "):
            joined = f"{current} {word}" if current else word
            if columns(joined) <= width:
                current = joined
                continue
            if current:
                found.append(current)
            current = word
            while columns(current) > width:
                taken = _first_columns(current, width)
                found.append(taken)
                current = current[len(taken) :]
        found.append(current)
    return found


def _first_columns(text: str, width: int) -> str:
    taken = text[:width]
    while columns(taken) > width:
        taken = taken[:-1]
    return taken
