"""The course of a job read from the log alone: its ticks page by page, and what its own stream tells of attempts."""

from collections import OrderedDict
from collections.abc import Sequence

import anyio.to_thread
from msgspec import Struct

from btmd.domain.job import stream_name
from btmd.domain.job_events import HeldOutLossMeasured, TrainingProgressed, TrainingShapeKnown
from btmd.fair_turns import FairTurns
from btmd.monitoring.curves import CurveFold, Curves, TickValues
from btmd.monitoring.verdict import Measurement
from btmd.projections.job import JobRow
from btmd.store.event_log import Recorded, Store

PAGE_ROWS = 2000


KEPT, KEPT_POINTS = 2, 1000
"""So many curves are kept, if they have no more points: of a training that is looked at, only what is new is read."""


class _Course(Struct):
    """What has been gathered of a job, and the position in the log up to which it has."""

    fold: CurveFold
    after: int = 0

    def take(self, page: Sequence[Recorded]) -> None:
        self.fold.add(
            TickValues(
                one.attempt,
                one.step,
                one.steps,
                one.losses,
                one.learning_rate,
                one.tokens_per_s,
                one.memory_bytes,
                one.gpu_memory_bytes,
                one.gradient_norm,
            )
            for one in (recorded.event for recorded in page)
            if isinstance(one, TrainingProgressed)
        )
        self.after = page[-1].seq


class CurveReading:
    """Reads curves one after the other, and the log of a job whole only the first time."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], _Course] = OrderedDict()
        self._turn = FairTurns(1)

    async def curves(self, store: Store, row: JobRow, points: int) -> Curves:
        """All curves of a job in at most about ``points`` points each."""
        resumed_from, held_out = await _told(store, row.job_id)
        async with self._turn.turn():
            course = self._course(row, points, resumed_from)
            streams = [f"ticks-{row.job_id}"]
            while page := await store.read(course.after, limit=PAGE_ROWS, streams=streams):
                # Decoding takes most of the time, so it is done beside the loop.
                await anyio.to_thread.run_sync(course.take, page)
            measured = [Measurement(step, held_out[step]) for step in sorted(held_out)]
            return course.fold.curves(measured, row.total_steps)

    def _course(self, row: JobRow, points: int, resumed_from: dict[int, int]) -> _Course:
        key, last_step = (row.job_id, points), max(1, row.step)
        course = self._kept.pop(key, None)
        # What another attempt did again counts no more, and is in what was gathered.
        if course is None or course.fold.resumed_from != resumed_from:
            course = _Course(CurveFold(last_step, points, resumed_from))
        course.fold.reach(last_step)
        if points <= KEPT_POINTS:
            self._kept[key] = course
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return course


async def _told(store: Store, job_id: str) -> tuple[dict[int, int], dict[int, float]]:
    """By attempt the step that it went on from, and by step the held-out loss."""
    resumed_from: dict[int, int] = {}
    held_out: dict[int, float] = {}
    for recorded in await store.read_stream(stream_name(job_id)):
        happened = recorded.event
        if isinstance(happened, TrainingShapeKnown):
            resumed_from[happened.attempt] = int(happened.shape.get("resumed_from_step", 0))
        elif isinstance(happened, HeldOutLossMeasured) and happened.when != "after":
            # Of a step that a later attempt did again, the later measurement counts.
            held_out[happened.step] = happened.loss
    return resumed_from, held_out
