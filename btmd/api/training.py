"""The operations of the fixed contract that start, show and end a training; and plans."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.idempotency import Key, earlier_answer, stored_answer
from btmd.api.job_examples import (
    FORECAST_EXAMPLE,
    FORECAST_TEXTS_EXAMPLE,
    PLAN_EXAMPLE,
    STEERED_EXAMPLE,
    VERDICT_EXAMPLE,
    at_state,
)
from btmd.api.jobs import cancel, found_job, waits_for
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import DATASET, JOB, MODEL, Named, Permission, require_own, require_priority, require_use
from btmd.api.shapes import either, typed
from btmd.api.times import rfc3339
from btmd.api.user_room import require_few, require_room
from btmd.domain.event import Actor
from btmd.domain.forecast import texts
from btmd.domain.job import JobState
from btmd.jobs.job_progress import job_progress
from btmd.jobs.outcome import job_result
from btmd.jobs.submission import Prepared, Submission, Wish
from btmd.monitoring import Progress, Result
from btmd.monitoring.texts import STATUS
from btmd.registry.previews import planned_shape
from btmd.store.event_log import Recorded

router = Router(tags=("training",))


class StartRequest(msgspec.Struct):
    """What to train on what. `preset_name` is a key or a display name, in any case.

    `overrides` are hyperparameters by name, `allow` the changes that a refusal offered. `consent` allows the use of the
    data for its `purpose`, `accept_personal_data` that it holds personal data. `from_job` begins with that job's
    adapter. Of those that wait, the higher `priority` comes first. `dry_run` only says what would run.
    """

    model_id: Annotated[str, Meta(min_length=1, max_length=4096)]
    dataset_id: Annotated[str, Meta(min_length=1, max_length=4096)]
    preset_name: Annotated[str, Meta(max_length=200)] | None = None
    custom_description: Annotated[str, Meta(max_length=10_000)] | None = None
    overrides: Annotated[dict[str, Any], Meta(max_length=100)] | None = None
    allow: Annotated[list[str], Meta(max_length=20)] | None = None
    dry_run: bool = False
    consent: bool = False
    purpose: Annotated[str, Meta(max_length=1000)] = ""
    accept_personal_data: bool = False
    from_job: Annotated[str, Meta(max_length=200)] | None = None
    name: Annotated[str, Meta(max_length=200)] | None = None
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0

    def wish(self) -> Wish:
        return Wish(
            model=self.model_id,
            dataset=self.dataset_id,
            preset=self.preset_name or None,
            overrides=self.overrides or {},
            allow=frozenset(self.allow or ()),
            consent=self.consent,
            purpose=self.purpose,
            accept_personal_data=self.accept_personal_data,
            from_job=self.from_job or "",
            name=self.name or "",
            custom_description=self.custom_description or "",
            priority=self.priority,
        )


START_EXAMPLE = either(
    {
        "job_id": "k3q7zv2m5a",
        "model_id": "smollm2",
        **at_state("queued"),
        "created_at": "2026-11-22T14:00:00.000000Z",
        "message": "The training was accepted. ...",
        "forecast": FORECAST_EXAMPLE,
        "forecast_texts": FORECAST_TEXTS_EXAMPLE,
    },
    {"dry_run": True, "message": "Nothing was started.", "plan": PLAN_EXAMPLE},
)


def _unheard(share: float, text: str) -> None:
    return


@operation(
    router,
    "POST",
    "/start",
    Permission.TRAIN,
    MODEL,
    DATASET,
    Named("job", "from_job"),
    **described(START_EXAMPLE, errors=(400, 404, 409)),
)
async def start(body: StartRequest, key: Key, parts: Parts, actor: Actor) -> Response:
    """Start a training, or with `dry_run` only say what would run and why."""
    submission: Submission = parts.submission
    await parts.model_adding.take_from_cache(body.model_id, actor=actor, on_progress=_unheard)
    await require_priority(body.priority, actor, parts)
    prepared = await submission.prepare(body.wish(), _unheard)
    # Somebody may have added a model of that name since it was looked whether they may use it.
    await require_use(MODEL, prepared.model.model_id, actor, parts)
    if prepared.grants_consent:
        # Whose data it is, they allow its use.
        await require_own(DATASET, prepared.dataset.dataset_id, actor, parts)
    await require_few(actor, parts)
    await require_room(int(prepared.foretold.forecast.disk_bytes.middle), actor, parts)
    if body.dry_run:
        values = await _told(parts, prepared)
        return json_answer({"dry_run": True, "message": "Nothing was started.", "plan": values})

    foretold = texts(prepared.foretold.forecast)

    def answer(state: JobState, rows: list[Recorded]) -> dict[str, Any]:
        return {
            "job_id": state.job_id,
            "model_id": prepared.model.model_id,
            "status": STATUS[state.state],
            "created_at": rfc3339(rows[0].recorded_at_us),
            "message": f"The training was accepted. It should take {foretold['time']} and {foretold['memory']} of "
            f"memory. `btmctl jobs watch {state.job_id}` shows how it goes.",
            "state": state.state,
            "forecast": msgspec.to_builtins(prepared.foretold.forecast),
            "forecast_texts": foretold,
        }

    handled = await submission.submit(
        prepared,
        actor=actor,
        idempotency=key,
        respond=lambda state, rows: stored_answer(answer(state, rows)),
    )
    # The same request was at work already: its job is the one, and none was made now.
    earlier = await earlier_answer(parts, key) if handled.repeated else None
    return earlier or json_answer(answer(handled.state, handled.events))


@operation(
    router,
    "POST",
    "/plans",
    Permission.TRAIN,
    MODEL,
    DATASET,
    Named("job", "from_job"),
    **described(PLAN_EXAMPLE, errors=(400, 404, 409)),
)
async def plan(body: StartRequest, parts: Parts, actor: Actor) -> Response:
    """What would run and why; nothing is started.

    Nothing is recorded either, except that an id of the local Hugging Face cache is registered, as at a start.
    """
    await parts.model_adding.take_from_cache(body.model_id, actor=actor, on_progress=_unheard)
    prepared = await parts.submission.prepare(body.wish(), _unheard)
    await require_use(MODEL, prepared.model.model_id, actor, parts)
    return json_answer(await _told(parts, prepared))


async def _told(parts: Parts, prepared: Prepared) -> dict[str, Any]:
    """The plan, with the personal data that a start would ask about.

    A plan multiplies rows; the split keeps conversations and near-duplicates together. Where it was made before,
    for a preview, its counts are told, and `rows_counted` is true.
    """
    plan = prepared.plan
    values = prepared.as_values()
    arranged = parts.dataset_previews.known_arrangement(prepared.version, prepared.model, planned_shape(plan))
    if arranged is not None:
        steps = arranged.steps_an_epoch * plan.integer("num_epochs")
        values |= {
            "total_steps": min(steps, plan.integer("max_steps") or steps),
            "train_rows": arranged.train_rows,
            "held_out_rows": arranged.held_out_rows,
            "left_out_rows": sum(arranged.left_out.values()),
        }
    personal_data = await parts.submission.personal_data(prepared, _unheard)
    return {**values, "rows_counted": arranged is not None, "personal_data": msgspec.to_builtins(personal_data)}


_PROGRESS = {
    "job_id": "k3q7zv2m5a",
    "model_name": "smollm2",
    "state": "training",
    "status": "Training in progress",
    "progress_percentage": 42.0,
    "current_step": 42,
    "total_steps": 100,
    "current_epoch": 0,
    "total_epochs": 1,
    "elapsed_time": "3m 20s",
    "estimated_remaining": "4m 10s",
    "current_loss": 1.9,
    "best_loss": 1.8,
    "learning_rate": 0.0003,
    "memory_usage_gb": 1.2,
    "gpu_utilization": None,
    "status_message": "It is learning.",
    "warnings": [],
    "recommendations": [],
    "held_out_loss": 1.7,
    "held_out_best": 1.7,
    "tokens_per_second": 402.0,
    "elapsed_s": 200.4,
    "remaining_s": 250.0,
    "remaining_low_s": 210.0,
    "remaining_high_s": 300.0,
    "remaining_range": "3m 30s to 5m 0s",
    "finishes": "at about 14:35",
    "process_memory_gb": 1.2,
    "gpu_memory_gb": None,
    "disk_free_gb": 70.5,
    "disk_used_gb": 0.1,
}
PROGRESS_EXAMPLE = {**typed(Progress, _PROGRESS), **at_state("training")}


@operation(router, "GET", "/progress/{job_id}", Permission.READ, **described(PROGRESS_EXAMPLE, errors=(404,)))
async def progress(job_id: str, parts: Parts) -> Response:
    """How far a job is, in numbers and in a sentence."""
    row = await found_job(parts, job_id)
    return json_answer(await job_progress(parts.store, row, parts.clock(), waits_for=waits_for(parts, row.job_id)))


_RESULT = {
    "job_id": "k3q7zv2m5a",
    "model_name": "smollm2",
    "success": True,
    "training_time": "7m 30s",
    "final_loss": 1.2,
    "improvement_percentage": 41.0,
    "model_path": "/home/ada/.local/state/btmd/jobs/k3q7zv2m5a/result",
    "performance_summary": "It was worth it: ...",
    "recommendations": [],
    "warnings": [],
    "next_steps": ["btmctl jobs export k3q7zv2m5a"],
    "verdict": VERDICT_EXAMPLE,
    "repeat": None,
    "account": [],
}


@operation(router, "GET", "/result/{job_id}", Permission.READ, **described(typed(Result, _RESULT), errors=(404,)))
async def result(job_id: str, parts: Parts) -> Response:
    """What came of a job; 404 until it has ended."""
    row = await found_job(parts, job_id)
    return json_answer(await job_result(parts.store, row, parts.config.jobs_dir))


CANCELLED_EXAMPLE = {
    **STEERED_EXAMPLE,
    **at_state("cancelled"),
    "asked": "",
    "message": "Training was cancelled.",
}


@operation(
    router,
    "POST",
    "/cancel/{job_id}",
    Permission.OWN,
    JOB,
    **described(CANCELLED_EXAMPLE, errors=(404, 409)),
)
async def cancel_training(job_id: str, key: Key, parts: Parts, actor: Actor) -> Response:
    """End a job without a result; 409 when it had already ended."""
    return await cancel(key, parts, actor, job_id)
