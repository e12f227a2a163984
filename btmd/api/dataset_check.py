"""What is good and bad in a dataset, and the version without what is bad."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from btmd.api.answers import Progress, described, working_answer
from btmd.api.dataset_documents import CLEANED_EXAMPLE, EXAMPLE, dataset_json, found_dataset, named_model
from btmd.api.idempotency import Key
from btmd.api.next_version import Changes, Recording, next_version
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import DATASET, MODEL, Permission, require_use
from btmd.api.shapes import either, keyed, nullable, typed
from btmd.api.work import heard
from btmd.domain.event import Actor
from btmd.inspection.facts import TokenFacts
from btmd.inspection.findings import Report
from btmd.projections.dataset import DatasetRow, DatasetVersionRow

router = Router(prefix="/datasets", tags=("datasets",))

FINDING = {
    "kind": "duplicates",
    "part": "variety",
    "severity": "serious",
    "count": 21,
    "share": 0.117,
    "lines": [14, 15],
    "text": "21 rows (11.7 %) repeat an earlier row exactly.",
    "meaning": "The model learns them by heart, and what it learns of the others counts less.",
    "command": "btmctl datasets clean faq --drop duplicates",
    "gain": 20.1,
}
TOKENS_EXAMPLE = typed(
    TokenFacts,
    {
        "rows": 180,
        "tokens_total": 7_110,
        "learned_tokens": 2_970,
        "rows_nothing_learned": 0,
        "nothing_learned_lines": [],
        "rows_refused": 0,
        "refused_lines": [],
        "refused_reason": None,
        "shortest": 39,
        "mean": 39.5,
        "p50": 39,
        "p90": 40,
        "p95": 40,
        "p99": 40,
        "longest": 70,
        "histogram": {"64": 179, "128": 1},
        "over": [{"max_length": 64, "rows_over": 1}],
        "longest_rows": [[70, 12], [41, 3]],
        "template": "model",
        "warnings": [],
    },
)
CHECK_EXAMPLE = {
    **typed(
        Report,
        {"score": 79.9, "parts": [{"part": "variety", "score": 0.0, "costs": 20.1}], "findings": [FINDING]},
    ),
    "dataset": EXAMPLE,
    "model_id": nullable("smollm2"),
    "max_length": nullable(64),
    "tokens": nullable(TOKENS_EXAMPLE),
    "languages": keyed({"en": 178, "": 2}),
    "similar_groups": 0,
}
CLEAN_EXAMPLE = {"cleaned": True, "changes": either(CLEANED_EXAMPLE, {}), "dataset": EXAMPLE}


class DatasetCheck(msgspec.Struct):
    """With a model, rows are counted in its tokens; those of more than ``max_length`` are told."""

    model_id: Annotated[str, Meta(max_length=4096)] | None = None
    max_length: Annotated[int, Meta(ge=8, le=2**31)] | None = None


class DatasetCleaning(msgspec.Struct):
    """Kinds of rows to leave out, as findings call them."""

    drop: Annotated[list[str], Meta(min_length=1, max_length=100)]
    model_id: Annotated[str, Meta(max_length=4096)] | None = None
    max_length: Annotated[int, Meta(ge=8, le=2**31)] | None = None


@operation(
    router,
    "POST",
    "/{dataset_id}/check",
    Permission.SEE,
    DATASET,
    MODEL,
    **described(CHECK_EXAMPLE, errors=(404, 409), progress=True),
)
async def check_dataset(dataset_id: str, body: DatasetCheck, request: Request, parts: Parts) -> Response:
    """What is good and bad in a dataset: findings with rows to look at, one score with its parts, and what helps."""
    row, newest = await found_dataset(parts, dataset_id)
    model = await named_model(parts, body.model_id)

    async def work(progress: Progress) -> dict[str, Any]:
        async with heard(progress) as on_progress:
            checked = await parts.dataset_checks.check(row, newest, model, body.max_length, on_progress)
        return {
            **msgspec.to_builtins(checked.report),
            "dataset": dataset_json(parts, row, newest),
            "model_id": None if model is None else model.model_id,
            "max_length": checked.max_length or None,
            "tokens": None if checked.tokens is None else msgspec.to_builtins(checked.tokens, str_keys=True),
            "languages": checked.quality.languages,
            "similar_groups": checked.quality.similar_groups,
        }

    return await working_answer(request, work, parts.stopping)


@operation(
    router,
    "POST",
    "/{dataset_id}/clean",
    Permission.OWN,
    DATASET,
    **described(CLEAN_EXAMPLE, errors=(400, 404, 409), progress=True),
)
async def clean_dataset(
    dataset_id: str, body: DatasetCleaning, request: Request, key: Key, parts: Parts, actor: Actor
) -> Response:
    """A version without the rows of some kinds, and what was left out; `cleaned` is false where there are none."""
    if body.model_id:
        await require_use(MODEL, body.model_id, actor, parts)

    async def make(row: DatasetRow, newest: DatasetVersionRow, recording: Recording) -> tuple[bool, Changes]:
        model = await named_model(parts, body.model_id)
        handled, changes = await parts.dataset_checks.clean(
            row, newest, body.drop, model=model, max_length=body.max_length, **recording
        )
        return bool(handled.events), changes

    return await next_version(dataset_id, request, key, parts, actor, make, done="cleaned")
