"""What the jobs in line need, and what those at work are still going to take: from plans, forecasts and folders."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from btmd.domain.forecast import TRIAL, Forecast
from btmd.domain.job_state import JobState
from btmd.domain.queue import Place
from btmd.job_folder import JobFolder
from btmd.jobs.device_locks import CPU
from btmd.jobs.turns import Candidate, Running
from btmd.planning.forecast import GPU_HOST_BYTES
from btmd.projections.dataset import DatasetRow
from btmd.projections.forecast import ForecastRow
from btmd.projections.job import JobPlanRow, JobRow

MOST_PLANS = 1000
SMALLER = frozenset(
    {"micro_batch_size", "gradient_checkpointing", "max_length", "precision", "training_type", "lora", "device"}
)
"""What recoveries change of a plan to have it take less."""


class _Sizes(msgspec.Struct):
    total_bytes: int = 0


class _Plan(msgspec.Struct):
    memory: _Sizes = msgspec.field(default_factory=_Sizes)
    disk: _Sizes = msgspec.field(default_factory=_Sizes)


class _TrainerPlan(msgspec.Struct):
    device: str


class Frozen(msgspec.Struct, frozen=True):
    """Of a job's plan, what its place on the machine depends on."""

    device: str
    pinned: bool
    memory_bytes: int
    """On the device's own memory, by formula."""
    disk_bytes: int


class Needs:
    """Reads them; plans never change and are kept in memory."""

    def __init__(self, jobs_dir: Path) -> None:
        self._jobs_dir = jobs_dir
        self._plans: dict[str, Frozen] = {}

    async def candidates(
        self, session: AsyncSession, line: Sequence[Place], states: Mapping[str, JobState]
    ) -> list[Candidate]:
        """The jobs of the line, in its order; ``states`` are those of jobs that were started before."""
        ids = [one.job_id for one in line]
        plans, forecasts = await self._frozen(session, ids), await _forecasts(session, ids)
        missing, owners = await _missing_datasets(session, ids), await _owners(session, ids)
        found = []
        for one in line:
            plan, state = plans.get(one.job_id), states.get(one.job_id) or JobState(one.job_id, one.state)
            if plan is None:
                continue
            device = str(state.changes.get("device", plan.device))
            sizes = _memory(device, plan, forecasts.get(one.job_id))
            if SMALLER & state.changes.keys():
                # It takes less than was foretold, and nobody has said how much: it is tried.
                sizes |= {"memory_bytes": 0, "gpu_memory_bytes": 0}
            found.append(
                Candidate(
                    job_id=one.job_id,
                    device=device,
                    owner_uid=owners.get(one.job_id, 0),
                    pinned=plan.pinned,
                    held=one.held,
                    missing_dataset=missing.get(one.job_id, ""),
                    postponed=state.undecided or state.not_before_us > 0,
                    not_before_us=state.not_before_us,
                    disk_bytes=max(0, plan.disk_bytes - self._folder_bytes(one.job_id, state.attempt)),
                    **sizes,
                )
            )
        return found

    async def running(self, session: AsyncSession, placed: Mapping[str, str]) -> list[Running]:
        """The jobs at work, each with its device; where that is not known, the planned one."""
        ids = list(placed)
        plans, forecasts = await self._frozen(session, ids), await _forecasts(session, ids)
        rows = {row.job_id: row for row in await session.exec(select(JobRow).where(col(JobRow.job_id).in_(ids)))}
        found = []
        for job_id, device in placed.items():
            plan, row = plans.get(job_id), rows.get(job_id)
            if plan is None or row is None:
                continue
            device = device or plan.device
            most = _memory(device, plan, forecasts.get(job_id))["memory_beside_bytes"]
            # Until it has told something the figure is that of an earlier attempt.
            taken = (row.memory_bytes or 0) if row.attempt_elapsed_s else 0
            disk = max(0, plan.disk_bytes - self._folder_bytes(job_id, 1))
            found.append(Running(job_id, device, row.owner_uid, max(0, most - taken), disk))
        return found

    async def _frozen(self, session: AsyncSession, ids: Sequence[str]) -> dict[str, Frozen]:
        unknown = [job_id for job_id in ids if job_id not in self._plans]
        if unknown:
            if len(self._plans) > MOST_PLANS:
                self._plans.clear()
            rows = await session.exec(select(JobPlanRow).where(col(JobPlanRow.job_id).in_(unknown)))
            for row in rows:
                plan = msgspec.json.decode(row.plan_json, type=_Plan)
                self._plans[row.job_id] = Frozen(
                    device=msgspec.json.decode(row.trainer_plan_json, type=_TrainerPlan).device,
                    pinned="device" in msgspec.json.decode(row.overrides_json),
                    memory_bytes=plan.memory.total_bytes,
                    disk_bytes=plan.disk.total_bytes,
                )
        return {job_id: self._plans[job_id] for job_id in ids if job_id in self._plans}

    def _folder_bytes(self, job_id: str, attempt: int) -> int:
        """What the job's folder holds already; it has none before its first attempt."""
        try:
            return JobFolder(self._jobs_dir / job_id).size_bytes() if attempt else 0
        except OSError:
            # Files come and go while a trainer works there.
            return 0


