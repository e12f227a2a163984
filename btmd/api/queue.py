"""The queue: who trains, who waits for what, and changing the order."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from sqlmodel import col, select
from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.idempotency import Key, stored_answer
from btmd.api.job_examples import STEERED_EXAMPLE, at_state
from btmd.api.jobs import found_job, steer, waits_for
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import JOB, Permission, limits_of, require_priority, role_of
from btmd.domain.access import ADMIN
from btmd.domain.event import Actor
from btmd.domain.job import JobState
from btmd.domain.queue import (
    LEAST_PRIORITY,
    MOST_PRIORITY,
    HoldJob,
    MoveJob,
    Place,
    ReleaseJob,
    SetPriority,
    overtaken,
)
from btmd.errors import InvalidValue, NotPermitted
from btmd.jobs.line import Check
from btmd.monitoring.texts import STATUS
from btmd.projections.job import JobRow, unfinished_jobs
from btmd.projections.queue import devices

router = Router(tags=("queue",))

ENTRY = {
    "job_id": "k3q7zv2m5a",
    "name": "",
    **at_state("queued"),
    "priority": 0,
    "held": False,
    "position": 1,
    "waits_for": "Waits for the training p5xw2jc7qd to end; it has the CPU.",
    "wait": "training",
    "device": "",
    "owner_uid": 1000,
    "model_id": "smollm2",
    "dataset_id": "facts",
}
RUNNING = {**ENTRY, **at_state("training"), "position": 0, "waits_for": "", "wait": "", "device": "cpu"}
EXAMPLE = {"running": [RUNNING], "waiting": [ENTRY]}


@operation(router, "GET", "/queue", Permission.READ, **described(EXAMPLE))
async def show_queue(parts: Parts) -> Response:
    """The trainings at work with their devices, and those that wait, in the order of their turns, with what for."""
    line = [one for one in await parts.line.places() if one.state not in ("paused", "needs_attention")]
    ids = [one.job_id for one in line]
    async with parts.store.session() as session:
        found = await session.exec(select(JobRow).where(col(JobRow.job_id).in_(ids)))
        rows = {row.job_id: row for row in found}
        where = await devices(session, ids)
    waiting = [one for one in line if one.waiting]
    running = [one for one in line if not one.waiting]

    def entry(one: Place, position: int) -> dict[str, Any]:
        row, wait = rows[one.job_id], parts.waits.get(one.job_id)
        return {
            "job_id": one.job_id,
            "name": row.name,
            "state": one.state,
            "status": STATUS[one.state],
            "priority": one.priority,
            "held": one.held,
            "position": position,
            "waits_for": waits_for(parts, one.job_id) if one.waiting else "",
            "wait": wait.kind if wait is not None and one.waiting else "",
            "device": "" if one.waiting else where.get(one.job_id, ""),
            "owner_uid": row.owner_uid,
            "model_id": row.model_id,
            "dataset_id": row.dataset_id,
        }

    return json_answer(
        {
            "running": [entry(one, 0) for one in running],
            "waiting": [entry(one, position) for position, one in enumerate(waiting, 1)],
        }
    )


CHANGED_EXAMPLE = {**STEERED_EXAMPLE, **at_state("queued"), "asked": "", "message": "It is held back."}
MOVED_EXAMPLE = {**CHANGED_EXAMPLE, "priority": 0, "message": "It comes first."}
_CHANGED = described(CHANGED_EXAMPLE, errors=(404, 409))


@operation(router, "POST", "/queue/{job_id}/hold", Permission.OWN, JOB, **_CHANGED)
async def hold(job_id: str, key: Key, parts: Parts, actor: Actor) -> Response:
    """Keep a waiting job from starting; it keeps its place."""
    return await steer(
        key, parts, actor, job_id, HoldJob, lambda state: "It is held back and keeps its place in the queue."
    )


@operation(router, "POST", "/queue/{job_id}/release", Permission.OWN, JOB, **_CHANGED)
async def release(job_id: str, key: Key, parts: Parts, actor: Actor) -> Response:
    """Let a held job start when it is its turn."""
    return await steer(key, parts, actor, job_id, ReleaseJob, lambda state: "It starts when it is its turn.")


class MoveRequest(msgspec.Struct):
    """Where to: before another waiting job (`before`: id, beginning of an id, or name), or to one end of the queue."""

    before: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    to: Literal["first", "last"] | None = None


@operation(router, "POST", "/queue/{job_id}/move", Permission.OWN, JOB, **described(MOVED_EXAMPLE, errors=(404, 409)))
async def move(job_id: str, body: MoveRequest, key: Key, parts: Parts, actor: Actor) -> Response:
    """Put a waiting job right before another one, or first or last; it takes the priority of where it stands then."""
    if (body.before is None) == (body.to is None):
        raise InvalidValue("Either `before` or `to` says where the job goes.", hint="Send one of the two.")
    row = await found_job(parts, job_id)

    def answer(state: JobState, message: str) -> dict[str, Any]:
        return {
            "job_id": row.job_id,
            "state": state.state,
            "status": STATUS[state.state],
            "asked": state.asked,
            "priority": state.priority,
            "message": message,
        }

    check = await _check_of(parts, actor)
    if body.before is not None:
        next_job = (await found_job(parts, body.before)).job_id
        told = f"It comes right before {next_job}."
        handled = await parts.line.move_before(
            row.job_id,
            next_job,
            actor=actor,
            idempotency=key,
            respond=lambda state, rows: stored_answer(answer(state, told)),
            check=check,
        )
    else:
        assert body.to is not None
        told = f"It comes {body.to}."
        handled = await parts.line.move_to(
            row.job_id,
            body.to,
            actor=actor,
            idempotency=key,
            respond=lambda state, rows: stored_answer(answer(state, told)),
            check=check,
        )
    if handled is None:
        state, _ = await parts.handler.state(f"job-{row.job_id}")
        return json_answer(answer(state, f"It comes {body.to} already."))
    return json_answer(answer(handled.state, told))


async def _check_of(parts: Parts, actor: Actor) -> Check | None:
    """Who is no admin overtakes with their own jobs only their own, and takes no higher priority than they may have."""
    if await role_of(actor, parts) == ADMIN:
        return None
    limit = (await limits_of(actor, parts))["priority"]
    async with parts.store.session() as session:
        own = {row.job_id for row in await unfinished_jobs(session) if row.owner_uid == actor.uid}

    def check(line: list[Place], command: MoveJob) -> None:
        others = [one for one in overtaken(line, command) if one not in own]
        if others:
            raise NotPermitted(
                f"Job {command.job_id} would overtake {', '.join(others)}, which belong to others.",
                hint="An admin can do this.",
            )
        if command.priority > limit:
            raise NotPermitted(
                f"There it would have the priority {command.priority}; the highest you may give is {limit:g}.",
                hint="An admin can do this.",
            )

    return check


class PriorityRequest(msgspec.Struct):
    """Which of the waiting jobs comes first: those with a higher number."""

    priority: Annotated[int, Meta(ge=LEAST_PRIORITY, le=MOST_PRIORITY)]


@operation(router, "PATCH", "/jobs/{job_id}", Permission.OWN, JOB, **_CHANGED)
async def set_priority(job_id: str, body: PriorityRequest, key: Key, parts: Parts, actor: Actor) -> Response:
    """Change a job's priority; among those of the same priority the order of submission counts."""
    await require_priority(body.priority, actor, parts)

    def command(found: str) -> SetPriority:
        return SetPriority(found, body.priority)

    return await steer(key, parts, actor, job_id, command, lambda state: f"Its priority is {state.priority} now.")
