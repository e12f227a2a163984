"""Changes of a job's row that several events have in common."""

import sqlite3
from typing import Any

import msgspec

from btmd.projections.job import AttemptRow, JobRow
from btmd.projections.view import update
from btmd.store.recorded import Recorded

JOBS, ATTEMPTS = JobRow.__tablename__, AttemptRow.__tablename__


def as_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def change_job(connection: sqlite3.Connection, recorded: Recorded, job_id: str, **values: Any) -> None:
    update(connection, JobRow, "job_id", job_id, updated_us=recorded.recorded_at_us, **values)


def end_attempt(connection: sqlite3.Connection, recorded: Recorded, job_id: str, ended: str, text: str = "") -> None:
    connection.execute(
        f"UPDATE {ATTEMPTS} SET ended_us = ?, ended = ?, text = ? WHERE job_id = ? AND ended_us IS NULL",
        (recorded.recorded_at_us, ended, text, job_id),
    )


SETTLED: dict[str, Any] = {
    "undecided": False,
    "not_before_us": 0,
    "question": "",
    "question_action": "",
    "deadline_us": None,
}
"""Nothing about its last failure is open any more."""
