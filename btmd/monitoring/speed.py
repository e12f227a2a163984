"""Steps that take longer than they should, and why: heat, other programs, rows that come too slowly."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from msgspec import field

from btmd.domain.event import Event
from btmd.domain.job_events import TrainingProgressed
from btmd.domain.units import GIB
from btmd.domain.warning import GpuSample, MachineSampled
from btmd.monitoring.detector import Latched
from btmd.monitoring.latch import Latch
from btmd.monitoring.robust import median
from btmd.monitoring.watched_run import Seen, WatchedRun

SLOWER, NO_LONGER_SLOWER = 1.6, 1.3
"""Than usual in this attempt."""
PAST_FORECAST, PAST_GUESS = 1.5, 3.0
"""The upper end of the range: one in twenty lies beyond it; a forecast from usual rates is a guess."""
NOISES = 6
"""Standard errors that a difference has to be, beside being large: pieces follow one another by the thousand."""
FELT = 1.15
"""A cause is only told where it is felt."""

THROTTLED_OF, THROTTLED_LEAST = 4, 3
HEAT = ("thermal", "thermal (hardware)", "hardware slowdown", "power supply")
LOW_CLOCK = 0.7
"""Of the highest: a power cap that costs less is how the card is built."""
THROTTLES_A_SAMPLE = 10

SHARED_BYTES, SHARED_SHARE = GIB, 0.08
"""Beyond what a desktop draws with."""
OTHERS_SHARE, NO_LONGER_SHARE = 0.3, 0.2
"""Of all processors, that other programs compute with."""
SHARED_SAMPLES = 6

STARVED_SHARE = 0.5
"""Of the processor time, or of the GPU's use, that was usual in this attempt."""
STARVED_USUAL, STARVED_SAMPLES = 10, 6
STARVED_SLOWER = 1.4


class Slow(Latched):
    """Steps take clearly longer than the forecast said, or than they did before."""

    kind: ClassVar[str] = "slow"
    latch: Latch = field(default_factory=lambda: Latch(to_raise=2, to_clear=3))
    _pieces: int = 0

    def weigh(self, run: WatchedRun, happened: Event) -> None:
        if not isinstance(happened, TrainingProgressed) or run.paces.pieces == self._pieces:
            return
        self._pieces = run.paces.pieces
        now = run.paces.now_s
        if now is None:
            return
        excess = max(self._beyond_forecast(run, now), self._beyond_usual(run))
        self.figures |= {"step_s": round(now, 4), "step": run.step}
        self.latch.tell(excess > 0)
        run.paces.slow = self.latch.held

    def _beyond_forecast(self, run: WatchedRun, now: float) -> float:
        forecast = run.forecast
        if forecast is None:
            return -1.0
        self.figures["forecast_s"] = round(forecast.step_s.high, 4)
        factor = PAST_FORECAST if forecast.rates_known else PAST_GUESS
        if self.latch.held:
            factor = math.sqrt(factor)
        return math.log(now / max(1e-9, forecast.step_s.high)) - max(math.log(factor), self._noise(run))

    def _beyond_usual(self, run: WatchedRun) -> float:
        slowdown = run.paces.slowdown
        if slowdown is None:
            return -1.0
        self.figures["usual_s"] = round(run.paces.before_s or 0.0, 4)
        least = math.log(NO_LONGER_SLOWER if self.latch.held else SLOWER)
        return math.log(slowdown) - max(least, self._noise(run))

    def _noise(self, run: WatchedRun) -> float:
        return (NOISES / 2 if self.latch.held else NOISES) * run.paces.noise


def is_felt(run: WatchedRun) -> bool:
    """Whether steps take longer than usual, or than foretold."""
    now, forecast, slowdown = run.paces.now_s, run.forecast, run.paces.slowdown
    felt = max(FELT, math.exp(NOISES / 2 * run.paces.noise))
    if slowdown is not None:
        return slowdown > felt
    return now is not None and forecast is not None and forecast.rates_known and now > felt * forecast.step_s.high


class Throttled(Latched):
    """The GPU or the processor runs slower than it could, for heat or for want of power."""

    kind: ClassVar[str] = "throttled"
    latch: Latch = field(default_factory=lambda: Latch(to_raise=1, to_clear=4))

    def weigh(self, run: WatchedRun, happened: Event) -> None:
        if not isinstance(happened, MachineSampled):
            return
        newest = list(run.samples)[-THROTTLED_OF:]
        reasons = sorted({reason for gpu in happened.gpus for reason in gpu.throttle})
        hottest = max((gpu.temperature_c for gpu in happened.gpus if gpu.temperature_c is not None), default=None)
        slowest = min((gpu.clock_share for gpu in happened.gpus if gpu.clock_share is not None), default=None)
        self.figures = {"device": "gpu", "reasons": reasons}
        if hottest is not None:
            self.figures["temperature_c"] = hottest
        if slowest is not None:
            self.figures["clock_share"] = round(slowest, 2)
        gpu = sum(_gpu_is_throttled(seen.sample.gpus) for seen in newest) >= THROTTLED_LEAST
        rises = processor_throttles(newest)
        cpu = sum(rise >= THROTTLES_A_SAMPLE for rise in rises) >= THROTTLED_LEAST and is_felt(run)
        if cpu and not gpu:
            self.figures = {"device": "cpu", "reasons": ["thermal"], "throttles": sum(rises)}
        self.latch.tell(gpu or cpu)


def _gpu_is_throttled(gpus: Sequence[GpuSample]) -> bool:
    for gpu in gpus:
        if any(reason in HEAT for reason in gpu.throttle):
            return True
        low = gpu.clock_share is not None and gpu.clock_share < LOW_CLOCK
        if "power cap" in gpu.throttle and low:
            return True
    return False


