"""A picture of a training as shapes on a sheet, before it becomes a file. Lengths in pixels, y grows downwards."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from btmctl.client import Document
from btmctl.plots.scales import Panel, ticks

WIDTH = 960
LEFT, RIGHT = 84, 24
TOP, TITLE, PLOT, FOOT = 64, 68, 170, 44
COLOURS = {
    "loss": ("#1f5fa8", "#c9dcf0"),
    "held_out": ("#c2410c", "#c2410c"),
    "learning_rate": ("#6d3fa0", "#e2d6f0"),
    "tokens_per_s": ("#15803d", "#cfe8d6"),
    "memory_bytes": ("#0f766e", "#cde7e4"),
    "gpu_memory_bytes": ("#a16207", "#f2e4c4"),
    "gradient_norm": ("#475569", "#dbe1e8"),
}
INK, GREY, GRID = "#1c1917", "#57534e", "#e7e5e4"


@dataclass(frozen=True)
class Line:
    points: tuple[tuple[float, float], ...]
    colour: str
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True)
class Area:
    points: tuple[tuple[float, float], ...]
    colour: str


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    radius: float
    colour: str


@dataclass(frozen=True)
class Text:
    """``anchor`` is ``start``, ``middle`` or ``end``; y is the baseline."""

    x: float
    y: float
    text: str
    size: float = 12.0
    anchor: str = "start"
    colour: str = INK
    bold: bool = False


Shape = Line | Area | Dot | Text


@dataclass
class Figure:
    """A sheet with its shapes, the later ones on top. ``description`` is for who cannot see it."""

    width: int
    height: int
    title: str
    description: str
    shapes: list[Shape] = field(default_factory=list)


def draw(found: Document, panels: Sequence[Panel], title: str, subtitle: str) -> Figure:
    """All panels below each other, over the same steps."""
    height = TOP + len(panels) * (TITLE + PLOT + FOOT)
    said = " ".join(str(curve["said"]) for panel in panels for curve in panel.curves)
    figure = Figure(WIDTH, height, title, said)
    figure.shapes.append(Text(LEFT, 30, title, 18, bold=True))
    figure.shapes.append(Text(LEFT, 50, subtitle, 12, colour=GREY))
    for number, panel in enumerate(panels):
        top = TOP + number * (TITLE + PLOT + FOOT) + TITLE
        _panel(figure, panel, found, top)
    return figure


def _panel(figure: Figure, panel: Panel, found: Document, top: float) -> None:
    last = max(1, int(found["last_step"]))
    _heading(figure, panel, top)
    for value in panel.ticks(4):
        y = _y(value, panel, top)
        figure.shapes.append(Line(((LEFT, y), (WIDTH - RIGHT, y)), GRID))
        figure.shapes.append(Text(LEFT - 8, y + 4, panel.label(value), 11, "end", GREY))
    for step in ticks(0, last, 8):
        x = _x(step, last)
        figure.shapes.append(Line(((x, top + PLOT), (x, top + PLOT + 4)), GREY))
        figure.shapes.append(Text(x, top + PLOT + 18, f"{step:,.0f}", 11, "middle", GREY))
    figure.shapes.append(Text(WIDTH - RIGHT, top + PLOT + 34, "step", 11, "end", GREY))
    figure.shapes.append(Line(((LEFT, top + PLOT), (WIDTH - RIGHT, top + PLOT)), GREY))
    for step in found["resumed_at"]:
        x = _x(step, last)
        figure.shapes.append(Line(((x, top), (x, top + PLOT)), GREY, dashed=True))
        figure.shapes.append(Text(x + 4, top + 12, "resumed", 11, colour=GREY))
    for curve in panel.curves:
        _curve(figure, curve, panel, last, top)


def _heading(figure: Figure, panel: Panel, top: float) -> None:
    """The names of the curves in their colours, and below how they went."""
    x = float(LEFT)
    for curve in panel.curves:
        unit = f" ({curve['unit']})" if curve["unit"] not in ("", "bytes") else ""
        name = f"{curve['title']}{unit}"
        figure.shapes.append(Dot(x + 5, top - 46, 5, COLOURS[curve["key"]][0]))
        figure.shapes.append(Text(x + 16, top - 42, name, 13, bold=True))
        x += 16 + 7.6 * len(name) + 24
    for number, curve in enumerate(panel.curves):
        figure.shapes.append(Text(LEFT, top - 25 + 15 * number, str(curve["said"]), 11, colour=GREY))


def _curve(figure: Figure, curve: Document, panel: Panel, last: int, top: float) -> None:
    """A band from the lowest to the highest value of each point with the mean in it; measurements as dots."""
    strong, light = COLOURS[curve["key"]]
    xs = [_x(step, last) for step in curve["step"]]

    def across(values: Sequence[float]) -> list[tuple[float, float]]:
        return [(x, _y(value, panel, top)) for x, value in zip(xs, values, strict=True)]

    mean = across(curve["mean"])
    if curve["low"] != curve["high"]:
        figure.shapes.append(Area((*across(curve["high"]), *reversed(across(curve["low"]))), light))
    if len(mean) > 1:
        figure.shapes.append(Line(tuple(mean), strong, 1.6))
    if curve["key"] == "held_out" or len(mean) == 1:
        figure.shapes += [Dot(x, y, 3.5, strong) for x, y in mean]


def _x(step: float, last: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * step / last


def _y(value: float, panel: Panel, top: float) -> float:
    return top + PLOT * (panel.high - value) / (panel.high - panel.low)