async def _owners(session: AsyncSession, ids: Sequence[str]) -> dict[str, int]:
    found = await session.exec(select(JobRow.job_id, JobRow.owner_uid).where(col(JobRow.job_id).in_(ids)))
    return dict(found.all())


def _memory(device: str, plan: Frozen, forecast: Forecast | None) -> dict[str, Any]:
    """The sizes of a Candidate.

    With the machine to itself a job needs no more than it was planned with, or else it could be accepted and never
    start; what real steps have measured counts more than the plan.
    """
    on_cpu = device == CPU
    if forecast is None:
        alone = plan.memory_bytes if on_cpu else GPU_HOST_BYTES
        return _sizes(alone, alone, 0 if on_cpu else plan.memory_bytes)
    if not on_cpu:
        # The weights only pass through main memory: pages of a file, which the kernel takes back when it needs them.
        gpu = forecast.gpu_memory_bytes
        return _sizes(
            GPU_HOST_BYTES, GPU_HOST_BYTES, 0 if gpu is None else _at_most_planned(gpu.middle, plan, forecast)
        )
    return _sizes(_at_most_planned(forecast.memory_bytes.middle, plan, forecast), int(forecast.memory_bytes.high), 0)


def _at_most_planned(foretold: float, plan: Frozen, forecast: Forecast) -> int:
    measured = forecast.basis == TRIAL or not plan.memory_bytes
    return int(foretold) if measured else min(int(foretold), plan.memory_bytes)


def _sizes(memory: int, beside: int, gpu_memory: int) -> dict[str, Any]:
    return {"memory_bytes": memory, "memory_beside_bytes": max(memory, beside), "gpu_memory_bytes": gpu_memory}


async def _forecasts(session: AsyncSession, ids: Sequence[str]) -> dict[str, Forecast]:
    rows = await session.exec(select(ForecastRow).where(col(ForecastRow.job_id).in_(ids)))
    return {row.job_id: msgspec.json.decode(row.trial_json or row.formula_json, type=Forecast) for row in rows}


async def _missing_datasets(session: AsyncSession, ids: Sequence[str]) -> dict[str, str]:
    """By job, the name of its dataset where a restore took that off the list."""
    found = (
        select(JobRow.job_id, DatasetRow.name)
        .join(DatasetRow, col(DatasetRow.dataset_id) == col(JobRow.dataset_id))
        .where(col(JobRow.job_id).in_(ids), col(DatasetRow.removed), col(DatasetRow.contents_kept))
    )
    return {job_id: name for job_id, name in await session.exec(found)}
