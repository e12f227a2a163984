"""Which panels are drawn of a training, and the marks on their axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from btmctl.client import Document

PANELS = {
    "loss": ("loss", "held_out"),
    "rate": ("learning_rate",),
    "speed": ("tokens_per_s",),
    "memory": ("memory_bytes", "gpu_memory_bytes"),
    "gradient": ("gradient_norm",),
}
"""Names as they are asked for, with the curves that share a panel."""


@dataclass(frozen=True)
class Panel:
    """Curves with one axis. ``low`` and ``high`` hold all values with a little room."""

    curves: tuple[Document, ...]
    low: float
    high: float

    @property
    def title(self) -> str:
        return " and ".join(str(curve["title"]) for curve in self.curves)

    @property
    def unit(self) -> str:
        return str(self.curves[0]["unit"])

    def label(self, value: float) -> str:
        return label(value, self.unit)

    def ticks(self, most: int) -> list[float]:
        """Round values of its axis; of bytes, round ones of the unit they are told in."""
        scale = 1024 ** _power(max(abs(self.low), abs(self.high))) if self.unit == "bytes" else 1
        return [scale * value for value in ticks(self.low / scale, self.high / scale, most)]


def panels(found: Document, wanted: Sequence[str]) -> list[Panel]:
    """The panels asked for that there are values of."""
    by_key = {curve["key"]: curve for curve in found["curves"]}
    made = []
    for name in wanted:
        curves = tuple(by_key[key] for key in PANELS[name] if key in by_key)
        if curves:
            # What is an amount is drawn from nothing on: small changes of it would look like large ones.
            low = 0.0 if curves[0]["unit"] else min(min(curve["low"]) for curve in curves)
            high = max(max(curve["high"]) for curve in curves)
            made.append(Panel(curves, *_with_room(low, high)))
    return made


def _with_room(low: float, high: float) -> tuple[float, float]:
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        room = abs(high) * 0.1 or 1.0
        return (0.0 if low >= 0 and low - room < 0 else low - room), high + room
    if low == 0:
        return 0.0, 1.15 * high
    room = 0.05 * (high - low)
    return (0.0 if 0 < low < room else low - room), high + room


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round values between ``low`` and ``high``: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / max(1, most)
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [step * at for at in range(first, math.floor(high / step + 1e-9) + 1)]


def _power(size_bytes: float) -> int:
    """The power of 1024 that a size is told in."""
    return next((power for power in (3, 2, 1) if size_bytes >= 1024**power), 0)


def label(value: float, unit: str) -> str:
    """A value as it stands at an axis, in few letters."""
    if unit == "bytes":
        power = _power(abs(value))
        return f"{value / 1024**power:.3g} {('B', 'kB', 'MB', 'GB')[power]}" if value else "0"
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
