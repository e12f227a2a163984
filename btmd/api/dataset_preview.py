"""Looking into a dataset: its rows as they were understood, and token by token as a training would learn them."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from btmd.api.answers import Progress, described, working_answer
from btmd.api.dataset_documents import found_dataset, named_model
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import DATASET, MODEL, Permission
from btmd.api.shapes import keyed, null_or, nullable, optional, typed
from btmd.api.work import heard
from btmd.errors import BtmdError, InvalidValue, ModelRefused, NotFound, Stopping
from btmd.inspection.facts import ArrangementFacts, DatasetFacts
from btmd.inspection.requests import RowChoice, TrainingShape
from btmd.inspection.shown import Preview, ShownRow
from btmd.jobs.submission import OnProgress, Wish
from btmd.projections.dataset import DatasetRow, DatasetVersionRow
from btmd.projections.model import ModelRow
from btmd.registry.previews import planned_shape

router = Router(prefix="/datasets", tags=("datasets",))

ROW_EXAMPLE = {
    **typed(
        ShownRow,
        {
            "row": 1,
            "line": 1,
            "split": None,
            "messages": [{"role": "user", "content": "Where is it?", "more_chars": 0}],
            "rejected": [],
            "more_turns": 0,
            "text": None,
            "sequences": [
                {
                    "name": "conversation",
                    "tokens": 12,
                    "learned_tokens": 4,
                    "ids": [1, 380],
                    "texts": ["<|im_start|>", "user"],
                    "learned": [False, False],
                    "marks": [True, False],
                }
            ],
            "more_sequences": 0,
            "use": "used",
            "refusal": "",
        },
    ),
    "file": "",
    "number": 1,
    "held_out": optional(False),
}
ARRANGEMENT_EXAMPLE = {
    "rows": 180,
    "train_rows": 162,
    "held_out_rows": 18,
    "blocks": 162,
    "tokens_an_epoch": 6_400,
    "learned_tokens_an_epoch": 2_670,
    "steps_an_epoch": 41,
    "left_out": keyed({"over_long": 1}),
    "left_out_lines": keyed({"over_long": [12]}),
    "first_step": [
        {"sequences": [{"block": 1, "row": 1, "line": 1, "tokens": 12, "learned_tokens": 4}], "tokens": 12},
    ],
}
EXAMPLE = {
    "dataset_id": "faq",
    "name": "faq",
    "version_id": "0a1b2c3d4e5f6071",
    "layout": "question_answer",
    "unit": "line",
    "columns": ["question", "answer"],
    "columns_used": ["question", "answer"],
    "columns_as": keyed({"prompt": "question", "completion": "answer"}),
    "rows_total": 180,
    "rows": [ROW_EXAMPLE],
    # With a model.
    "model_id": optional("smollm2"),
    "template": optional("model"),
    "training": optional(
        {
            **typed(
                TrainingShape,
                {
                    "training_type": "lora_adaptation",
                    "packing": False,
                    "max_length": 64,
                    "batch_size": 4,
                    "micro_batch_size": 4,
                    "held_out_fraction": 0.1,
                    "held_out_limit": 200,
                    "seed": 42,
                },
            ),
            "preset": nullable("Quick Test"),
        }
    ),
    "refusal": optional(null_or({"code": "not_enough_memory", "detail": "...", "hint": "..."})),
    "arrangement": optional(ARRANGEMENT_EXAMPLE),
}
_TYPE_OF_KIND = {"preference": "preference_tuning"}
"""What would be trained on rows of a kind, where no plan can be made; with others an answer is learned."""


class DatasetPreview(msgspec.Struct):
    """Which rows; with a model, its tokens, and with the rest of a plan how long rows may be and what goes together."""

    row: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    line: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    rows: Annotated[int, Meta(ge=1, le=100)] = 3
    model_id: Annotated[str, Meta(max_length=4096)] | None = None
    preset_name: Annotated[str, Meta(max_length=200)] | None = None
    overrides: Annotated[dict[str, Any], Meta(max_length=100)] | None = None
    allow: Annotated[list[str], Meta(max_length=20)] | None = None


@operation(
    router,
    "POST",
    "/{dataset_id}/preview",
    Permission.SEE,
    DATASET,
    MODEL,
    **described(EXAMPLE, errors=(404, 409), progress=True),
)
async def preview_dataset(dataset_id: str, body: DatasetPreview, request: Request, parts: Parts) -> Response:
    """A few rows with their text; nothing of it is recorded. Whoever may train may see what would be learned."""
    if body.row is not None and body.line is not None:
        raise InvalidValue("Both a row and a line were named.", hint="Name one of them.")
    choice = RowChoice(row=body.row, line=body.line, count=body.rows)
    dataset, newest = await found_dataset(parts, dataset_id)
    model = await named_model(parts, body.model_id)

    async def work(progress: Progress) -> dict[str, Any]:
        if model is None:
            return _shown(dataset, newest, await parts.dataset_previews.rows(newest, choice))
        async with heard(progress) as on_progress:
            shape, plan, refusal = await _shape(parts, body, dataset, newest, model, on_progress)
            found = await parts.dataset_previews.tokens(newest, choice, model, shape)
            arranged = await parts.dataset_previews.arrangement(newest, model, shape, on_progress)
        return {
            **_shown(dataset, newest, found, arranged),
            "model_id": model.model_id,
            "template": found.template,
            "training": {**msgspec.structs.asdict(shape), "preset": plan},
            "refusal": refusal,
            "arrangement": _arrangement(arranged),
        }

    return await working_answer(request, work, parts.stopping)


async def _shape(
    parts: Parts,
    body: DatasetPreview,
    dataset: DatasetRow,
    newest: DatasetVersionRow,
    model: ModelRow,
    on_progress: OnProgress,
) -> tuple[TrainingShape, str | None, dict[str, str] | None]:
    """What a plan says of rows, and its preset; where no plan can be made, the nearest thing to it, and why not."""
    wish = Wish(
        model=model.model_id,
        dataset=dataset.dataset_id,
        preset=body.preset_name or None,
        overrides=body.overrides or {},
        allow=frozenset(body.allow or ()),
        consent=True,
    )
    try:
        prepared = await parts.submission.prepare(wish, on_progress)
    except (InvalidValue, NotFound, ModelRefused, Stopping):
        raise
    # Whatever else stands against a training, what would be learned can still be seen.
    except BtmdError as error:
        return _without_plan(newest, model), None, {"code": error.code, "detail": error.detail, "hint": error.hint}
    return planned_shape(prepared.plan), prepared.preset.name, None


def _without_plan(newest: DatasetVersionRow, model: ModelRow) -> TrainingShape:
    return TrainingShape(
        training_type=_TYPE_OF_KIND.get(newest.facts.get("kind", ""), "lora_adaptation"),
        packing=False,
        max_length=model.facts.context_length,
        batch_size=1,
        micro_batch_size=1,
        held_out_fraction=0.0,
        held_out_limit=0,
        seed=0,
    )


def _shown(
    dataset: DatasetRow, newest: DatasetVersionRow, found: Preview, arranged: ArrangementFacts | None = None
) -> dict[str, Any]:
    facts = msgspec.convert(newest.facts, DatasetFacts)
    rows = []
    for one in found.rows:
        file, number = facts.place(one.line)
        values = {**msgspec.to_builtins(one), "file": file, "number": number}
        if arranged is not None:
            values["held_out"] = arranged.is_held_out(one.row)
        rows.append(values)
    return {
        "dataset_id": dataset.dataset_id,
        "name": dataset.name,
        "version_id": newest.version_id,
        "layout": facts.layout,
        "unit": facts.unit,
        "columns": facts.columns,
        "columns_used": facts.columns_used,
        "columns_as": newest.facts.get("columns_as", {}),
        "rows_total": found.rows_total,
        "rows": rows,
    }


def _arrangement(arranged: ArrangementFacts) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(arranged, str_keys=True)
    del values["held_out"]
    return values
