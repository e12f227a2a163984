"""Where each job stands in the line: its priority and rank, whether it is held back, and its device."""

import sqlite3
from collections.abc import Sequence

from sqlmodel import Field, SQLModel, col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from btmd.domain.job_events import AttemptStarted, JobPaused, JobSubmitted
from btmd.domain.job_state import ENDED, STAGES, WAITS
from btmd.domain.queue import (
    JobHeld,
    JobMoved,
    JobPrioritySet,
    JobReleased,
    JobYielded,
    Place,
    order,
    rank_of,
)
from btmd.projections.job import JobRow
from btmd.projections.view import View, insert, update
from btmd.store.recorded import Recorded


class QueueRow(SQLModel, table=True):
    """One job. ``rank`` sorts as text among jobs of the same priority; see btmd.domain.queue."""

    __tablename__ = "view_queue"

    job_id: str = Field(primary_key=True)
    priority: int
    rank: str
    seq: int
    """Of its submission."""
    held: bool = False
    yielded: bool = False
    """Whether it gave its device up for a while and goes on by itself."""
    attempt: int = 0
    device: str = ""
    """Where the newest attempt was started; empty before the first."""


async def places(session: AsyncSession) -> list[Place]:
    """All unfinished jobs in the order of their turns, those at work included."""
    found = select(QueueRow, JobRow.state).join(JobRow, col(JobRow.job_id) == col(QueueRow.job_id))
    rows = (await session.exec(found.where(col(JobRow.state).not_in(ENDED)))).all()
    return order(
        Place(
            row.job_id,
            state,
            row.priority,
            row.rank,
            row.seq,
            held=row.held,
            interrupted=row.yielded or state == "recovering",
            attempt=row.attempt,
        )
        for row, state in rows
    )


async def count_going(session: AsyncSession) -> int:
    """Jobs that come further without anybody: at work, or waiting for what comes by itself. Not those held back."""
    state = col(JobRow.state)
    waits = state.in_(("queued", "recovering")) & col(QueueRow.held).is_(False)
    # Asked whether it shall wait on, and gone on with where there is what it waits for.
    going = state.in_(STAGES) | waits | col(JobRow.question_action).in_(WAITS)
    found = select(func.count()).select_from(QueueRow).join(JobRow, col(JobRow.job_id) == col(QueueRow.job_id))
    return int((await session.exec(found.where(going))).one())


async def devices(session: AsyncSession, job_ids: Sequence[str]) -> dict[str, str]:
    """By job, where its newest attempt was started."""
    rows = (await session.exec(select(QueueRow).where(col(QueueRow.job_id).in_(job_ids)))).all()
    return {row.job_id: row.device for row in rows}


def _submitted(connection: sqlite3.Connection, recorded: Recorded, happened: JobSubmitted) -> None:
    insert(
        connection,
        QueueRow,
        job_id=happened.job_id,
        priority=happened.priority,
        rank=rank_of(recorded.seq),
        seq=recorded.seq,
        held=False,
        yielded=False,
        attempt=0,
        device="",
    )


def _prioritised(connection: sqlite3.Connection, recorded: Recorded, happened: JobPrioritySet) -> None:
    row = connection.execute(
        f"SELECT seq FROM {QueueRow.__tablename__} WHERE job_id = ?", (happened.job_id,)
    ).fetchone()
    if row is not None:
        update(connection, QueueRow, "job_id", happened.job_id, priority=happened.priority, rank=rank_of(row[0]))


def _moved(connection: sqlite3.Connection, recorded: Recorded, happened: JobMoved) -> None:
    update(connection, QueueRow, "job_id", happened.job_id, priority=happened.priority, rank=happened.rank)


def _held(connection: sqlite3.Connection, recorded: Recorded, happened: JobHeld) -> None:
    update(connection, QueueRow, "job_id", happened.job_id, held=True)


def _released(connection: sqlite3.Connection, recorded: Recorded, happened: JobReleased) -> None:
    update(connection, QueueRow, "job_id", happened.job_id, held=False)


def _yielded(connection: sqlite3.Connection, recorded: Recorded, happened: JobYielded) -> None:
    update(connection, QueueRow, "job_id", happened.job_id, yielded=True)


def _started(connection: sqlite3.Connection, recorded: Recorded, happened: AttemptStarted) -> None:
    update(
        connection, QueueRow, "job_id", happened.job_id, yielded=False, attempt=happened.attempt, device=happened.device
    )


def _paused(connection: sqlite3.Connection, recorded: Recorded, happened: JobPaused) -> None:
    update(connection, QueueRow, "job_id", happened.job_id, yielded=False)


QUEUE_VIEW = View(
    "queue",
    1,
    (QueueRow,),
    {
        JobSubmitted: _submitted,
        JobPrioritySet: _prioritised,
        JobMoved: _moved,
        JobHeld: _held,
        JobReleased: _released,
        JobYielded: _yielded,
        AttemptStarted: _started,
        JobPaused: _paused,
    },
)
