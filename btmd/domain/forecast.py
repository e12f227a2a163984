"""What a training was expected to take, and how well that turned out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from btmd.domain.event import Event, event
from btmd.domain.units import format_bytes, format_duration

MEMORY, GPU_MEMORY, DISK, TIME = "memory", "gpu_memory", "disk", "time"
FORMULA, TRIAL, GUESS = "formula", "trial", "guess"


class Range(Struct, frozen=True):
    """Nine outcomes in ten should lie from ``low`` to ``high``."""

    low: float
    middle: float
    high: float
    uncalibrated: float | None = None
    """What was computed, before earlier outcomes had a say; None: the middle."""

    def holds(self, outcome: float) -> bool:
        return self.low <= outcome <= self.high


class Forecast(Struct, frozen=True):
    """``memory_bytes`` is the trainer's peak in main memory, the imported libraries (``process_bytes``) included.

    ``total_s`` is from the start of the trainer to its result; ``disk_bytes`` what the job's folder holds at the end.
    """

    basis: str
    """``formula``, or ``trial`` after real steps."""
    memory_bytes: Range
    process_bytes: int
    disk_bytes: Range
    step_s: Range
    total_s: Range
    gpu_memory_bytes: Range | None = None
    rates_known: bool = True
    """Whether the times rest on this machine's own rates, not on those usual for its kind."""


class Score(Struct, frozen=True):
    """One quantity of one forecast against its outcome, in bytes or seconds.

    ``basis`` is the forecast's, or ``guess`` for a time from usual rates. ``log_ratio`` is that of the outcome to what
    was computed, uncalibrated; of main memory without the imported libraries, which never vary.
    """

    quantity: str
    basis: str
    forecast: Range
    outcome: float
    log_ratio: float

    @property
    def inside(self) -> bool:
        return self.forecast.holds(self.outcome)


@event("ForecastMade")
class ForecastMade(Event, frozen=True):
    """Foretold by formula when the job was submitted."""

    job_id: str
    forecast: Forecast


@event("ForecastRevised")
class ForecastRevised(Event, frozen=True):
    """Foretold anew after real steps. ``trial`` says what was tried, see frames.TrialDone."""

    job_id: str
    attempt: int
    number: int
    forecast: Forecast
    trial: dict[str, Any]


@event("ForecastScored")
class ForecastScored(Event, frozen=True):
    """How the forecasts of a completed job turned out; ``device`` is ``cpu`` or ``cuda``."""

    job_id: str
    device: str
    scores: tuple[Score, ...]


@event("MachineRateMeasured")
class MachineRateMeasured(Event, frozen=True):
    """How fast this machine multiplies matrices and copies memory with so many threads."""

    job_id: str
    attempt: int
    number: int
    device: str
    precision: str
    threads: int
    flops: float
    """Floating point operations a second in products of 512 rows."""
    copied_bytes_s: float


def score(forecasts: Sequence[Forecast], outcome: Mapping[str, Any], *, whole: bool) -> tuple[Score, ...]:
    """The scores of a job's forecasts; ``outcome`` is frames.Finished as values.

    ``whole``: one attempt that ran to its planned end. Otherwise the time tells nothing.
    """
    found: list[Score] = []
    for forecast in forecasts:
        process = forecast.process_bytes
        found += _scored(MEMORY, forecast, forecast.memory_bytes, outcome.get("peak_memory_bytes"), process)
        found += _scored(GPU_MEMORY, forecast, forecast.gpu_memory_bytes, outcome.get("peak_gpu_memory_bytes"))
        found += _scored(DISK, forecast, forecast.disk_bytes, outcome.get("folder_bytes"))
        if whole:
            basis = forecast.basis if forecast.rates_known else GUESS
            timed = _scored(TIME, forecast, forecast.total_s, outcome.get("attempt_s"))
            found += [replace(one, basis=basis) for one in timed]
    return tuple(found)


def _scored(quantity: str, forecast: Forecast, said: Range | None, outcome: Any, base: int = 0) -> list[Score]:
    if said is None or not outcome or outcome <= base:
        return []
    computed = said.middle if said.uncalibrated is None else said.uncalibrated
    if computed <= base:
        return []
    ratio = math.log((outcome - base) / (computed - base))
    return [Score(quantity, forecast.basis, said, float(outcome), ratio)]


def said_and_took(scores: Sequence[Score]) -> str:
    """``Forecast: said 14-18 min, took 16 min; ...``: the later forecast of each quantity. Empty without any."""
    parts = []
    for quantity, verb in ((TIME, "took"), (MEMORY, "needed"), (GPU_MEMORY, "needed")):
        known = [one for one in scores if one.quantity == quantity]
        if known:
            last = known[-1]
            of = " of memory" if quantity == MEMORY else " of GPU memory" if quantity == GPU_MEMORY else ""
            said, outcome = range_text(quantity, last.forecast), amount_text(quantity, last.outcome)
            missed = "" if last.inside else " (outside the range)"
            parts.append(f"said {said}{of}, {verb} {outcome}{missed}")
    return f"Forecast: {'; '.join(parts)}." if parts else ""


def texts(forecast: Forecast) -> dict[str, str]:
    """Each quantity's range in words, by quantity; a step's time under ``step``."""
    found = {
        TIME: range_text(TIME, forecast.total_s),
        MEMORY: range_text(MEMORY, forecast.memory_bytes),
        DISK: range_text(DISK, forecast.disk_bytes),
        "step": f"{forecast.step_s.low:.3g} to {forecast.step_s.high:.3g} s",
    }
    if forecast.gpu_memory_bytes is not None:
        found[GPU_MEMORY] = range_text(GPU_MEMORY, forecast.gpu_memory_bytes)
    return found


def amount_text(quantity: str, amount: float) -> str:
    """Seconds or bytes as people read them."""
    return format_duration(amount) if quantity == TIME else format_bytes(amount)


def range_text(quantity: str, said: Range) -> str:
    """``14m 0s to 18m 0s``; one figure where both ends read the same."""
    low, high = amount_text(quantity, said.low), amount_text(quantity, said.high)
    return low if low == high else f"{low} to {high}"
