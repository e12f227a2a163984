"""What is shown of training jobs: state, progress, measurements, checkpoints, attempts, notices."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlmodel import Field, SQLModel, col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from btmd.domain.job import ENDED, STAGES
from btmd.projections.dataset import ErasureRow


class JobRow(SQLModel, table=True):
    """One job as it stands. Times are microseconds UTC, losses nats per learned token."""

    __tablename__ = "view_jobs"

    job_id: str = Field(primary_key=True)
    name: str = Field(index=True)
    owner_uid: int
    model_id: str
    dataset_id: str
    dataset_version: str
    preset: str
    custom_description: str
    priority: int
    state: str = Field(index=True)
    asked: str = ""
    """What was asked of the running attempt and is not done yet: pause, stop, cancel or consent."""
    submitted_us: int
    submitted_seq: int = Field(index=True)
    started_us: int | None = None
    ended_us: int | None = None
    updated_us: int
    attempt: int = 0
    attempt_started_us: int | None = None
    stage_text: str = ""
    step: int = 0
    total_steps: int = 0
    epoch: int = 0
    total_epochs: int = 0
    resumed_from_step: int = 0
    """Step at which this attempt began, for its own speed."""
    attempt_elapsed_s: float = 0.0
    earlier_elapsed_s: float = 0.0
    """Training time of the attempts before this one."""
    loss: float | None = None
    best_loss: float | None = None
    learning_rate: float | None = None
    tokens_per_s: float | None = None
    memory_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    gpu_utilization: float | None = None
    held_out_before: float | None = None
    held_out_loss: float | None = None
    held_out_best: float | None = None
    held_out_after: float | None = None
    best_step: int | None = None
    ticks: int = 0
    """Version of the tick stream: how many ticks were recorded."""
    shape_json: str = "{}"
    outcome_json: str = "{}"
    ended_by: str = ""
    reason: str = ""
    text: str = ""
    hint: str = ""
    undecided: bool = False
    """Whether it is still open what is done about its last failure."""
    not_before_us: int = 0
    """Until when it waits before it is tried again; 0: it does not wait."""
    question: str = ""
    """What a person is asked; empty while nothing is."""
    question_action: str = ""
    deadline_us: int | None = None
    """By when it has to be answered."""
    changes_json: str = "{}"
    """What recoveries have changed of the trainer plan."""

    @property
    def changes(self) -> dict[str, Any]:
        return msgspec.json.decode(self.changes_json)  # type: ignore[no-any-return]

    @property
    def shape(self) -> dict[str, Any]:
        return msgspec.json.decode(self.shape_json)  # type: ignore[no-any-return]

    @property
    def outcome(self) -> dict[str, Any]:
        return msgspec.json.decode(self.outcome_json)  # type: ignore[no-any-return]


class JobPlanRow(SQLModel, table=True):
    """The frozen plan: apart from the job's row, which is rewritten with every tick."""

    __tablename__ = "view_job_plans"

    job_id: str = Field(primary_key=True)
    plan_json: str
    trainer_plan_json: str
    overrides_json: str
    allow_json: str


class AttemptRow(SQLModel, table=True):
    """One trainer process of a job; ``ended`` is empty while it runs."""

    __tablename__ = "view_job_attempts"

    job_id: str = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    why: str
    started_us: int
    ended_us: int | None = None
    ended: str = ""
    text: str = ""
    newest_step: int = 0
    """Of the checkpoints that were known when it was started."""
    resumed_from_step: int | None = None
    """Where it began; None until that is known."""


class RecoveryRow(SQLModel, table=True):
    """A failure, what was done about it, a question or its answer, in the order in which they came."""

    __tablename__ = "view_job_recoveries"

    job_id: str = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    attempt: int
    kind: str
    """failed, planned, asked, answered or unanswered."""
    action: str
    """The reason of a failure, the action planned or asked about, the answer."""
    text: str
    details_json: str = "{}"
    """The evidence of a failure; the changes of the plan."""
    at_us: int

    @property
    def details(self) -> dict[str, Any]:
        return msgspec.json.decode(self.details_json)  # type: ignore[no-any-return]


class CheckpointRow(SQLModel, table=True):
    """A whole checkpoint that stands in the job's folder."""

    __tablename__ = "view_job_checkpoints"

    job_id: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    attempt: int
    step: int
    size_bytes: int
    held_out_loss: float | None
    best: bool
    saved_us: int


class EvaluationRow(SQLModel, table=True):
    """One measurement of the held-out loss."""

    __tablename__ = "view_job_evaluations"

    job_id: str = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    number: int = Field(primary_key=True)
    step: int
    loss: float
    tokens: int
    moment: str
    """before, during or after."""
    seconds: float
    margin: float | None = None
    accuracy: float | None = None


class NoticeRow(SQLModel, table=True):
    """Something the person should know."""

    __tablename__ = "view_job_notices"

    job_id: str = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    attempt: int
    code: str
    text: str
    at_us: int


JOB_TABLES: tuple[type[SQLModel], ...] = (
    JobRow,
    JobPlanRow,
    AttemptRow,
    RecoveryRow,
    CheckpointRow,
    EvaluationRow,
    NoticeRow,
)


