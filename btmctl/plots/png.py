"""A figure as PNG: written as a page of PDF and painted by PDFium, which reads people's PDFs here anyway.

A library for plots would be many times larger than all of btmctl; PDFium has lines, letters and smooth edges already.
"""

import struct
import zlib

from btmctl.plots.figure import Area, Dot, Figure, Line, Shape, Text

SCALE = 2
"""Pixels of the picture to one of the figure, so that it is sharp on any screen."""
_ROUND = 0.5523
"""How far the handles of four Bezier curves have to stand out for a circle."""
_USUAL_WIDTH = 0.556
_WIDTHS = {" ": 0.278, ",": 0.278, ".": 0.278, "t": 0.278, "-": 0.333, "s": 0.5, "k": 0.5, "B": 0.667, "G": 0.778}
"""Of the letters in labels, in Helvetica, as shares of the size; digits and most small letters have the usual width."""


def write(figure: Figure) -> bytes:
    """The file's contents. Raises PdfiumError."""
    import pypdfium2

    document = pypdfium2.PdfDocument(_pdf(figure))
    try:
        bitmap = document[0].render(scale=SCALE, rev_byteorder=True)
        row_bytes, pixels = bitmap.width * 3, bytes(bitmap.buffer)
        starts = range(0, bitmap.height * bitmap.stride, bitmap.stride)
        return _png(bitmap.width, bitmap.height, b"".join(b"\0" + pixels[at : at + row_bytes] for at in starts))
    finally:
        document.close()


def _png(width: int, height: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _pdf(figure: Figure) -> bytes:
    """One page; its y grows upwards, so the whole page is turned over and each text back again."""
    drawn = "\n".join(["1 1 1 rg", f"0 0 {figure.width} {figure.height} re f", *map(_operators, figure.shapes)])
    content = f"1 0 0 -1 0 {figure.height} cm\n{drawn}\n".encode("cp1252", "replace")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {figure.width} {figure.height}] /Contents 4 0 R "
        "/Resources << /Font << /F 5 0 R /B 6 0 R >> >> >>".encode(),
        b"<< /Length %d >>\nstream\n%sendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>",
    ]
    written, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    end += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(written)}\n%%EOF\n"
    return written + end.encode()


def _operators(shape: Shape) -> str:
    match shape:
        case Line():
            dashes = "[4 4] 0 d" if shape.dashed else "[] 0 d"
            return f"{_colour(shape.colour)} RG {shape.width:g} w 1 j {dashes} {_path(shape.points)} S"
        case Area():
            return f"{_colour(shape.colour)} rg {_path(shape.points)} f"
        case Dot():
            return f"{_colour(shape.colour)} rg {_circle(shape.x, shape.y, shape.radius)} f"
        case Text():
            x = shape.x - {"start": 0.0, "middle": 0.5, "end": 1.0}[shape.anchor] * _text_width(shape)
            font = "B" if shape.bold else "F"
            return (
                f"BT {_colour(shape.colour)} rg /{font} {shape.size:g} Tf 1 0 0 -1 {x:.2f} {shape.y:.2f} Tm "
                f"({_quoted(shape.text)}) Tj ET"
            )


def _colour(colour: str) -> str:
    return " ".join(f"{int(colour[at : at + 2], 16) / 255:.3f}" for at in (1, 3, 5))


def _path(points: tuple[tuple[float, float], ...]) -> str:
    return " ".join(f"{x:.2f} {y:.2f} {'l' if at else 'm'}" for at, (x, y) in enumerate(points))


def _circle(x: float, y: float, r: float) -> str:
    k = _ROUND * r
    curves = (
        (x + r, y + k, x + k, y + r, x, y + r),
        (x - k, y + r, x - r, y + k, x - r, y),
        (x - r, y - k, x - k, y - r, x, y - r),
        (x + k, y - r, x + r, y - k, x + r, y),
    )
    return f"{x + r:.2f} {y:.2f} m " + " ".join(" ".join(f"{one:.2f}" for one in curve) + " c" for curve in curves)


def _text_width(text: Text) -> float:
    return text.size * sum(_WIDTHS.get(letter, _USUAL_WIDTH) for letter in text.text)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
