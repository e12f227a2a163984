"""How each event changes what is shown of a job."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from btmd.domain.job_events import (
    AttemptLost,
    AttemptStarted,
    CancelRequested,
    CheckpointRejected,
    CheckpointSaved,
    HeldOutLossMeasured,
    JobCancelled,
    JobCompleted,
    JobConsentWithdrawn,
    JobFailed,
    JobPaused,
    JobSubmitted,
    PauseRequested,
    ResumeRequested,
    StopRequested,
    TrainerNoticed,
    TrainingProgressed,
    TrainingShapeKnown,
    TrainingStageEntered,
)
from btmd.domain.job_housekeeping import CheckpointsRemoved, JobDeleted
from btmd.domain.ownership import ThingTransferred
from btmd.projections.job import (
    JOB_TABLES,
    AttemptRow,
    CheckpointRow,
    EvaluationRow,
    JobPlanRow,
    JobRow,
    NoticeRow,
)
from btmd.projections.job_changes import ATTEMPTS, SETTLED, as_json, change_job, end_attempt
from btmd.projections.job_queue_view import QUEUE_HANDLERS
from btmd.projections.job_recovery_view import RECOVERY_HANDLERS
from btmd.projections.ownership import transferred
from btmd.projections.view import View, insert
from btmd.store.recorded import Recorded

JOBS, CHECKPOINTS = JobRow.__tablename__, CheckpointRow.__tablename__


def _submitted(connection: sqlite3.Connection, recorded: Recorded, happened: JobSubmitted) -> None:
    values = JobRow(
        job_id=happened.job_id,
        name=happened.name,
        owner_uid=happened.owner_uid,
        model_id=happened.model_id,
        dataset_id=happened.dataset_id,
        dataset_version=happened.dataset_version,
        preset=happened.preset,
        custom_description=happened.custom_description,
        priority=happened.priority,
        state="queued",
        submitted_us=recorded.recorded_at_us,
        submitted_seq=recorded.seq,
        updated_us=recorded.recorded_at_us,
        total_steps=int(happened.plan.get("total_steps") or 0),
        total_epochs=int(happened.trainer_plan.get("num_epochs") or 0),
    )
    insert(connection, JobRow, **values.model_dump())
    insert(
        connection,
        JobPlanRow,
        job_id=happened.job_id,
        plan_json=as_json(happened.plan),
        trainer_plan_json=as_json(happened.trainer_plan),
        overrides_json=as_json(happened.overrides),
        allow_json=as_json(happened.allow),
    )


def _attempt_started(connection: sqlite3.Connection, recorded: Recorded, happened: AttemptStarted) -> None:
    connection.execute(
        f"UPDATE {JOBS} SET state = 'preparing', attempt = ?, attempt_started_us = ?, updated_us = ?,"
        " started_us = coalesce(started_us, ?), stage_text = '', ended_us = NULL, ended_by = '', reason = '',"
        " text = '', hint = '', asked = CASE WHEN asked = 'stop' THEN asked ELSE '' END,"
        " earlier_elapsed_s = earlier_elapsed_s + attempt_elapsed_s, attempt_elapsed_s = 0, tokens_per_s = NULL"
        " WHERE job_id = ?",
        (happened.attempt, *(recorded.recorded_at_us,) * 3, happened.job_id),
    )
    insert(
        connection,
        AttemptRow,
        job_id=happened.job_id,
        attempt=happened.attempt,
        why=happened.why,
        started_us=recorded.recorded_at_us,
        ended="",
        text="",
        newest_step=_newest_step(connection, happened.job_id),
    )


def _newest_step(connection: sqlite3.Connection, job_id: str) -> int:
    found = connection.execute(f"SELECT max(step) FROM {CHECKPOINTS} WHERE job_id = ?", (job_id,)).fetchone()
    return int(found[0] or 0)


def _stage(connection: sqlite3.Connection, recorded: Recorded, happened: TrainingStageEntered) -> None:
    change_job(connection, recorded, happened.job_id, state=happened.stage, stage_text=happened.text)


def _shape(connection: sqlite3.Connection, recorded: Recorded, happened: TrainingShapeKnown) -> None:
    shape = happened.shape
    began = int(shape.get("resumed_from_step", 0))
    # Later ones were damaged, gone, or set aside: whatever the reason, this attempt makes them anew.
    connection.execute(f"DELETE FROM {CHECKPOINTS} WHERE job_id = ? AND step > ?", (happened.job_id, began))
    connection.execute(
        f"UPDATE {ATTEMPTS} SET resumed_from_step = ? WHERE job_id = ? AND attempt = ?",
        (began, happened.job_id, happened.attempt),
    )
    change_job(
        connection,
        recorded,
        happened.job_id,
        shape_json=as_json(shape),
        total_steps=int(shape["total_steps"]),
        total_epochs=int(shape["total_epochs"]),
        resumed_from_step=began,
        step=began,
    )


def _progressed(connection: sqlite3.Connection, recorded: Recorded, happened: TrainingProgressed) -> None:
    _progressed_run(connection, [(recorded, happened)])


def _progressed_run(connection: sqlite3.Connection, run: Sequence[tuple[Recorded, TrainingProgressed]]) -> None:
    """The newest tick of each job, and the lowest loss of all of them."""
    newest: dict[str, tuple[Recorded, TrainingProgressed]] = {}
    lowest: dict[str, float] = {}
    for recorded, happened in run:
        job_id = happened.job_id
        newest[job_id] = recorded, happened
        least = min(happened.losses, default=happened.loss)
        lowest[job_id] = min(least, lowest.get(job_id, least))
    for job_id, (recorded, happened) in newest.items():
        connection.execute(
            f"UPDATE {JOBS} SET updated_us = ?, step = ?, total_steps = ?, epoch = ?, loss = ?,"
            " best_loss = min(coalesce(best_loss, ?), ?), learning_rate = ?, tokens_per_s = ?, attempt_elapsed_s = ?,"
            " memory_bytes = ?, gpu_memory_bytes = ?, gpu_utilization = ?, ticks = ? WHERE job_id = ?",
            (
                recorded.recorded_at_us,
                happened.step,
                happened.total_steps,
                happened.epoch,
                happened.loss,
                lowest[job_id],
                lowest[job_id],
                happened.learning_rate,
                happened.tokens_per_s,
                happened.elapsed_s,
                happened.memory_bytes,
                happened.gpu_memory_bytes,
                happened.gpu_utilization,
                recorded.version,
                job_id,
            ),
        )


def _measured(connection: sqlite3.Connection, recorded: Recorded, happened: HeldOutLossMeasured) -> None:
    insert(
        connection,
        EvaluationRow,
        job_id=happened.job_id,
        attempt=happened.attempt,
        number=happened.number,
        step=happened.step,
        loss=happened.loss,
        tokens=happened.tokens,
        moment=happened.when,
        seconds=happened.seconds,
        margin=happened.margin,
        accuracy=happened.accuracy,
    )
    values: dict[str, Any] = {"held_out_loss": happened.loss}
    if happened.when in ("before", "after"):
        values[f"held_out_{happened.when}"] = happened.loss
    change_job(connection, recorded, happened.job_id, **values)
    connection.execute(
        f"UPDATE {JOBS} SET held_out_best = min(coalesce(held_out_best, ?1), ?1) WHERE job_id = ?2",
        (happened.loss, happened.job_id),
    )


def _checkpoint(connection: sqlite3.Connection, recorded: Recorded, happened: CheckpointSaved) -> None:
    if happened.best:
        connection.execute(f"UPDATE {CHECKPOINTS} SET best = 0 WHERE job_id = ?", (happened.job_id,))
    insert(
        connection,
        CheckpointRow,
        job_id=happened.job_id,
        name=happened.name,
        attempt=happened.attempt,
        step=happened.step,
        size_bytes=happened.size_bytes,
        held_out_loss=happened.held_out_loss,
        best=happened.best,
        saved_us=recorded.recorded_at_us,
    )
    for name in happened.pruned:
        connection.execute(f"DELETE FROM {CHECKPOINTS} WHERE job_id = ? AND name = ?", (happened.job_id, name))
    if happened.best:
        change_job(connection, recorded, happened.job_id, best_step=happened.step)


def _rejected(connection: sqlite3.Connection, recorded: Recorded, happened: CheckpointRejected) -> None:
    connection.execute(f"DELETE FROM {CHECKPOINTS} WHERE job_id = ? AND name = ?", (happened.job_id, happened.name))
    instead = f"the one before it, {happened.used_instead}, was used" if happened.used_instead else "none was left"
    text = f"The checkpoint {happened.name} was damaged ({happened.reason}); {instead}."
    _notice(connection, recorded, happened.job_id, happened.attempt, "checkpoint_rejected", text)


def _noticed(connection: sqlite3.Connection, recorded: Recorded, happened: TrainerNoticed) -> None:
    _notice(connection, recorded, happened.job_id, happened.attempt, happened.code, happened.text)


def _notice(
    connection: sqlite3.Connection, recorded: Recorded, job_id: str, attempt: int, code: str, text: str
) -> None:
    insert(
        connection,
        NoticeRow,
        job_id=job_id,
        seq=recorded.seq,
        attempt=attempt,
        code=code,
        text=text,
        at_us=recorded.recorded_at_us,
    )


def _pause_asked(connection: sqlite3.Connection, recorded: Recorded, happened: PauseRequested) -> None:
    change_job(connection, recorded, happened.job_id, asked="pause")


def _stop_asked(connection: sqlite3.Connection, recorded: Recorded, happened: StopRequested) -> None:
    change_job(connection, recorded, happened.job_id, asked="stop")
    # A paused job has to run once more to make its result, so it waits for its turn again.
    connection.execute(
        f"UPDATE {JOBS} SET state = 'queued', undecided = 0, not_before_us = 0, question = '', question_action = '',"
        " deadline_us = NULL WHERE job_id = ? AND state IN ('paused', 'recovering', 'needs_attention')",
        (happened.job_id,),
    )


def _cancel_asked(connection: sqlite3.Connection, recorded: Recorded, happened: CancelRequested) -> None:
    change_job(connection, recorded, happened.job_id, asked="cancel")


def _consent_withdrawn(connection: sqlite3.Connection, recorded: Recorded, happened: JobConsentWithdrawn) -> None:
    change_job(connection, recorded, happened.job_id, asked="consent")


def _resume_asked(connection: sqlite3.Connection, recorded: Recorded, happened: ResumeRequested) -> None:
    change_job(
        connection, recorded, happened.job_id, state="queued", asked="", ended_us=None, reason="", text="", hint=""
    )


def _lost(connection: sqlite3.Connection, recorded: Recorded, happened: AttemptLost) -> None:
    change_job(connection, recorded, happened.job_id, state="recovering", text=happened.text)
    end_attempt(connection, recorded, happened.job_id, happened.cause, happened.text)


def _paused(connection: sqlite3.Connection, recorded: Recorded, happened: JobPaused) -> None:
    change_job(connection, recorded, happened.job_id, **SETTLED, state="paused", asked="")
    end_attempt(connection, recorded, happened.job_id, "paused")


def _cancelled(connection: sqlite3.Connection, recorded: Recorded, happened: JobCancelled) -> None:
    values = SETTLED | {"state": "cancelled", "asked": "", "ended_us": recorded.recorded_at_us}
    change_job(connection, recorded, happened.job_id, reason=happened.reason, ended_by="cancelled", **values)
    end_attempt(connection, recorded, happened.job_id, "cancelled")


def _failed(connection: sqlite3.Connection, recorded: Recorded, happened: JobFailed) -> None:
    change_job(
        connection,
        recorded,
        happened.job_id,
        **SETTLED,
        state="failed",
        asked="",
        ended_us=recorded.recorded_at_us,
        ended_by="failed",
        reason=happened.reason,
        text=happened.text,
        hint=happened.hint,
    )
    end_attempt(connection, recorded, happened.job_id, happened.reason, happened.text)


def _completed(connection: sqlite3.Connection, recorded: Recorded, happened: JobCompleted) -> None:
    outcome = happened.outcome
    change_job(
        connection,
        recorded,
        happened.job_id,
        **SETTLED,
        state="completed",
        asked="",
        ended_us=recorded.recorded_at_us,
        ended_by=happened.ended_by,
        outcome_json=as_json(outcome),
        best_step=outcome.get("best_step"),
    )
    end_attempt(connection, recorded, happened.job_id, happened.ended_by)


def _checkpoints_removed(connection: sqlite3.Connection, recorded: Recorded, happened: CheckpointsRemoved) -> None:
    for name in happened.names:
        connection.execute(f"DELETE FROM {CHECKPOINTS} WHERE job_id = ? AND name = ?", (happened.job_id, name))


def _deleted(connection: sqlite3.Connection, recorded: Recorded, happened: JobDeleted) -> None:
    for table in JOB_TABLES:
        connection.execute(f"DELETE FROM {table.__tablename__} WHERE job_id = ?", (happened.job_id,))


JOBS_VIEW = View(
    "jobs",
    5,
    JOB_TABLES,
    {
        JobSubmitted: _submitted,
        ThingTransferred: transferred("job", JobRow, "job_id", "submitted_us"),
        AttemptStarted: _attempt_started,
        TrainingStageEntered: _stage,
        TrainingShapeKnown: _shape,
        TrainingProgressed: _progressed,
        HeldOutLossMeasured: _measured,
        CheckpointSaved: _checkpoint,
        CheckpointRejected: _rejected,
        TrainerNoticed: _noticed,
        PauseRequested: _pause_asked,
        StopRequested: _stop_asked,
        CancelRequested: _cancel_asked,
        JobConsentWithdrawn: _consent_withdrawn,
        ResumeRequested: _resume_asked,
        AttemptLost: _lost,
        **RECOVERY_HANDLERS,
        **QUEUE_HANDLERS,
        JobPaused: _paused,
        JobCancelled: _cancelled,
        JobFailed: _failed,
        JobCompleted: _completed,
        CheckpointsRemoved: _checkpoints_removed,
        JobDeleted: _deleted,
    },
    {TrainingProgressed: _progressed_run},
)
