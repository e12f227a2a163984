"""Progress and result of a job, put together from its views and its last ticks."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from btmd.domain.job_events import TrainingProgressed
from btmd.job_folder import JobFolder
from btmd.monitoring import AttemptSpan, JobProgress, Progress, TickPoint, progress
from btmd.projections import job as view
from btmd.projections.job import AttemptRow, EvaluationRow, JobRow, NoticeRow
from btmd.projections.queue import places
from btmd.store.event_log import Recorded, Store

RECENT_TICKS = 240
"""Enough for the trend and the pace; the rest is in the log."""


@dataclass(frozen=True, slots=True)
class JobReport:
    """Everything that is kept of one job but its ticks."""

    row: JobRow
    plan: dict[str, Any]
    trainer_plan: dict[str, Any]
    overrides: dict[str, Any]
    attempts: tuple[AttemptRow, ...]
    evaluations: tuple[EvaluationRow, ...]
    notices: tuple[NoticeRow, ...]
    jobs_before: int


async def read_report(store: Store, row: JobRow) -> JobReport:
    async with store.session() as session:
        frozen = await view.job_plan(session, row.job_id)
        attempts = tuple(await view.attempts(session, row.job_id))
        evaluations = tuple(await view.evaluations(session, row.job_id))
        notices = tuple(await view.notices(session, row.job_id))
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


async def job_progress(store: Store, row: JobRow, now_us: int, *, waits_for: str = "") -> Progress:
    """REST.md's Progress. ``waits_for`` says in a sentence what the job waits for, if it does."""
    report = await read_report(store, row)
    ticks = await recent_ticks(store, row)
    points = [
        TickPoint(one.step, one.elapsed_s, one.loss)
        for one in (recorded.event for recorded in ticks)
        if isinstance(one, TrainingProgressed) and one.attempt == row.attempt
    ]
    last_tick_us = ticks[-1].recorded_at_us if ticks else None
    offset_s = time.localtime(now_us // 1_000_000).tm_gmtoff
    return progress(_facts(report, last_tick_us, waits_for), points, now_us=now_us, utc_offset_s=offset_s)


def _facts(report: JobReport, last_tick_us: int | None, waits_for: str) -> JobProgress:
    row = report.row
    durations = [one.seconds for one in report.evaluations]
    return JobProgress(
        job_id=row.job_id,
        model_id=row.model_id,
        state=row.state,
        asked=row.asked,
        stage_text=row.stage_text,
        step=row.step,
        total_steps=row.total_steps,
        epoch=row.epoch,
        total_epochs=row.total_epochs,
        resumed_from_step=row.resumed_from_step,
        attempts=tuple(AttemptSpan(one.started_us, one.ended_us) for one in report.attempts),
        last_tick_us=last_tick_us,
        eval_every=int(report.trainer_plan["eval_every"]),
        evaluation_s=sum(durations) / len(durations) if durations else None,
        current_loss=row.loss,
        best_loss=row.best_loss,
        held_out_before=row.held_out_before,
        held_out_loss=row.held_out_loss,
        learning_rate=row.learning_rate,
        tokens_per_s=row.tokens_per_s,
        memory_bytes=row.memory_bytes,
        gpu_memory_bytes=row.gpu_memory_bytes,
        gpu_utilization=row.gpu_utilization,
        jobs_before=report.jobs_before,
        waits_for=waits_for,
        text=row.text,
        ended_by=row.ended_by,
        warnings=warnings_of(report),
    )


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
