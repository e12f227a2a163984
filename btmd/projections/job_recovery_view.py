"""How failures, recoveries, questions and answers change what is shown of a job."""

import sqlite3
from typing import Any

import msgspec

from btmd.domain.job_events import (
    AnswerAsked,
    AttemptFailed,
    JobAnswered,
    JobUnanswered,
    RecoveryDue,
    RecoveryPlanned,
)
from btmd.projections.job import RecoveryRow
from btmd.projections.job_changes import JOBS, SETTLED, as_json, change_job, end_attempt
from btmd.projections.view import Apply, insert
from btmd.store.recorded import Recorded


def _attempt_failed(connection: sqlite3.Connection, recorded: Recorded, happened: AttemptFailed) -> None:
    change_job(connection, recorded, happened.job_id, state="recovering", text=happened.text, undecided=True)
    end_attempt(connection, recorded, happened.job_id, happened.reason, happened.text)
    details = {"step": happened.step, "rows": happened.rows, "evidence": happened.evidence}
    _recovery(connection, recorded, happened, "failed", happened.reason, happened.text, details)


def _recovery(
    connection: sqlite3.Connection,
    recorded: Recorded,
    happened: AttemptFailed | RecoveryPlanned | AnswerAsked,
    kind: str,
    action: str,
    text: str,
    details: dict[str, Any],
) -> None:
    insert(
        connection,
        RecoveryRow,
        job_id=happened.job_id,
        seq=recorded.seq,
        attempt=happened.attempt,
        kind=kind,
        action=action,
        text=text,
        details_json=as_json(details),
        at_us=recorded.recorded_at_us,
    )


def _say_also(connection: sqlite3.Connection, job_id: str, text: str) -> None:
    """Behind why the last attempt failed: what is done about it."""
    connection.execute(f"UPDATE {JOBS} SET text = trim(text || ' ' || ?) WHERE job_id = ?", (text, job_id))


def _planned(connection: sqlite3.Connection, recorded: Recorded, happened: RecoveryPlanned) -> None:
    values = SETTLED | {"state": "recovering", "not_before_us": happened.not_before_us}
    change_job(connection, recorded, happened.job_id, **values)
    _say_also(connection, happened.job_id, happened.text)
    connection.execute(
        f"UPDATE {JOBS} SET changes_json = ? WHERE job_id = ?",
        (as_json({**_changes(connection, happened.job_id), **happened.changes}), happened.job_id),
    )
    details = {"changes": happened.changes}
    _recovery(connection, recorded, happened, "planned", happened.action, happened.text, details)


def _changes(connection: sqlite3.Connection, job_id: str) -> dict[str, Any]:
    found = connection.execute(f"SELECT changes_json FROM {JOBS} WHERE job_id = ?", (job_id,)).fetchone()
    return {} if found is None else msgspec.json.decode(found[0], type=dict[str, Any])


def _due(connection: sqlite3.Connection, recorded: Recorded, happened: RecoveryDue) -> None:
    change_job(connection, recorded, happened.job_id, **(SETTLED | {"state": "recovering"}))


def _asked(connection: sqlite3.Connection, recorded: Recorded, happened: AnswerAsked) -> None:
    values = SETTLED | {
        "state": "needs_attention",
        "question": happened.question,
        "question_action": happened.action,
        "deadline_us": happened.deadline_us,
    }
    change_job(connection, recorded, happened.job_id, **values)
    _say_also(connection, happened.job_id, happened.question)
    details = {"changes": happened.changes}
    _recovery(connection, recorded, happened, "asked", happened.action, happened.question, details)


def _answered(connection: sqlite3.Connection, recorded: Recorded, happened: JobAnswered | JobUnanswered) -> None:
    change_job(connection, recorded, happened.job_id, **SETTLED)
    kind, action = "unanswered", ""
    if isinstance(happened, JobAnswered):
        kind, action = "answered", "yes" if happened.yes else "no"
    attempt = connection.execute(f"SELECT attempt FROM {JOBS} WHERE job_id = ?", (happened.job_id,)).fetchone()
    insert(
        connection,
        RecoveryRow,
        job_id=happened.job_id,
        seq=recorded.seq,
        attempt=0 if attempt is None else attempt[0],
        kind=kind,
        action=action,
        text="",
        details_json="{}",
        at_us=recorded.recorded_at_us,
    )


RECOVERY_HANDLERS: dict[type[Any], Apply] = {
    AttemptFailed: _attempt_failed,
    RecoveryPlanned: _planned,
    RecoveryDue: _due,
    AnswerAsked: _asked,
    JobAnswered: _answered,
    JobUnanswered: _answered,
}
