"""The course of a job read from the log alone: its ticks page by page, and what its own stream tells of attempts."""

from collections.abc import Sequence

import anyio.to_thread

from btmd.domain.job import stream_name
from btmd.domain.job_events import HeldOutLossMeasured, TrainingProgressed, TrainingShapeKnown
from btmd.monitoring.curves import CurveFold, Curves, TickValues
from btmd.monitoring.verdict import Measurement
from btmd.projections.job import JobRow
from btmd.store.event_log import Recorded, Store

PAGE_ROWS = 2000


async def job_curves(store: Store, row: JobRow, points: int) -> Curves:
    """All curves of a job in at most about ``points`` points each."""
    resumed_from: dict[int, int] = {}
    held_out: dict[int, float] = {}
    for recorded in await store.read_stream(stream_name(row.job_id)):
        happened = recorded.event
        if isinstance(happened, TrainingShapeKnown):
            resumed_from[happened.attempt] = int(happened.shape.get("resumed_from_step", 0))
        elif isinstance(happened, HeldOutLossMeasured) and happened.when != "after":
            # Of a step that a later attempt did again, the later measurement counts.
            held_out[happened.step] = happened.loss
    fold = CurveFold(max(1, row.step), points, resumed_from)
    after = 0
    while page := await store.read(after, limit=PAGE_ROWS, streams=[f"ticks-{row.job_id}"]):
        await anyio.to_thread.run_sync(_take, fold, page)
        after = page[-1].seq
    measured = [Measurement(step, held_out[step]) for step in sorted(held_out)]
    return fold.curves(measured, row.total_steps)


def _take(fold: CurveFold, page: Sequence[Recorded]) -> None:
    """Decoding takes most of the time, so it is done beside the loop."""
    fold.add(
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
