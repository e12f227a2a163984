"""What is shown of warnings: those that hold, and those that did, with their times."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlmodel import Field, SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from btmd.domain.warning import MachineSampled, WarningRaised, WarningWithdrawn
from btmd.projections.view import View, insert
from btmd.store.recorded import Recorded


class WarningRow(SQLModel, table=True):
    """One warning of a job; ``withdrawn_us`` is empty while it holds."""

    __tablename__ = "view_warnings"

    job_id: str = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    attempt: int
    kind: str
    severity: str
    evidence_json: str
    raised_us: int
    withdrawn_us: int | None = Field(default=None, index=True)
    last_json: str = "{}"
    """The figures when it was withdrawn."""

    @property
    def evidence(self) -> dict[str, Any]:
        return msgspec.json.decode(self.evidence_json)  # type: ignore[no-any-return]

    @property
    def holds(self) -> bool:
        return self.withdrawn_us is None


class SampleRow(SQLModel, table=True):
    """The newest sample of the machine beside a job."""

    __tablename__ = "view_job_samples"

    job_id: str = Field(primary_key=True)
    at_us: int
    sample_json: str

    @property
    def sample(self) -> MachineSampled:
        return msgspec.json.decode(self.sample_json, type=MachineSampled)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _raised(connection: sqlite3.Connection, recorded: Recorded, happened: WarningRaised) -> None:
    insert(
        connection,
        WarningRow,
        job_id=happened.job_id,
        seq=recorded.seq,
        attempt=happened.attempt,
        kind=happened.kind,
        severity=happened.severity,
        evidence_json=_json(happened.evidence),
        raised_us=recorded.recorded_at_us,
        last_json="{}",
    )


def _withdrawn(connection: sqlite3.Connection, recorded: Recorded, happened: WarningWithdrawn) -> None:
    connection.execute(
        f"UPDATE {WarningRow.__tablename__} SET withdrawn_us = ?, last_json = ?"
        " WHERE job_id = ? AND kind = ? AND withdrawn_us IS NULL",
        (recorded.recorded_at_us, _json(happened.evidence), happened.job_id, happened.kind),
    )


def _sampled(connection: sqlite3.Connection, recorded: Recorded, happened: MachineSampled) -> None:
    insert(
        connection,
        SampleRow,
        job_id=happened.job_id,
        at_us=recorded.recorded_at_us,
        sample_json=recorded.data_json,
    )


WARNINGS_VIEW = View(
    "warnings",
    1,
    (WarningRow, SampleRow),
    {WarningRaised: _raised, WarningWithdrawn: _withdrawn, MachineSampled: _sampled},
)


async def warnings(session: AsyncSession, job_id: str) -> Sequence[WarningRow]:
    """All warnings of a job, in the order in which they were raised."""
    found = select(WarningRow).where(WarningRow.job_id == job_id).order_by(col(WarningRow.seq))
    return (await session.exec(found)).all()


async def open_warnings(session: AsyncSession) -> Sequence[WarningRow]:
    """Everything that is wrong with any job now."""
    found = select(WarningRow).where(col(WarningRow.withdrawn_us).is_(None)).order_by(col(WarningRow.seq))
    return (await session.exec(found)).all()


async def jobs_with_open_warnings(session: AsyncSession) -> dict[str, int]:
    """Jobs with something that holds, and the attempt it was told of."""
    return {row.job_id: row.attempt for row in await open_warnings(session)}


async def newest_sample(session: AsyncSession, job_id: str) -> MachineSampled | None:
    """The machine beside a job as it was last seen."""
    row = await session.get(SampleRow, job_id)
    return None if row is None else row.sample
