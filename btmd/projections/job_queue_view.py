"""How what happens to a job in the queue changes what is shown of it."""

import sqlite3
from typing import Any

from btmd.domain.queue import JobMoved, JobPrioritySet, JobYielded, YieldRequested
from btmd.projections.job_changes import change_job, end_attempt
from btmd.projections.view import Apply
from btmd.store.recorded import Recorded


def _prioritised(connection: sqlite3.Connection, recorded: Recorded, happened: JobPrioritySet | JobMoved) -> None:
    change_job(connection, recorded, happened.job_id, priority=happened.priority)


def _yield_asked(connection: sqlite3.Connection, recorded: Recorded, happened: YieldRequested) -> None:
    change_job(connection, recorded, happened.job_id, asked="yield")


def _yielded(connection: sqlite3.Connection, recorded: Recorded, happened: JobYielded) -> None:
    change_job(connection, recorded, happened.job_id, state="queued", asked="")
    end_attempt(connection, recorded, happened.job_id, "yielded")


QUEUE_HANDLERS: dict[type[Any], Apply] = {
    JobPrioritySet: _prioritised,
    JobMoved: _prioritised,
    YieldRequested: _yield_asked,
    JobYielded: _yielded,
}
