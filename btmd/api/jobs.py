"""Jobs: the list, one in full, its plan, logs, ticks and answers, and steering it."""

from collections.abc import Callable
from typing import Annotated, Any

import anyio
import msgspec
from msgspec import Meta
from starlette.responses import Response

from btmd.accounts import find_account
from btmd.api.answers import described, json_answer
from btmd.api.idempotency import Key, stored_answer
from btmd.api.job_examples import (
    ANSWERS_EXAMPLE,
    JOB_EXAMPLE,
    JOB_IN_FULL_EXAMPLE,
    STEERED_EXAMPLE,
    TICK_EXAMPLE,
)
from btmd.api.job_warnings import warnings_json
from btmd.api.operation import Router, operation
from btmd.api.paging import PAGE, Before, Limit
from btmd.api.parts import Parts
from btmd.api.permission import JOB, Permission
from btmd.api.times import SINCE, optional_rfc3339, rfc3339
from btmd.api.user_room import require_few
from btmd.domain.event import Actor
from btmd.domain.job import STATES, CancelJob, JobCommand, JobState, PauseJob, ResumeJob, StopJob
from btmd.domain.job_events import TrainingProgressed
from btmd.errors import InvalidValue, NotFound
from btmd.inspection.requests import AnswersRequest
from btmd.job_folder import JobFolder
from btmd.jobs.account import account_of
from btmd.jobs.report import read_report, result_folder
from btmd.jobs.submission import require_training_allowed
from btmd.monitoring.texts import STATUS
from btmd.naming import find_job
from btmd.projections import job as view
from btmd.projections.forecast import forecast_of
from btmd.projections.job import JobRow

router = Router(prefix="/jobs", tags=("jobs",))

MOST_LOG_BYTES = 256 * 1024
MOST_TICKS = 10_000


def job_json(row: JobRow, parts: Parts) -> dict[str, Any]:
    """A job as it stands in a list."""
    return {
        "job_id": row.job_id,
        "number": row.submitted_seq,
        "name": row.name,
        "state": row.state,
        "status": STATUS[row.state],
        "asked": row.asked,
        "waits_for": waits_for(parts, row.job_id),
        "owner_uid": row.owner_uid,
        "model_id": row.model_id,
        "dataset_id": row.dataset_id,
        "dataset_version": row.dataset_version,
        "preset": row.preset,
        "priority": row.priority,
        "custom_description": row.custom_description,
        "created_at": rfc3339(row.submitted_us),
        "started_at": optional_rfc3339(row.started_us),
        "ended_at": optional_rfc3339(row.ended_us),
        "updated_at": rfc3339(row.updated_us),
        "attempt": row.attempt,
        "step": row.step,
        "total_steps": row.total_steps,
        "epoch": row.epoch,
        "total_epochs": row.total_epochs,
        "loss": row.loss,
        "best_loss": row.best_loss,
        "learning_rate": row.learning_rate,
        "tokens_per_s": row.tokens_per_s,
        "memory_bytes": row.memory_bytes,
        "held_out_before": row.held_out_before,
        "held_out_loss": row.held_out_loss,
        "held_out_best": row.held_out_best,
        "held_out_after": row.held_out_after,
        "best_step": row.best_step,
        "ended_by": row.ended_by,
        "reason": row.reason,
        "text": row.text,
        "hint": row.hint,
        "question": row.question,
        "answer_by": optional_rfc3339(row.deadline_us),
    }


def waits_for(parts: Parts, job_id: str) -> str:
    """What a job waits for, in a sentence; empty for one that does not."""
    wait = parts.waits.get(job_id)
    return "" if wait is None else wait.text


async def found_job(parts: Parts, job_id: str) -> JobRow:
    async with parts.store.session() as session:
        return await find_job(session, job_id)


@operation(router, "GET", "", Permission.READ, **described([JOB_EXAMPLE], text="newest first", errors=(404,)))
async def list_jobs(
    parts: Parts,
    state: str | None = None,
    limit: Limit = PAGE,
    before: Before = None,
    user: Annotated[str, Meta(min_length=1, max_length=200)] | None = None,
    since_us: Annotated[int, SINCE] | None = None,
) -> Response:
    """Jobs; those in one `state`, of one `user` (name or uid), submitted since a moment; older ones with `before`."""
    if state is not None and state not in STATES:
        raise InvalidValue(f"There is no state {state!r}.", hint=f"Choose one of: {', '.join(STATES)}.")
    owner = None if user is None else await _uid_of(user)
    async with parts.store.session() as session:
        rows = await view.jobs(session, state=state, owner_uid=owner, since_us=since_us, limit=limit, before=before)
    return json_answer([job_json(row, parts) for row in rows])


