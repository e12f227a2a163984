"""Forecasts of each job with their scores, and this machine's own record: outcomes and rates."""

import sqlite3
from typing import Any

import msgspec
from sqlmodel import Field, SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from btmd.domain.forecast import (
    Forecast,
    ForecastMade,
    ForecastRevised,
    ForecastScored,
    MachineRateMeasured,
    Score,
    texts,
)
from btmd.projections.view import View, insert, update
from btmd.store.recorded import Recorded

NEWEST_SCORES = 800
"""Rows read for a calibration: a hundred jobs' worth."""


class ForecastRow(SQLModel, table=True):
    """The forecasts of a job, its trial and the scores, as JSON; empty while there is none."""

    __tablename__ = "view_forecasts"

    job_id: str = Field(primary_key=True)
    formula_json: str
    trial_json: str = ""
    trial_facts_json: str = ""
    scores_json: str = ""

    def as_values(self) -> dict[str, Any]:
        """The newest forecast with its trial, the one by formula, and the scores."""
        newest = self.trial_json or self.formula_json
        values: dict[str, Any] = {"forecast": msgspec.json.decode(newest)}
        values["forecast_texts"] = texts(msgspec.json.decode(newest, type=Forecast))
        values["forecast_by_formula"] = msgspec.json.decode(self.formula_json)
        values["trial"] = msgspec.json.decode(self.trial_facts_json) if self.trial_facts_json else None
        values["scores"] = msgspec.json.decode(self.scores_json) if self.scores_json else []
        return values

    @property
    def disk_bytes(self) -> int:
        """What the job's folder will hold at the end, by the newest forecast."""
        newest = msgspec.json.decode(self.trial_json or self.formula_json, type=Forecast)
        return int(newest.disk_bytes.middle)

    @property
    def trial_facts(self) -> dict[str, Any]:
        return msgspec.json.decode(self.trial_facts_json) if self.trial_facts_json else {}

    @property
    def scores(self) -> list[Score]:
        return msgspec.json.decode(self.scores_json, type=list[Score]) if self.scores_json else []


class ForecastScoreRow(SQLModel, table=True):
    """One quantity of one forecast against its outcome."""

    __tablename__ = "view_forecast_scores"

    job_id: str = Field(primary_key=True)
    quantity: str = Field(primary_key=True)
    basis: str = Field(primary_key=True)
    seq: int = Field(index=True)
    device: str
    log_ratio: float


class MachineRateRow(SQLModel, table=True):
    """The machine's newest rates for one way to compute."""

    __tablename__ = "view_machine_rates"

    device: str = Field(primary_key=True)
    precision: str = Field(primary_key=True)
    threads: int = Field(primary_key=True)
    flops: float
    copied_bytes_s: float


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _made(connection: sqlite3.Connection, _recorded: Recorded, happened: ForecastMade) -> None:
    insert(
        connection,
        ForecastRow,
        job_id=happened.job_id,
        formula_json=_json(happened.forecast),
        trial_json="",
        trial_facts_json="",
        scores_json="",
    )


def _revised(connection: sqlite3.Connection, _recorded: Recorded, happened: ForecastRevised) -> None:
    update(
        connection,
        ForecastRow,
        "job_id",
        happened.job_id,
        trial_json=_json(happened.forecast),
        trial_facts_json=_json(happened.trial),
    )


def _scored(connection: sqlite3.Connection, recorded: Recorded, happened: ForecastScored) -> None:
    update(connection, ForecastRow, "job_id", happened.job_id, scores_json=_json(happened.scores))
    for one in happened.scores:
        insert(
            connection,
            ForecastScoreRow,
            job_id=happened.job_id,
            quantity=one.quantity,
            basis=one.basis,
            seq=recorded.seq,
            device=happened.device,
            log_ratio=one.log_ratio,
        )


def _measured(connection: sqlite3.Connection, _recorded: Recorded, happened: MachineRateMeasured) -> None:
    insert(
        connection,
        MachineRateRow,
        device=happened.device,
        precision=happened.precision,
        threads=happened.threads,
        flops=happened.flops,
        copied_bytes_s=happened.copied_bytes_s,
    )


FORECASTS_VIEW = View(
    "forecasts",
    1,
    (ForecastRow, ForecastScoreRow, MachineRateRow),
    {ForecastMade: _made, ForecastRevised: _revised, ForecastScored: _scored, MachineRateMeasured: _measured},
)


async def forecast_of(session: AsyncSession, job_id: str) -> ForecastRow | None:
    return await session.get(ForecastRow, job_id)


async def outcomes(session: AsyncSession, device: str) -> dict[tuple[str, str], list[float]]:
    """Logarithms of outcome to forecast on this kind of device by quantity and basis, the newest first."""
    wanted = select(ForecastScoreRow).where(ForecastScoreRow.device == device)
    rows = await session.exec(wanted.order_by(col(ForecastScoreRow.seq).desc()).limit(NEWEST_SCORES))
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        found.setdefault((row.quantity, row.basis), []).append(row.log_ratio)
    return found


async def machine_rate(session: AsyncSession, device: str, precision: str, threads: int) -> MachineRateRow | None:
    """This machine's rates, if they were ever measured for this device, precision and number of threads."""
    return await session.get(MachineRateRow, (device, precision, threads))
