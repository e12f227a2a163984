"""How long the rest takes, from the speed of the attempt that runs, as a range; and the time of day it ends.

Steps differ by the length of their rows, and a machine by whatever else it does. What averages out shows in pieces of
the run so far and shrinks with what is left; what does not, a machine that gets slower for good, shows in how later
pieces differ from earlier ones, and is believed in before anything was seen.
"""

import itertools
import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from btmd.monitoring.facts import JobProgress, TickPoint
from btmd.monitoring.robust import log_scale, median
from btmd.monitoring.texts import MONTHS, WEEKDAYS, text

MOST_PIECES = 24
FEWEST_PIECES = 4
LATE_SHARE, LATEST_SHARE = 0.5, 0.15
"""Of this attempt's steps, the newest that tell its pace: as many as are left, but no more and no fewer than these.
With fewer, chance counts for more; with more, what the machine did long ago."""
DRIFT = 0.17
"""Deviation of the logarithm of the pace to come against that so far, before anything is known of this run. Measured on
machines that do other things as well."""
DRIFT_WEIGHT = 6.0
"""Pieces' worth of belief in it."""
UNREST = 0.3
"""Of the deviation of single reports' paces: a machine on which they differ is one that changes."""
SPREADS_BELOW, SPREADS_ABOVE = 1.75, 1.9
"""Deviations to either end: nine in ten lie between them, and machines are held up more often than sped up."""
LEAST_SPREAD = 0.02
FEWEST_SAVED = 3
LONGEST_GAP_S, GAP_FACTOR = 60.0, 10
"""What may lie between two steps: so much, or so many times what a checkpoint usually takes."""
MEASURING_SPREAD, CLOSING_SPREAD = 0.12, 0.35
SOON_S = 120
CLOCK_STEP_S = 300


class Remaining(Struct, frozen=True):
    """Seconds until the training is done: the middle, and a range."""

    middle_s: float
    low_s: float
    high_s: float


class _Pace(Struct, frozen=True):
    """Seconds a step, with what lies between steps, and the deviation of its logarithm over the steps to come."""

    step_s: float
    spread: float
    between_s: float
    """Of that, what is neither training nor measuring: checkpoints, mostly."""


def estimate_remaining(job: JobProgress, ticks: Sequence[TickPoint], now_us: int) -> Remaining | None:
    """The rest of a training; None while unknown. ``ticks`` are those of the running attempt, in order.

    Only steps that this attempt made count: dividing by all steps makes the time after a resume far too short.
    """
    left = job.total_steps - job.step
    if job.state not in ("training", "evaluating") or left < 0:
        return None
    pace = _pace(job, ticks, left)
    if pace is None:
        return None
    training = left * pace.step_s
    if job.time_limit_s > 0:
        training = min(training, max(0.0, job.time_limit_s - job.trained_s))
    measuring = _measuring_s(job, left)
    saving = 0.0 if pace.between_s else _saving_s(job)
    closing = (job.evaluation_s or 0.0) if job.closing_s is None else job.closing_s
    middle = training + measuring + saving + closing - _passed_s(job, pace, now_us)
    other = math.hypot(MEASURING_SPREAD * (measuring + saving), CLOSING_SPREAD * closing)
    below = math.hypot(training * (1 - math.exp(-SPREADS_BELOW * pace.spread)), SPREADS_BELOW * other)
    above = math.hypot(training * (math.exp(SPREADS_ABOVE * pace.spread) - 1), SPREADS_ABOVE * other)
    return Remaining(max(0.0, middle), max(0.0, middle - below), max(0.0, middle + above))


def _pace(job: JobProgress, ticks: Sequence[TickPoint], left: int) -> _Pace | None:
    points = [tick for tick in ticks if tick.step > job.resumed_from_step]
    if len(points) < 2 or points[-1].step <= points[0].step:
        return None
    first = points[0].step
    seen = points[-1].step - first
    late = points[-1].step - max(LATEST_SHARE * seen, min(LATE_SHARE * seen, left))
    newest = [*[tick for tick in points if tick.step <= late][-1:], *[tick for tick in points if tick.step > late]]
    begin, end = newest[0], newest[-1]
    step_s = max(0.0, (end.elapsed_s - begin.elapsed_s) / (end.step - begin.step))
    between = _between_s(job, points)
    return _Pace(step_s + between, _spread(points, left), between)


def _spread(points: Sequence[TickPoint], left: int) -> float:
    """Deviation of the logarithm of the mean pace of ``left`` steps against what the steps so far say."""
    paces = _pieces(points)
    if len(paces) < FEWEST_PIECES:
        return DRIFT * math.sqrt(1 + DRIFT_WEIGHT / (1 + len(paces)))
    logs = [math.log(pace) for pace in paces]
    count = len(logs)
    # Neighbours differ by chance alone; what is more than that between pieces far apart is drift.
    chance = sum((b - a) ** 2 for a, b in itertools.pairwise(logs)) / (2 * (count - 1))
    half = count // 2
    drift = (sum(logs[half:]) / (count - half) - sum(logs[:half]) / half) ** 2 - chance * 4 / count
    drift = (DRIFT_WEIGHT * DRIFT**2 + count / 2 * max(0.0, drift) / 2) / (DRIFT_WEIGHT + count / 2)
    pieces_left = max(1.0, left * count / max(1, points[-1].step - points[0].step))
    # What drifts has less time to do so where less is left.
    drift *= math.sqrt(min(1.0, pieces_left / count))
    used = max(LATEST_SHARE * count, min(LATE_SHARE * count, pieces_left))
    unrest = (UNREST * _unrest(points)) ** 2
    return math.sqrt(LEAST_SPREAD**2 + drift + unrest + chance * (1 / used + 1 / pieces_left))


