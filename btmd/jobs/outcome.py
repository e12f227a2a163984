"""What came of a job: its result, how it compares with another, and whether a repeated one came out the same."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from btmd.domain.forecast import said_and_took
from btmd.domain.job import ENDED
from btmd.domain.job_events import TrainingProgressed
from btmd.errors import NotFound
from btmd.jobs.account import account_of
from btmd.jobs.report import JobReport, read_report, recent_ticks, result_folder, warnings_of
from btmd.monitoring import JobOutcome, Result, result
from btmd.monitoring.comparison import Comparison, Ran, Repeat, compare, compare_repeat
from btmd.monitoring.verdict import Evidence, Measurement, judge
from btmd.projections import job as view
from btmd.projections.forecast import forecast_of
from btmd.projections.job import JobRow
from btmd.store.event_log import Recorded, Store


class NoResultYet(NotFound):
    code, title = "no_result_yet", "The job has not ended yet"


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
    outcome, plan = row.outcome, {**report.trainer_plan, **row.changes}
    account = account_of(row, report.trainer_plan, report.attempts, report.recoveries)
    folder = result_folder(row, jobs_dir)
    rerun_of = str(report.plan.get("rerun_of") or "")
    repeat = await repeat_of(store, row, rerun_of) if rerun_of else None
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
            evidence=evidence_of(report, losses),
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
            from_job=str(report.plan.get("from_job") or ""),
            reason=row.reason,
            text=row.text,
            hint=row.hint,
            warnings=warnings_of(report),
            forecast=said_and_took(foretold.scores) if foretold is not None else "",
            repeat=repeat,
            recoveries=sum(one.kind == "failed" for one in report.recoveries) if row.state == "completed" else 0,
            account=account.sentences,
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


def evidence_of(report: JobReport, losses: Sequence[float]) -> Evidence:
    """What was measured of a job; ``losses`` are those of its last steps."""
    row, outcome = report.row, dict(report.row.outcome)
    # A job that did not come to its end has told only of the way there.
    outcome.setdefault("held_out_before", row.held_out_before)
    outcome.setdefault("held_out_after", row.held_out_after)
    outcome["held_out_rows"] = outcome.get("held_out_rows") or row.shape.get("held_out_rows")
    # Where an attempt was taken up again before its end, the later one tells of the same steps anew.
    history = {one.step: one.loss for one in report.evaluations if one.moment == "during"}
    return to_evidence(outcome, history, losses)


def to_evidence(outcome: Mapping[str, Any], history: Mapping[int, float], losses: Sequence[float]) -> Evidence:
    """The evidence in a trainer's last word (frames.Finished); jobs of earlier versions know less of it.

    ``history`` holds the held-out losses measured on the way, by step.
    """
    return Evidence(
        before=outcome.get("held_out_before"),
        after=outcome.get("held_out_after"),
        low=outcome.get("held_out_low"),
        high=outcome.get("held_out_high"),
        rows=outcome.get("held_out_rows") or None,
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


async def job_ran(store: Store, row: JobRow) -> Ran:
    """A job as it ran, for a comparison."""
    report = await read_report(store, row)
    seen = evidence_of(report, last_losses(await recent_ticks(store, row)))
    outcome, shape = row.outcome, row.shape
    spent_us = sum((one.ended_us or row.updated_us) - one.started_us for one in report.attempts)
    names = ("device", "precision", "threads", "implementation")
    return Ran(
        job_id=row.job_id,
        name=row.name,
        state=row.state,
        model_id=row.model_id,
        dataset=f"{row.dataset_id} ({row.dataset_version})",
        preset=row.preset,
        trainer_plan=report.trainer_plan,
        evidence=seen,
        verdict=judge(seen) if row.state == "completed" else None,
        ended_by=row.ended_by,
        steps=int(outcome.get("steps") or row.step),
        best_step=row.best_step,
        final_loss=outcome.get("final_loss", row.loss),
        training_s=spent_us / 1e6 if report.attempts else None,
        peak_memory_bytes=outcome.get("peak_memory_bytes"),
        peak_gpu_memory_bytes=outcome.get("peak_gpu_memory_bytes"),
        attempts=len(report.attempts),
        conditions={name: shape[name] for name in names if name in shape},
        from_job=str(report.plan.get("from_job") or ""),
    )


async def compare_jobs(store: Store, first: JobRow, second: JobRow) -> Comparison:
    """Two jobs side by side."""
    return compare(await job_ran(store, first), await job_ran(store, second))


async def repeat_of(store: Store, row: JobRow, rerun_of: str) -> Repeat | None:
    """How a job that repeats another came out beside it; None where that one is not known any more."""
    async with store.session() as session:
        first = await view.job(session, rerun_of)
    if first is None or first.state != "completed" or row.state != "completed":
        return None
    return compare_repeat(await job_ran(store, first), await job_ran(store, row))
