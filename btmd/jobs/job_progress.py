"""The progress of a job, put together from its views, its last ticks and the machine beside it."""

import sqlite3
import time
from collections.abc import Sequence

from msgspec import Struct

from btmd.domain.job_events import TrainingProgressed
from btmd.domain.warning import MachineSampled
from btmd.jobs.report import RECENT_TICKS, JobReport, read_report, recent_ticks, warnings_of
from btmd.jobs.warned import ToldWarning, told
from btmd.monitoring import AttemptSpan, JobProgress, Progress, TickPoint, progress
from btmd.projections import warning as warning_view
from btmd.projections.forecast import ForecastRow, forecast_of
from btmd.projections.job import CheckpointRow, JobRow, checkpoints, job_plan
from btmd.projections.warning import newest_sample
from btmd.store.event_log import Store
from btmd.store.recorded import COLUMNS, Recorded

THINNED_TICKS = 160


async def job_progress(store: Store, row: JobRow, now_us: int, *, waits_for: str = "") -> Progress:
    """REST.md's Progress. ``waits_for`` says in a sentence what the job waits for, if it does."""
    report = await read_report(store, row)
    ticks = await recent_ticks(store, row)
    warnings = await job_warnings(store, row)
    async with store.session() as session:
        machine = _Machine(
            await newest_sample(session, row.job_id),
            await forecast_of(session, row.job_id),
            await checkpoints(session, row.job_id),
        )
    earlier = await thinned_ticks(store, row)
    points = _points([*earlier, *ticks], row.attempt)
    last_tick_us = ticks[-1].recorded_at_us if ticks else None
    offset_s = time.localtime(now_us // 1_000_000).tm_gmtoff
    facts = _facts(report, machine, last_tick_us, waits_for, [one for one in warnings if one.row.holds])
    return progress(facts, points, recent=_points(ticks, row.attempt), now_us=now_us, utc_offset_s=offset_s)


class _Machine(Struct, frozen=True):
    """What is known beside the report."""

    sample: MachineSampled | None
    forecast: ForecastRow | None
    checkpoints: Sequence[CheckpointRow]


def _points(ticks: Sequence[Recorded], attempt: int) -> list[TickPoint]:
    return [
        TickPoint(one.step, one.elapsed_s, one.loss, recorded.recorded_at_us)
        for recorded, one in ((recorded, recorded.event) for recorded in ticks)
        if isinstance(one, TrainingProgressed) and one.attempt == attempt
    ]


async def thinned_ticks(store: Store, row: JobRow) -> list[Recorded]:
    """Ticks before the newest ones, far apart: enough to tell how the pace has changed. Condensed ones are left out."""
    before = row.ticks - RECENT_TICKS
    if before < 1:
        return []
    versions = sorted({1 + number * (before - 1) // (THINNED_TICKS - 1) for number in range(THINNED_TICKS)})
    marks = ",".join("?" * len(versions))

    def chosen(connection: sqlite3.Connection) -> list[Recorded]:
        found = connection.execute(
            f"SELECT {COLUMNS} FROM ticks WHERE stream = ? AND version IN ({marks}) ORDER BY version",
            (f"ticks-{row.job_id}", *versions),
        )
        return [Recorded(*one) for one in found]

    return await store.query(chosen)


async def job_warnings(store: Store, row: JobRow) -> list[ToldWarning]:
    """Everything that is wrong with a job, and everything that was."""
    async with store.session() as session:
        found = await warning_view.warnings(session, row.job_id)
        frozen = await job_plan(session, row.job_id)
    assert frozen is not None
    return told(row, frozen, found)


def _facts(
    report: JobReport, machine: _Machine, last_tick_us: int | None, waits_for: str, present: list[ToldWarning]
) -> JobProgress:
    row, plan, sample = report.row, report.trainer_plan, machine.sample
    # The one at the end tells of a measurement that was made before.
    durations = [one.seconds for one in report.evaluations if one.moment != "after"]
    costs = machine.forecast.trial_facts if machine.forecast is not None else {}
    gpu = sample.gpus[0] if sample is not None and sample.gpus else None
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
        eval_every=int(plan["eval_every"]),
        evaluation_s=sum(durations) / len(durations) if durations else None,
        evaluations=tuple(
            (one.step, one.seconds)
            for one in report.evaluations
            if one.attempt == row.attempt and one.moment == "during"
        ),
        save_every=int(plan["save_every"]),
        saving_s=float(costs.get("saving_s") or 0.0),
        saved_steps=tuple(one.step for one in machine.checkpoints if one.attempt == row.attempt),
        closing_s=float(costs["closing_s"]) if costs.get("closing_s") else None,
        time_limit_s=float(plan.get("time_limit_s") or 0.0),
        trained_s=row.earlier_elapsed_s + row.attempt_elapsed_s,
        current_loss=row.loss,
        best_loss=row.best_loss,
        held_out_before=row.held_out_before,
        held_out_loss=row.held_out_loss,
        held_out_best=row.held_out_best,
        learning_rate=row.learning_rate,
        tokens_per_s=row.tokens_per_s,
        memory_bytes=row.memory_bytes,
        gpu_memory_bytes=row.gpu_memory_bytes,
        gpu_utilization=gpu.utilization if row.gpu_utilization is None and gpu is not None else row.gpu_utilization,
        disk_free_bytes=None if sample is None else sample.disk_free_bytes,
        job_bytes=sum(one.size_bytes for one in machine.checkpoints),
        jobs_before=report.jobs_before,
        waits_for=waits_for,
        text=row.text,
        ended_by=row.ended_by,
        warnings=(*(one.text for one in present), *warnings_of(report)),
        recommendations=tuple(dict.fromkeys(one.advice for one in present)),
    )
