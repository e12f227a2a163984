"""How long the rest takes, from the speed of the attempt that runs; and the time of day it ends."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from btmd.monitoring.facts import JobProgress, TickPoint
from btmd.monitoring.texts import MONTHS, WEEKDAYS, text

WINDOW_TICKS = 240
PIECES = 8
LEAST_SPREAD = 0.05
"""A range is never narrower than this to either side: rows differ in length."""
SOON_S = 120
CLOCK_STEP_S = 300


@dataclass(frozen=True, slots=True)
class Remaining:
    """Seconds until the training is done: the middle, and a range."""

    middle_s: float
    low_s: float
    high_s: float


def estimate_remaining(job: JobProgress, ticks: Sequence[TickPoint], now_us: int) -> Remaining | None:
    """The rest of a training; None while unknown. ``ticks`` are those of the running attempt, in order.

    Only steps that this attempt made count: dividing by all steps makes the time after a resume far too short.
    """
    left = job.total_steps - job.step
    if job.state != "training" or left < 0:
        return None
    paces = _paces(job, ticks)
    if not paces:
        return None
    middle = paces[-1]
    low = min(*paces, middle * (1 - LEAST_SPREAD))
    high = max(*paces, middle * (1 + LEAST_SPREAD))
    measuring = _measuring_s(job, left)
    passed = 0.0 if job.last_tick_us is None else max(0.0, (now_us - job.last_tick_us) / 1e6)
    # A trainer that hangs must not seem to come nearer to its end: at most two steps' time is taken off.
    passed = min(passed, 2 * middle)
    seconds = [max(0.0, left * pace + measuring - passed) for pace in (middle, low, high)]
    return Remaining(*seconds)


def _paces(job: JobProgress, ticks: Sequence[TickPoint]) -> list[float]:
    """Seconds a step: over pieces of the recent past, the whole of it last."""
    points = [(tick.step, tick.elapsed_s) for tick in ticks if tick.step > job.resumed_from_step]
    recent = points[-max(2, min(WINDOW_TICKS, -(-len(points) // 2) + 1)) :]
    if len(recent) < 2 or recent[-1][0] <= recent[0][0]:
        return []
    size = max(1, (len(recent) - 1) // PIECES)
    pieces = [*recent[::size], recent[-1]]
    paces = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for earlier, later in itertools.pairwise(pieces)
        if later[0] > earlier[0]
    ]
    paces.append((recent[-1][1] - recent[0][1]) / (recent[-1][0] - recent[0][0]))
    return [max(0.0, pace) for pace in paces]


def _measuring_s(job: JobProgress, left: int) -> float:
    """Time of the held-out measurements still to come, the last one included."""
    if job.evaluation_s is None:
        return 0.0
    during = 0
    if job.eval_every > 0:
        during = (job.total_steps - 1) // job.eval_every - job.step // job.eval_every
    return (max(0, during) + 1) * job.evaluation_s


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
