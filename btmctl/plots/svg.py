"""A figure as SVG."""

from xml.sax.saxutils import escape

from btmctl.plots.figure import Area, Dot, Figure, Line, Shape, Text

_FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"


def write(figure: Figure) -> bytes:
    """The file's contents."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{figure.width}" height="{figure.height}" '
        f'viewBox="0 0 {figure.width} {figure.height}" role="img" aria-labelledby="title description" '
        f'font-family="{_FONT}">',
        f'<title id="title">{escape(figure.title)}</title>',
        f'<desc id="description">{escape(figure.description)}</desc>',
        f'<rect width="{figure.width}" height="{figure.height}" fill="#ffffff"/>',
        *map(_element, figure.shapes),
        "</svg>",
    ]
    return "\n".join([*lines, ""]).encode()


def _element(shape: Shape) -> str:
    match shape:
        case Line():
            dashes = ' stroke-dasharray="4 4"' if shape.dashed else ""
            return (
                f'<polyline points="{_points(shape.points)}" fill="none" stroke="{shape.colour}" '
                f'stroke-width="{shape.width:g}" stroke-linejoin="round"{dashes}/>'
            )
        case Area():
            return f'<polygon points="{_points(shape.points)}" fill="{shape.colour}"/>'
        case Dot():
            return f'<circle cx="{shape.x:.1f}" cy="{shape.y:.1f}" r="{shape.radius:g}" fill="{shape.colour}"/>'
        case Text():
            weight = ' font-weight="bold"' if shape.bold else ""
            return (
                f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" font-size="{shape.size:g}" text-anchor="{shape.anchor}" '
                f'fill="{shape.colour}"{weight}>{escape(shape.text)}</text>'
            )


def _points(points: tuple[tuple[float, float], ...]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
