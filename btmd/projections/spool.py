"""How far each trainer's spool has been taken into the log, written in the transaction of the events themselves."""

import sqlite3
from collections.abc import Sequence

from sqlmodel import Field, SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

from btmd.domain.forecast import ForecastRevised, MachineRateMeasured
from btmd.domain.job_events import (
    CheckpointRejected,
    CheckpointSaved,
    HeldOutLossMeasured,
    TrainerNoticed,
    TrainingProgressed,
    TrainingShapeKnown,
    TrainingStageEntered,
)
from btmd.projections.view import View
from btmd.store.recorded import Recorded

Numbered = (
    TrainingStageEntered
    | TrainingShapeKnown
    | TrainingProgressed
    | HeldOutLossMeasured
    | CheckpointSaved
    | CheckpointRejected
    | TrainerNoticed
    | ForecastRevised
    | MachineRateMeasured
)


class SpoolPositionRow(SQLModel, table=True):
    """The number of the last frame of an attempt that is in the log."""

    __tablename__ = "view_spool_positions"

    job_id: str = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    number: int


def _advance(connection: sqlite3.Connection, recorded: Recorded, happened: Numbered) -> None:
    _advance_run(connection, [(recorded, happened)])


def _advance_run(connection: sqlite3.Connection, run: Sequence[tuple[Recorded, Numbered]]) -> None:
    newest: dict[tuple[str, int], int] = {}
    for _, happened in run:
        attempt = happened.job_id, happened.attempt
        newest[attempt] = max(happened.number, newest.get(attempt, 0))
    connection.executemany(
        f"INSERT INTO {SpoolPositionRow.__tablename__} (job_id, attempt, number) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET number = max(number, excluded.number)",
        [(*attempt, number) for attempt, number in newest.items()],
    )


_LISTENED_TO = (
    TrainingStageEntered,
    TrainingShapeKnown,
    TrainingProgressed,
    HeldOutLossMeasured,
    CheckpointSaved,
    CheckpointRejected,
    TrainerNoticed,
    ForecastRevised,
    MachineRateMeasured,
)
SPOOL_VIEW = View(
    "spool_positions",
    2,
    (SpoolPositionRow,),
    dict.fromkeys(_LISTENED_TO, _advance),
    dict.fromkeys(_LISTENED_TO, _advance_run),
)


async def spool_position(session: AsyncSession, job_id: str, attempt: int) -> int:
    """The number of the last recorded frame; 0 before the first."""
    found = await session.get(SpoolPositionRow, (job_id, attempt))
    return 0 if found is None else found.number
