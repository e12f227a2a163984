"""Progress and result of a job, put together from its views and its last ticks."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from btmd.domain.forecast import said_and_took
from btmd.domain.job import ENDED
from btmd.domain.job_events import TrainingProgressed
from btmd.errors import NotFound
from btmd.job_folder import JobFolder
from btmd.monitoring import AttemptSpan, JobOutcome, JobProgress, Progress, Result, TickPoint, progress, result
from btmd.monitoring.verdict import Evidence, Measurement
from btmd.projections import job as view
from btmd.projections.forecast import forecast_of
from btmd.projections.job import AttemptRow, EvaluationRow, JobRow, NoticeRow
from btmd.projections.queue import places
from btmd.store.event_log import Recorded, Store

RECENT_TICKS = 240
"""Enough for the trend and the pace; the rest is in the log."""


class NoResultYet(NotFound):
    code, title = "no_result_yet", "The job has not ended yet"


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
        warnings=_warnings(report),
    )


def _warnings(report: JobReport) -> tuple[str, ...]:
    """Every notice once, in the order of the first time."""
    return tuple(dict.fromkeys(one.text for one in report.notices))


async def job_result(store: Store, row: JobRow, jobs_dir: Path) -> Result:
    """REST.md's Result. Raises NoResultYet while the job has not ended."""
    if row.state not in ENDED:
        raise NoResultYet(
            f"The job {row.job_id} has not ended yet: it is {row.state}.",
            hint=f"`btmctl jobs watch {row.job_id}` shows how far it is.",
        )
    report = await read_report(store, row)
    async with store.session() as session:
        foretold = await forecast_of(session, row.job_id)
    losses = last_losses(await recent_ticks(store, row))
    outcome, plan = row.outcome, report.trainer_plan
    folder = result_folder(row, jobs_dir)
    spent_us = sum((one.ended_us or row.updated_us) - one.started_us for one in report.attempts)
    return result(
        JobOutcome(
            job_id=row.job_id,
            model_id=row.model_id,
            state=row.state,
            ended_by=row.ended_by,
            training_s=spent_us / 1e6,
            steps=int(outcome.get("steps") or row.step),
            total_steps=row.total_steps,
            best_step=row.best_step,
            final_loss=outcome.get("final_loss", row.loss),
            evidence=_evidence(report, losses),
            margin=outcome.get("margin"),
            accuracy=outcome.get("accuracy"),
            result_path=None if folder is None else str(folder),
            training_type=str(plan["training_type"]),
            learning_rate=float(plan["learning_rate"]),
            num_epochs=int(plan["num_epochs"]),
            eval_every=int(plan["eval_every"]),
            held_out_fraction=float(plan["held_out_fraction"]),
            train_rows=row.shape.get("train_rows"),
            dataset_id=row.dataset_id,
            preset=row.preset,
            overrides=report.overrides,
            reason=row.reason,
            text=row.text,
            hint=row.hint,
            warnings=_warnings(report),
            forecast=said_and_took(foretold.scores) if foretold is not None else "",
        )
    )


LAST_STEPS = 20
"""Single steps differ by their rows; so many together tell what the loss has come to."""


def last_losses(ticks: Sequence[Recorded]) -> list[float]:
    """The training losses of the last steps in ``ticks``, which are oldest first."""
    found: list[float] = []
    for recorded in reversed(ticks):
        if isinstance(recorded.event, TrainingProgressed):
            found = [*recorded.event.losses, *found]
        if len(found) >= LAST_STEPS:
            break
    return found[-LAST_STEPS:]


def _evidence(report: JobReport, losses: Sequence[float]) -> Evidence:
    """What was measured. Jobs of earlier versions know only the losses before and after."""
    row, outcome = report.row, report.row.outcome
    # Where an attempt was taken up again before its end, the later one tells of the same steps anew.
    history = {one.step: one.loss for one in report.evaluations if one.moment == "during"}
    return Evidence(
        before=outcome.get("held_out_before", row.held_out_before),
        after=outcome.get("held_out_after", row.held_out_after),
        low=outcome.get("held_out_low"),
        high=outcome.get("held_out_high"),
        rows=outcome.get("held_out_rows") or row.shape.get("held_out_rows"),
        history=tuple(Measurement(step, history[step]) for step in sorted(history)),
        train_loss=sum(losses) / len(losses) if losses else None,
        general_before=outcome.get("general_before"),
        general_after=outcome.get("general_after"),
        answers=int(outcome.get("scored_answers") or 0),
        overlap_before=outcome.get("overlap_before"),
        overlap_after=outcome.get("overlap_after"),
        exact_before=outcome.get("exact_before"),
        exact_after=outcome.get("exact_after"),
    )


def result_folder(row: JobRow, jobs_dir: Path) -> Path | None:
    """Where a completed job's adapter or model stands; None for a job without one."""
    if row.state != "completed":
        return None
    name = row.outcome.get("result")
    folder = JobFolder(jobs_dir / row.job_id)
    return folder.path / str(name) if name else folder.result
