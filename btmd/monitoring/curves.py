"""The course of a training as curves: loss, held-out loss, learning rate, speed and memory, from its ticks.

A long history is told in a limited number of points. Each point holds the lowest, the highest and the mean value of its
steps, so that no spike is lost by it. Of steps that a later attempt did again, the later values count.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import pstdev
from typing import Final

from msgspec import Struct, field

from btmd.domain.units import format_bytes
from btmd.monitoring.texts import text
from btmd.monitoring.verdict import ROSE_AGAIN_PERCENT, Measurement

FLAT_SHARE: Final = 0.02
EDGE_SHARE: Final = 0.1
"""A tenth of the steps at either end says where a curve came from and what it came to."""
STEADY_SHARE: Final = 0.1
SERIES: Final = ("loss", "learning_rate", "tokens_per_s", "memory_bytes", "gpu_memory_bytes", "gradient_norm")
TITLES: Final = {
    "loss": "training loss",
    "held_out": "held-out loss",
    "learning_rate": "learning rate",
    "tokens_per_s": "speed",
    "memory_bytes": "memory",
    "gpu_memory_bytes": "GPU memory",
    "gradient_norm": "gradient norm",
}
UNITS: Final = {"tokens_per_s": "tokens/s", "memory_bytes": "bytes", "gpu_memory_bytes": "bytes"}


class TickValues(Struct, frozen=True):
    """One tick: values of its last step, and the loss of each step since the tick before."""

    attempt: int
    step: int
    steps: Sequence[int]
    losses: Sequence[float]
    learning_rate: float
    tokens_per_s: float
    memory_bytes: int
    gpu_memory_bytes: int | None = None
    gradient_norm: float | None = None


class Curve(Struct, frozen=True):
    """Points in the order of the steps: ``step`` is the last one that a point tells of."""

    key: str
    title: str
    unit: str
    step: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...]
    values: int
    """How many recorded values the points tell of."""
    said: str
    """How it went, in a sentence."""


class Curves(Struct, frozen=True):
    """Those curves that there are values of; ``resumed_at``: after which steps a later attempt went on."""

    last_step: int
    total_steps: int
    curves: tuple[Curve, ...]
    resumed_at: tuple[int, ...]
    thinned: bool
    """Whether several steps share a point."""


class _Bucket(Struct):
    step: int
    count: int = 0
    total: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def add(self, step: int, value: float) -> None:
        self.step = max(self.step, step)
        self.count += 1
        self.total += value
        self.low, self.high = min(self.low, value), max(self.high, value)

    def join(self, later: "_Bucket") -> None:
        self.step = max(self.step, later.step)
        self.count += later.count
        self.total += later.total
        self.low, self.high = min(self.low, later.low), max(self.high, later.high)


class CurveFold(Struct):
    """Gathers ticks, oldest first. ``resumed_from`` is by attempt the step it went on from.

    Each point tells of 1, 2, 4, 8 ... steps, so that one that grows goes on from what it has gathered.
    """

    last_step: int
    points: int
    resumed_from: Mapping[int, int] = field(default_factory=dict)
    steps_a_point: int = 1
    _buckets: dict[str, dict[int, _Bucket]] = field(default_factory=lambda: {key: {} for key in SERIES})

    def __post_init__(self) -> None:
        self.reach(self.last_step)

    def reach(self, last_step: int) -> None:
        """The training has come to this step."""
        self.last_step = last_step
        while self.steps_a_point * max(1, self.points) < last_step:
            self.steps_a_point *= 2
            self._buckets = {key: _joined(buckets) for key, buckets in self._buckets.items()}

    def add(self, ticks: Iterable[TickValues]) -> None:
        """Take further ticks."""
        counted_to = {
            attempt: min((step for other, step in self.resumed_from.items() if other > attempt), default=math.inf)
            for attempt in self.resumed_from
        }
        for tick in ticks:
            limit = counted_to.get(tick.attempt, math.inf)
            for step, loss in zip(tick.steps, tick.losses, strict=False):
                if step <= limit:
                    self._note("loss", step, loss)
            if tick.step <= limit:
                for key in SERIES[1:]:
                    value = getattr(tick, key)
                    if value is not None:
                        self._note(key, tick.step, float(value))

    def _note(self, key: str, step: int, value: float) -> None:
        if not math.isfinite(value):
            return
        at = (step - 1) // self.steps_a_point
        bucket = self._buckets[key].get(at)
        if bucket is None:
            bucket = self._buckets[key][at] = _Bucket(step)
        bucket.add(step, value)

    def curves(self, held_out: Sequence[Measurement], total_steps: int) -> Curves:
        """What has been gathered, with the held-out losses that were measured."""
        found = [_curve(key, buckets) for key, buckets in self._buckets.items() if buckets]
        if held_out:
            found.insert(1 if self._buckets["loss"] else 0, _measured(held_out))
        at = sorted({step for attempt, step in self.resumed_from.items() if attempt > 1 and step > 0})
        return Curves(self.last_step, total_steps, tuple(found), tuple(at), self.steps_a_point > 1)


def _joined(buckets: Mapping[int, _Bucket]) -> dict[int, _Bucket]:
    """Two points each become one."""
    found: dict[int, _Bucket] = {}
    for at in sorted(buckets):
        first = found.setdefault(at // 2, buckets[at])
        if first is not buckets[at]:
            first.join(buckets[at])
    return found


def _curve(key: str, buckets: Mapping[int, _Bucket]) -> Curve:
    ordered = [buckets[at] for at in sorted(buckets)]
    return Curve(
        key=key,
        title=TITLES[key],
        unit=UNITS.get(key, ""),
        step=tuple(one.step for one in ordered),
        low=tuple(one.low for one in ordered),
        high=tuple(one.high for one in ordered),
        mean=tuple(one.total / one.count for one in ordered),
        values=sum(one.count for one in ordered),
        said=_said(key, ordered),
    )


def _measured(held_out: Sequence[Measurement]) -> Curve:
    losses = tuple(one.loss for one in held_out)
    return Curve(
        "held_out",
        TITLES["held_out"],
        "",
        tuple(one.step for one in held_out),
        losses,
        losses,
        losses,
        len(losses),
        _said_held_out(held_out),
    )


def _said_held_out(held_out: Sequence[Measurement]) -> str:
    first, last = held_out[0], held_out[-1]
    best = min(held_out, key=lambda one: one.loss)
    values = {"first": first.loss, "last": last.loss, "best": best.loss, "step": best.step}
    if len(held_out) == 1:
        return text("curve_held_out_once", **values)
    if best.loss > 0 and 100 * (last.loss - best.loss) / best.loss >= ROSE_AGAIN_PERCENT:
        return text("curve_held_out_rose", **values)
    return text("curve_held_out", **values)


def _said(key: str, buckets: Sequence[_Bucket]) -> str:
    low, high = min(one.low for one in buckets), max(one.high for one in buckets)
    first, last = _edges(buckets)
    match key:
        case "loss" | "gradient_norm":
            key_said = f"curve_{_direction(first, last)}"
            return text(key_said, what=TITLES[key], first=first, last=last, low=low, high=high)
        case "learning_rate":
            top = max(buckets, key=lambda one: one.high)
            return text("curve_learning_rate", high=high, step=top.step, last=buckets[-1].total / buckets[-1].count)
        case "tokens_per_s":
            changed = _speed_changed(first, last, [one.total / one.count for one in buckets])
            return text(f"curve_speed_{changed}", first=first, last=last, low=low, high=high)
    grew = last > first * (1 + STEADY_SHARE)
    words = {"first": format_bytes(first), "last": format_bytes(last), "high": format_bytes(high)}
    return text("curve_memory_grew" if grew else "curve_memory", what=TITLES[key], **words)


def _speed_changed(first: float, last: float, means: Sequence[float]) -> str:
    """A change counts only where it is more than the ups and downs all along."""
    change = abs(last - first)
    if pstdev(means) > max(change, STEADY_SHARE * first):
        return "varied"
    if change <= STEADY_SHARE * first:
        return "steady"
    return "faster" if last > first else "slower"


def _edges(buckets: Sequence[_Bucket]) -> tuple[float, float]:
    """The means over the first and over the last tenth of the points, at least one each."""
    count = max(1, round(EDGE_SHARE * len(buckets)))
    return _mean(buckets[:count]), _mean(buckets[-count:])


def _mean(buckets: Sequence[_Bucket]) -> float:
    return sum(one.total for one in buckets) / sum(one.count for one in buckets)


def _direction(first: float, last: float) -> str:
    if abs(first - last) <= FLAT_SHARE * abs(first):
        return "flat"
    return "fell" if last < first else "rose"