async def _uid_of(user: str) -> int:
    """Raises AccountNotFound; the number of one who has no name any more is taken as it is."""
    if user.isascii() and user.isdigit() and len(user) <= 10:
        return int(user)
    _, uid = await anyio.to_thread.run_sync(find_account, user.removeprefix("@"))
    return uid


@operation(router, "GET", "/{job_id}", Permission.READ, **described(JOB_IN_FULL_EXAMPLE, errors=(404,)))
async def get_job(job_id: str, parts: Parts) -> Response:
    """One job in full: plan with reasons, attempts, checkpoints, measurements, notices."""
    row = await found_job(parts, job_id)
    report = await read_report(parts.store, row)
    async with parts.store.session() as session:
        checkpoints = await view.checkpoints(session, row.job_id)
        foretold = await forecast_of(session, row.job_id)
    folder = result_folder(row, parts.config.jobs_dir)
    account = account_of(row, report.trainer_plan, report.attempts, report.recoveries)
    body = {
        **job_json(row, parts),
        "stage_text": row.stage_text,
        "folder": str(parts.config.jobs_dir / row.job_id),
        "model_path": None if folder is None else str(folder),
        "plan": report.plan,
        **(foretold.as_values() if foretold is not None else {}),
        "shape": row.shape,
        "outcome": row.outcome,
        "attempts": [
            {
                "attempt": one.attempt,
                "why": one.why,
                "started_at": rfc3339(one.started_us),
                "ended_at": optional_rfc3339(one.ended_us),
                "ended": one.ended,
                "text": one.text,
            }
            for one in report.attempts
        ],
        "checkpoints": [
            {
                "name": one.name,
                "step": one.step,
                "attempt": one.attempt,
                "size_bytes": one.size_bytes,
                "held_out_loss": one.held_out_loss,
                "best": one.best,
                "saved_at": rfc3339(one.saved_us),
            }
            for one in checkpoints
        ],
        "evaluations": [
            {
                "step": one.step,
                "loss": one.loss,
                "when": one.moment,
                "attempt": one.attempt,
                "tokens": one.tokens,
                "margin": one.margin,
                "accuracy": one.accuracy,
            }
            for one in report.evaluations
        ],
        "account": account.happened,
        "changed": account.changed,
        "recoveries": [
            {
                "attempt": one.attempt,
                "kind": one.kind,
                "action": one.action,
                "text": one.text,
                "at": rfc3339(one.at_us),
                **one.details,
            }
            for one in report.recoveries
        ],
        "notices": [
            {"code": one.code, "text": one.text, "attempt": one.attempt, "at": rfc3339(one.at_us)}
            for one in report.notices
        ],
        "warnings": await warnings_json(parts, row),
    }
    return json_answer(body)


async def steer(
    key: Key,
    parts: Parts,
    actor: Actor,
    job_id: str,
    command: Callable[[str], JobCommand],
    message: Callable[[JobState], str],
) -> Response:
    """Ask something of a job; the answer says what happens now."""
    row = await found_job(parts, job_id)

    def answer(state: JobState) -> dict[str, Any]:
        return {
            "job_id": row.job_id,
            "state": state.state,
            "status": STATUS[state.state],
            "asked": state.asked,
            "message": message(state),
        }

    handled = await parts.handler.handle(
        command(row.job_id),
        actor=actor,
        idempotency=key,
        respond=lambda state, rows: stored_answer(answer(state)),
    )
    return json_answer(answer(handled.state))


_STEERED = described(STEERED_EXAMPLE, errors=(404, 409))


@operation(router, "POST", "/{job_id}/pause", Permission.OWN, JOB, **_STEERED)
async def pause(job_id: str, key: Key, parts: Parts, actor: Actor) -> Response:
    """Save a checkpoint and exit, so that the device is free; `resume` goes on from there."""
    return await steer(
        key,
        parts,
        actor,
        job_id,
        PauseJob,
        lambda state: (
            "It is paused." if state.state == "paused" else "It saves a checkpoint and then pauses; nothing is lost."
        ),
    )


