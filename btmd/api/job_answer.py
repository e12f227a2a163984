"""Answering what a job asks."""

import msgspec
from starlette.responses import Response

from btmd.api.answers import described
from btmd.api.idempotency import Key
from btmd.api.job_examples import STEERED_EXAMPLE, at_state
from btmd.api.jobs import steer
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import JOB, Permission
from btmd.domain.event import Actor
from btmd.domain.job import AnswerJob
from btmd.domain.job_state import WAITS_ON, JobState

router = Router(prefix="/jobs", tags=("jobs",))

EXAMPLE = {**STEERED_EXAMPLE, **at_state("recovering"), "asked": "", "message": "It goes on as you permitted."}


class Answer(msgspec.Struct):
    yes: bool
    """Whether the change that was asked about is permitted."""


@operation(router, "POST", "/{job_id}/answer", Permission.OWN, JOB, **described(EXAMPLE, errors=(404, 409)))
async def answer(job_id: str, body: Answer, key: Key, parts: Parts, actor: Actor) -> Response:
    """Permit what a job asks, or not: with no it ends and keeps its best checkpoint."""
    return await steer(
        key,
        parts,
        actor,
        job_id,
        lambda job: AnswerJob(job, body.yes),
        lambda state: follows(state, yes=body.yes),
    )


def follows(state: JobState, *, yes: bool) -> str:
    """What comes of an answer that was just taken."""
    if yes and state.not_before_us == WAITS_ON:
        return "It waits on, and goes on by itself once there is what it waits for."
    if yes:
        return "It goes on as you permitted."
    if not state.ended:
        return "It ends and keeps the best state so far."
    if state.best_step is None:
        return "It ends; there is no checkpoint to keep."
    return f"It ends, and its checkpoint is kept: `btmctl jobs resume {state.job_id}` goes on from there."
