"""A training once more, as it was."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.idempotency import Key, earlier_answer, stored_answer
from btmd.api.job_examples import at_state
from btmd.api.jobs import found_job
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import DATASET, JOB, Permission, require_priority, require_use
from btmd.api.shapes import either
from btmd.api.user_room import require_few, require_room
from btmd.domain.event import Actor
from btmd.domain.job import JobState
from btmd.jobs.rerunning import Rerunning
from btmd.jobs.uses import require_use_allowed
from btmd.monitoring.texts import STATUS

router = Router(prefix="/jobs", tags=("jobs",))

_REPEATED = {"rerun_of": "k3q7zv2m5a", "remarks": ["The library torch was another version then: 2.10.0."]}
EXAMPLE = either(
    {"job_id": "p4w8xk2n7c", **at_state("queued"), "message": "The training is repeated.", **_REPEATED},
    {"dry_run": True, "message": "The training can be repeated as it was; nothing was started.", **_REPEATED},
)


class RerunRequest(msgspec.Struct):
    """What may be new about it: nothing that decides how it comes out."""

    name: Annotated[str, Meta(max_length=200)] = ""
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    dry_run: bool = False


@operation(router, "POST", "/{job_id}/rerun", Permission.TRAIN, JOB, **described(EXAMPLE, errors=(404, 409)))
async def rerun(job_id: str, key: Key, parts: Parts, actor: Actor, body: RerunRequest | None = None) -> Response:
    """Train once more with the same plan, seeds, dataset version and model; 409 `not_repeatable` says what changed.

    The result of the new job says whether it came out the same. `dry_run` only says whether it can be repeated.
    """
    asked = body or RerunRequest()
    row = await found_job(parts, job_id)
    await require_use(DATASET, row.dataset_id, actor, parts)
    await require_use_allowed(parts.store, row)
    await require_priority(asked.priority, actor, parts)
    rerunning = Rerunning(
        store=parts.store,
        submission=parts.submission,
        contents=parts.contents,
        jobs_dir=parts.config.jobs_dir,
        state_dir=parts.config.state_dir,
    )
    repetition = await rerunning.prepare(row, actor=actor, name=asked.name, priority=asked.priority)
    await require_few(actor, parts)
    if repetition.forecast is not None:
        await require_room(int(repetition.forecast.disk_bytes.middle), actor, parts)
    remarks = list(repetition.remarks)
    if asked.dry_run:
        said = f"The training {row.job_id} can be repeated as it was; nothing was started."
        return json_answer({"rerun_of": row.job_id, "dry_run": True, "message": said, "remarks": remarks})

    def answer(state: JobState) -> dict[str, Any]:
        return {
            "job_id": state.job_id,
            "rerun_of": row.job_id,
            "state": state.state,
            "status": STATUS[state.state],
            "message": f"The training {row.job_id} is repeated as {state.job_id}; its result will say whether it came "
            f"out the same. `btmctl jobs watch {state.job_id}` shows how it goes.",
            "remarks": remarks,
        }

    handled = await rerunning.start(
        repetition,
        actor=actor,
        idempotency=key,
        respond=lambda state, rows: stored_answer(answer(state)),
    )
    # The same request was at work already: its job is the one, and none was made now.
    earlier = await earlier_answer(parts, key) if handled.repeated else None
    return earlier or json_answer(answer(handled.state))