@operation(router, "POST", "/{job_id}/resume", Permission.OWN, JOB, **_STEERED)
async def resume(job_id: str, key: Key, parts: Parts, actor: Actor) -> Response:
    """Take a paused or failed job up again, from its last checkpoint; only while its data may be used."""
    row = await found_job(parts, job_id)
    if row.state == "failed":
        await require_few(actor, parts)
    if row.state in ("paused", "failed"):
        await require_training_allowed(parts.handler, row.dataset_id)
    return await steer(key, parts, actor, job_id, ResumeJob, lambda state: "It goes on as soon as it is its turn.")


@operation(router, "POST", "/{job_id}/stop", Permission.OWN, JOB, **_STEERED)
async def stop(job_id: str, key: Key, parts: Parts, actor: Actor) -> Response:
    """End the training now and keep the best state as its result."""
    return await steer(key, parts, actor, job_id, StopJob, lambda state: "It ends and keeps the best state so far.")


@operation(router, "POST", "/{job_id}/cancel", Permission.OWN, JOB, **_STEERED)
async def cancel_job(job_id: str, key: Key, parts: Parts, actor: Actor) -> Response:
    """End the training without a result."""
    return await cancel(key, parts, actor, job_id)


async def cancel(key: Key, parts: Parts, actor: Actor, job_id: str) -> Response:
    return await steer(
        key,
        parts,
        actor,
        job_id,
        CancelJob,
        lambda state: (
            "Training was cancelled." if state.ended else "Training is being cancelled; it ends within ten seconds."
        ),
    )


@operation(
    router,
    "GET",
    "/{job_id}/logs",
    Permission.SEE,
    JOB,
    responses={200: {"description": "what the trainer wrote", "content": {"text/plain": {}}}},
    response_model=None,
)
async def logs(
    job_id: str,
    parts: Parts,
    attempt: Annotated[int, Meta(ge=1, le=9999, description="the newest when left out")] | None = None,
    tail_bytes: Annotated[int, Meta(ge=1, le=MOST_LOG_BYTES, description="of the end")] = MOST_LOG_BYTES,
) -> Response:
    """The end of what the trainer process wrote, of the newest attempt or of one of them."""
    row = await found_job(parts, job_id)
    path = anyio.Path(JobFolder(parts.config.jobs_dir / row.job_id).log_path(attempt or max(1, row.attempt)))
    try:
        size = (await path.stat()).st_size
        async with await path.open("rb") as file:
            await file.seek(max(0, size - tail_bytes))
            text = await file.read(tail_bytes)
    except FileNotFoundError:
        if attempt is not None and attempt > row.attempt:
            raise NotFound(f"The job {row.job_id} has no attempt {attempt}.") from None
        text = b""
    return Response(text, media_type="text/plain; charset=utf-8")


@operation(router, "GET", "/{job_id}/answers", Permission.SEE, JOB, **described(ANSWERS_EXAMPLE, errors=(404,)))
async def answers(job_id: str, parts: Parts) -> Response:
    """Held-out prompts answered before and after the training."""
    row = await found_job(parts, job_id)
    path = JobFolder(parts.config.jobs_dir / row.job_id).answers_path
    if not await anyio.Path(path).is_file():
        raise NotFound(
            f"The job {row.job_id} has no sample answers (yet).", hint="They are written when the training ends."
        )
    keys = parts.config.answers_keys_dir / row.dataset_id
    found = await parts.inspector.answers(AnswersRequest(answers=str(path), keys=str(keys)))
    return Response(found.text, media_type="application/json")


@operation(router, "GET", "/{job_id}/ticks", Permission.READ, **described([TICK_EXAMPLE], errors=(404,)))
async def ticks(
    job_id: str,
    parts: Parts,
    after: Annotated[int, Meta(ge=0, le=2**62)] = 0,
    limit: Annotated[int, Meta(ge=1, le=MOST_TICKS)] = MOST_TICKS,
) -> Response:
    """Progress ticks for plots, oldest first; `after` is the number (`tick`) of the last one already seen."""
    row = await found_job(parts, job_id)
    found = await parts.store.read_stream(f"ticks-{row.job_id}", after, limit=limit)
    listed = []
    for recorded in found:
        happened = recorded.event
        if isinstance(happened, TrainingProgressed):
            values = msgspec.to_builtins(happened)
            listed.append({"tick": recorded.version, "at": rfc3339(recorded.recorded_at_us), **values})
    return json_answer(listed)