def processor_throttles(samples: Sequence[Seen]) -> list[int]:
    """From sample to sample, how many times processors slowed down for heat."""
    known = [seen.sample.throttles for seen in samples if seen.sample.throttles is not None]
    return [later - earlier for earlier, later in pairwise(known)]


class GpuShared(Latched):
    """Another program holds memory on the trainer's GPU."""

    kind: ClassVar[str] = "gpu_shared"
    latch: Latch = field(default_factory=lambda: Latch(to_raise=2, to_clear=2))

    def weigh(self, run: WatchedRun, happened: Event) -> None:
        if not isinstance(happened, MachineSampled) or not happened.gpus:
            return
        fullest = max(happened.gpus, key=lambda gpu: gpu.others_bytes)
        self.figures = {
            "gpu": fullest.index,
            "others_bytes": fullest.others_bytes,
            "free_bytes": fullest.total_bytes - fullest.used_bytes,
            "total_bytes": fullest.total_bytes,
        }
        least = max(SHARED_BYTES, SHARED_SHARE * fullest.total_bytes)
        self.latch.tell(fullest.others_bytes > (0.7 * least if self.latch.held else least))


class ProcessorShared(Latched):
    """Other programs compute on the processors that the trainer computes on, and it is felt."""

    kind: ClassVar[str] = "cpu_shared"
    latch: Latch = field(default_factory=lambda: Latch(to_raise=1, to_clear=3))

    def weigh(self, run: WatchedRun, happened: Event) -> None:
        if not isinstance(happened, MachineSampled) or run.on_gpu:
            return
        shares = others_shares(list(run.samples)[-SHARED_SAMPLES - 1 :])
        if len(shares) < SHARED_SAMPLES:
            return
        share = median(shares)
        self.figures = {"others_share": round(share, 3), "cores": happened.cores}
        if run.paces.slowdown is not None:
            self.figures["slowdown"] = round(run.paces.slowdown, 2)
        if self.latch.held:
            self.latch.tell(share > NO_LONGER_SHARE)
        else:
            self.latch.tell(share > OTHERS_SHARE and is_felt(run))


def own_cores(samples: Sequence[Seen]) -> list[float]:
    """Processors' worth of time that the trainer took, from sample to sample."""
    return [
        max(0.0, (later.sample.cpu_s - earlier.sample.cpu_s) / max(1e-9, later.at_s - earlier.at_s))
        for earlier, later in pairwise(samples)
    ]


def others_shares(samples: Sequence[Seen]) -> list[float]:
    """Of all processors, what others took, from sample to sample."""
    return [
        max(0.0, seen.sample.busy_share - cores / max(1, seen.sample.cores))
        for seen, cores in zip(list(samples)[1:], own_cores(samples), strict=True)
        if seen.sample.busy_share is not None
    ]


class DataStarved(Latched):
    """It waits more than it computes, though nobody else computes either: rows do not come as fast as they could."""

    kind: ClassVar[str] = "data_starved"
    latch: Latch = field(default_factory=lambda: Latch(to_raise=1, to_clear=4))
    _usual: list[float] = field(default_factory=list)
    _tick: int = 0

    def reset(self) -> None:
        # Written out, for ``super()`` without arguments does not find its class where slots made another one of it.
        Latched.reset(self)
        self._usual.clear()

    def weigh(self, run: WatchedRun, happened: Event) -> None:
        if not isinstance(happened, MachineSampled):
            return
        went_on, self._tick = run.ticks > self._tick, run.ticks
        if not run.trains or not went_on or len(run.samples) < 2:
            return
        newest = list(run.samples)
        if newest[-2].at_s < run.stage_since_s:
            return
        used = _use(newest[-2:], run.on_gpu)
        if used is None:
            return
        if len(self._usual) < STARVED_USUAL:
            self._usual.append(used)
            return
        usual = median(self._usual)
        uses = [one for pair in pairwise(newest[-STARVED_SAMPLES - 1 :]) if (one := _use(pair, run.on_gpu)) is not None]
        if len(uses) < STARVED_SAMPLES:
            return
        now, slowdown = median(uses), run.paces.slowdown
        self.figures = {"use": round(now, 3), "usual_use": round(usual, 3), "of": "gpu" if run.on_gpu else "cpu"}
        if slowdown is not None:
            self.figures["slowdown"] = round(slowdown, 2)
        if (faults := _faults_a_second(newest[-STARVED_SAMPLES:])) is not None:
            self.figures["major_faults_per_s"] = round(faults, 1)
        share = STARVED_SHARE * (1.4 if self.latch.held else 1.0)
        slow = slowdown is not None and slowdown > (1.2 if self.latch.held else STARVED_SLOWER)
        alone = median(others_shares(newest[-STARVED_SAMPLES - 1 :]) or [0.0]) < OTHERS_SHARE
        self.latch.tell(now < share * usual and slow and alone)


def _use(pair: Sequence[Seen], on_gpu: bool) -> float | None:
    """Of the device that computes: the GPU's use as a share, or processors' worth of time."""
    if not on_gpu:
        return own_cores(pair)[0]
    known = [gpu.utilization for gpu in pair[-1].sample.gpus if gpu.utilization is not None]
    return max(known) / 100 if known else None


def _faults_a_second(samples: Sequence[Seen]) -> float | None:
    first, last = samples[0], samples[-1]
    if first.sample.major_faults is None or last.sample.major_faults is None or last.at_s <= first.at_s:
        return None
    return (last.sample.major_faults - first.sample.major_faults) / (last.at_s - first.at_s)
