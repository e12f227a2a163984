"""The progress of a job, put together from its views, its last ticks and the machine beside it."""

import time

from btmd.domain.job_events import TrainingProgressed
from btmd.jobs.report import JobReport, read_report, recent_ticks, warnings_of
from btmd.jobs.warned import ToldWarning, told
from btmd.monitoring import AttemptSpan, JobProgress, Progress, TickPoint, progress
from btmd.projections import warning as warning_view
from btmd.projections.job import JobRow, job_plan
from btmd.store.event_log import Store


async def job_progress(store: Store, row: JobRow, now_us: int, *, waits_for: str = "") -> Progress:
    """REST.md's Progress. ``waits_for`` says in a sentence what the job waits for, if it does."""
    report = await read_report(store, row)
    ticks = await recent_ticks(store, row)
    warnings = await job_warnings(store, row)
    points = [
        TickPoint(one.step, one.elapsed_s, one.loss)
        for one in (recorded.event for recorded in ticks)
        if isinstance(one, TrainingProgressed) and one.attempt == row.attempt
    ]
    last_tick_us = ticks[-1].recorded_at_us if ticks else None
    offset_s = time.localtime(now_us // 1_000_000).tm_gmtoff
    facts = _facts(report, last_tick_us, waits_for, [one for one in warnings if one.row.holds])
    return progress(facts, points, now_us=now_us, utc_offset_s=offset_s)


async def job_warnings(store: Store, row: JobRow) -> list[ToldWarning]:
    """Everything that is wrong with a job, and everything that was."""
    async with store.session() as session:
        found = await warning_view.warnings(session, row.job_id)
        frozen = await job_plan(session, row.job_id)
    assert frozen is not None
    return told(row, frozen, found)


def _facts(report: JobReport, last_tick_us: int | None, waits_for: str, present: list[ToldWarning]) -> JobProgress:
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
        warnings=(*(one.text for one in present), *warnings_of(report)),
        recommendations=tuple(dict.fromkeys(one.advice for one in present)),
    )