async def jobs(
    session: AsyncSession,
    *,
    state: str | None = None,
    owner_uid: int | None = None,
    since_us: int | None = None,
    limit: int = 100,
    before: int | None = None,
) -> Sequence[JobRow]:
    """Jobs, newest first; ``since_us``: submitted then or later; ``before``: in an event before that one."""
    found = select(JobRow).order_by(col(JobRow.submitted_seq).desc()).limit(limit)
    if state is not None:
        found = found.where(JobRow.state == state)
    if owner_uid is not None:
        found = found.where(col(JobRow.owner_uid) == owner_uid)
    if since_us is not None:
        found = found.where(col(JobRow.submitted_us) >= since_us)
    if before is not None:
        found = found.where(col(JobRow.submitted_seq) < before)
    return (await session.exec(found)).all()


async def job(session: AsyncSession, job_id: str) -> JobRow | None:
    return await session.get(JobRow, job_id)


async def newest_job(session: AsyncSession, *, owner_uid: int | None = None) -> JobRow | None:
    """The job that was submitted last, of all or of one owner's."""
    found = select(JobRow).order_by(col(JobRow.submitted_seq).desc()).limit(1)
    if owner_uid is not None:
        found = found.where(col(JobRow.owner_uid) == owner_uid)
    return (await session.exec(found)).first()


async def jobs_named(session: AsyncSession, text: str) -> Sequence[JobRow]:
    """Jobs whose id begins with ``text``, or whose name is ``text``; newest first."""
    found = (
        select(JobRow)
        .where((col(JobRow.name) == text) | col(JobRow.job_id).startswith(text, autoescape=True))
        .order_by(col(JobRow.submitted_seq).desc())
    )
    return (await session.exec(found)).all()


async def job_plan(session: AsyncSession, job_id: str) -> JobPlanRow | None:
    return await session.get(JobPlanRow, job_id)


async def running_jobs(session: AsyncSession) -> Sequence[JobRow]:
    """Jobs that a trainer process belongs to."""
    return (await session.exec(select(JobRow).where(col(JobRow.state).in_(STAGES)))).all()


async def unfinished_jobs(session: AsyncSession) -> Sequence[JobRow]:
    """Jobs that have not ended, paused ones included."""
    return (await session.exec(select(JobRow).where(col(JobRow.state).not_in(ENDED)))).all()


async def jobs_on_dataset(session: AsyncSession, dataset_id: str) -> Sequence[JobRow]:
    """All jobs that were given this dataset, newest first."""
    found = select(JobRow).where(JobRow.dataset_id == dataset_id).order_by(col(JobRow.submitted_seq).desc())
    return (await session.exec(found)).all()


async def count_active(session: AsyncSession) -> int:
    """Jobs that work or wait for their turn (not paused, not ended)."""
    active = (*STAGES, "recovering", "queued")
    found = await session.exec(select(func.count()).select_from(JobRow).where(col(JobRow.state).in_(active)))
    return int(found.one())


async def attempts(session: AsyncSession, job_id: str) -> Sequence[AttemptRow]:
    found = select(AttemptRow).where(AttemptRow.job_id == job_id).order_by(col(AttemptRow.attempt))
    return (await session.exec(found)).all()


async def checkpoints(session: AsyncSession, job_id: str) -> Sequence[CheckpointRow]:
    found = select(CheckpointRow).where(CheckpointRow.job_id == job_id).order_by(col(CheckpointRow.step))
    return (await session.exec(found)).all()


async def evaluations(session: AsyncSession, job_id: str) -> Sequence[EvaluationRow]:
    found = (
        select(EvaluationRow)
        .where(EvaluationRow.job_id == job_id)
        .order_by(col(EvaluationRow.attempt), col(EvaluationRow.number))
    )
    return (await session.exec(found)).all()


async def recoveries(session: AsyncSession, job_id: str) -> Sequence[RecoveryRow]:
    found = select(RecoveryRow).where(RecoveryRow.job_id == job_id).order_by(col(RecoveryRow.seq))
    return (await session.exec(found)).all()


async def troubled_jobs(session: AsyncSession) -> Sequence[JobRow]:
    """Jobs after a failure: undecided ones, those that wait before they are tried again, and those with a question."""
    waiting = (col(JobRow.state) == "recovering") & (col(JobRow.undecided) | (col(JobRow.not_before_us) > 0))
    asking = col(JobRow.state) == "needs_attention"
    return (await session.exec(select(JobRow).where(waiting | asking).order_by(col(JobRow.submitted_seq)))).all()


async def notices(session: AsyncSession, job_id: str) -> Sequence[NoticeRow]:
    found = select(NoticeRow).where(NoticeRow.job_id == job_id).order_by(col(NoticeRow.seq))
    return (await session.exec(found)).all()


async def unfinished_contents(session: AsyncSession) -> set[str]:
    """The SHA-256 of the rows of every job that may still train: those not ended, and failed ones, to be resumed.

    Not of jobs whose dataset was erased since they were submitted.
    """
    erased = select(ErasureRow.erased_seq).where(
        col(ErasureRow.dataset_id) == col(JobRow.dataset_id), col(ErasureRow.erased_seq) > col(JobRow.submitted_seq)
    )
    found = (
        select(JobPlanRow.trainer_plan_json)
        .join(JobRow, col(JobRow.job_id) == col(JobPlanRow.job_id))
        .where(col(JobRow.state).not_in(("completed", "cancelled")))
        .where(~erased.exists())
    )
    return {str(msgspec.json.decode(text)["rows_sha256"]) for text in (await session.exec(found)).all()}
