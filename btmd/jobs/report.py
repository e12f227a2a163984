"""Everything kept of a job, put together from its views, and its last ticks."""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from btmd.job_folder import JobFolder
from btmd.projections import job as view
from btmd.projections.job import AttemptRow, EvaluationRow, JobRow, NoticeRow, RecoveryRow
from btmd.projections.queue import places
from btmd.store.event_log import Recorded, Store

RECENT_TICKS = 240
"""Enough for the trend and the pace; the rest is in the log."""


class JobReport(Struct, frozen=True):
    """Everything that is kept of one job but its ticks."""

    row: JobRow
    plan: dict[str, Any]
    trainer_plan: dict[str, Any]
    overrides: dict[str, Any]
    attempts: tuple[AttemptRow, ...]
    evaluations: tuple[EvaluationRow, ...]
    notices: tuple[NoticeRow, ...]
    recoveries: tuple[RecoveryRow, ...]
    jobs_before: int


async def read_report(store: Store, row: JobRow) -> JobReport:
    async with store.session() as session:
        frozen = await view.job_plan(session, row.job_id)
        attempts = tuple(await view.attempts(session, row.job_id))
        evaluations = tuple(await view.evaluations(session, row.job_id))
        notices = tuple(await view.notices(session, row.job_id))
        recoveries = tuple(await view.recoveries(session, row.job_id))
        before = await _jobs_before(session, row)
    assert frozen is not None
    return JobReport(
        row,
        msgspec.json.decode(frozen.plan_json),
        msgspec.json.decode(frozen.trainer_plan_json),
        msgspec.json.decode(frozen.overrides_json),
        attempts,
        evaluations,
        notices,
        recoveries,
        before,
    )


async def _jobs_before(session: Any, row: JobRow) -> int:
    if row.state not in ("queued", "recovering"):
        return 0
    waiting = [one.job_id for one in await places(session) if one.waiting]
    # Its own start may lie between the reading of its row and this one.
    running = [one for one in await view.running_jobs(session) if one.job_id != row.job_id]
    return len(running) + (waiting.index(row.job_id) if row.job_id in waiting else 0)


async def recent_ticks(store: Store, row: JobRow) -> list[Recorded]:
    """The newest ticks of a job, oldest first."""
    return await store.read_stream(f"ticks-{row.job_id}", max(0, row.ticks - RECENT_TICKS))


def warnings_of(report: JobReport) -> tuple[str, ...]:
    """Every notice once, in the order of the first time."""
    return tuple(dict.fromkeys(one.text for one in report.notices))


def result_folder(row: JobRow, jobs_dir: Path) -> Path | None:
    """Where a completed job's adapter or model stands; None for a job without one."""
    if row.state != "completed":
        return None
    name = row.outcome.get("result")
    folder = JobFolder(jobs_dir / row.job_id)
    return folder.path / str(name) if name else folder.result