def _unrest(points: Sequence[TickPoint]) -> float:
    """Deviation of the logarithm of the pace from report to report."""
    paces = [
        (b.elapsed_s - a.elapsed_s) / (b.step - a.step)
        for a, b in itertools.pairwise(points)
        if b.step > a.step and b.elapsed_s > a.elapsed_s
    ]
    return log_scale(paces) if len(paces) >= FEWEST_PIECES else 0.0


def _pieces(points: Sequence[TickPoint]) -> list[float]:
    """Seconds a step over pieces of about as many steps each."""
    steps = points[-1].step - points[0].step
    size = max(1.0, steps / MOST_PIECES)
    found: list[float] = []
    begin = points[0]
    for point in points[1:]:
        if point.step - begin.step >= size:
            found.append(max(1e-9, (point.elapsed_s - begin.elapsed_s) / (point.step - begin.step)))
            begin = point
    return found


def _between_s(job: JobProgress, points: Sequence[TickPoint]) -> float:
    """Seconds a step that pass between steps, measurements left out; 0 until a checkpoint was among them.

    By the time of day, as nobody times what lies between steps. A clock that was set, and a machine that slept, show as
    gaps that no checkpoint explains; in their place stands what checkpoints take otherwise.
    """
    gaps = list(_gaps(job, points))
    saving = [gap / saves for gap, saves in gaps if saves]
    if not saving:
        return 0.0
    usual_s = max(0.0, median(saving)) if len(saving) >= FEWEST_SAVED else job.saving_s
    most_s = max(LONGEST_GAP_S, GAP_FACTOR * usual_s, GAP_FACTOR * job.saving_s)
    passed = sum(gap if -most_s < gap < most_s * max(1, saves) else usual_s * saves for gap, saves in gaps)
    return max(0.0, passed) / (points[-1].step - points[0].step)


def _gaps(job: JobProgress, points: Sequence[TickPoint]) -> Iterator[tuple[float, int]]:
    """From point to point, the seconds that neither steps nor measurements took, and the checkpoints among them."""
    saved = sorted(job.saved_steps)
    for a, b in itertools.pairwise(points):
        if a.at_us is None or b.at_us is None:
            continue
        measured = sum(seconds for step, seconds in job.evaluations if a.step <= step < b.step)
        gap = (b.at_us - a.at_us) / 1e6 - (b.elapsed_s - a.elapsed_s) - measured
        yield gap, bisect_left(saved, b.step) - bisect_left(saved, a.step)


def _passed_s(job: JobProgress, pace: _Pace, now_us: int) -> float:
    """Of the rest, what went by since the last report. A trainer that hangs must not seem to come nearer to its end."""
    passed = 0.0 if job.last_tick_us is None else max(0.0, (now_us - job.last_tick_us) / 1e6)
    most = 2 * pace.step_s
    if job.state == "evaluating":
        most += (job.evaluation_s or 0.0) if job.step < job.total_steps else (job.closing_s or 0.0)
    return min(passed, most)


def _measuring_s(job: JobProgress, left: int) -> float:
    """Time of the held-out measurements still to come before the last step; what comes after it is the closing."""
    if job.evaluation_s is None or job.eval_every <= 0 or left <= 0:
        return 0.0
    durations = [seconds for _, seconds in job.evaluations[-5:]]
    each = median(durations) if durations else job.evaluation_s
    return max(0, (job.total_steps - 1) // job.eval_every - job.step // job.eval_every) * each


def _saving_s(job: JobProgress) -> float:
    every = [one for one in (job.save_every, job.eval_every) if one > 0]
    if not every or job.saving_s <= 0:
        return 0.0
    return max(0, (job.total_steps - 1) // min(every) - job.step // min(every)) * job.saving_s


def finish_text(remaining_s: float, now_us: int, utc_offset_s: int) -> str:
    """When that will be, as a person says it: ``at about 14:35``, ``tomorrow at about 9:10``."""
    if remaining_s < SOON_S:
        return text("when_soon")
    now = datetime.fromtimestamp(now_us // 1_000_000, UTC) + timedelta(seconds=utc_offset_s)
    try:
        end = now + timedelta(seconds=remaining_s)
    except OverflowError:
        end = datetime.max.replace(tzinfo=UTC)
    if remaining_s > 6 * CLOCK_STEP_S and end.year < datetime.max.year:
        rest = (end.minute * 60 + end.second) % CLOCK_STEP_S
        end += timedelta(seconds=CLOCK_STEP_S - rest if rest * 2 >= CLOCK_STEP_S else -rest)
    clock = f"{end.hour}:{end.minute:02d}"
    days = (end.date() - now.date()).days
    if days == 0:
        return text("when_today", clock=clock)
    if days == 1:
        return text("when_tomorrow", clock=clock)
    if days < 7:
        return text("when_weekday", weekday=WEEKDAYS[end.weekday()], clock=clock)
    return text("when_date", day=end.day, month=MONTHS[end.month - 1], clock=clock)
