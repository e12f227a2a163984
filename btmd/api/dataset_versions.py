"""Versions of a dataset: those there are, and the next one from the file as it is now."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from btmd.api.answers import Progress, described, json_answer, working_answer
from btmd.api.datasets import EXAMPLE, PATH_BYTES, dataset_json, found_dataset, version_json
from btmd.api.idempotency import earlier_answer, key_of, stored_answer
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.api.work import heard
from btmd.domain.event import Actor
from btmd.projections.dataset import registered_versions
from btmd.registry.sources import Source
from btmd.store.event_log import Recorded

router = Router(prefix="/datasets", tags=("datasets",))

CHANGES_EXAMPLE = {"rows_added": 12, "rows_removed": 1, "rows_unchanged": 179, "added_lines": [181, 182]}
VERSION_EXAMPLE = {
    "version_id": "1b2c3d4e5f607182",
    "parent": "0a1b2c3d4e5f6071",
    "made": "update",
    "changes": CHANGES_EXAMPLE,
    "rows": 191,
}
UPDATE_EXAMPLE = {"updated": True, "changes": CHANGES_EXAMPLE, "dataset": EXAMPLE}


class DatasetUpdate(msgspec.Struct):
    """An uploaded content that takes the place of the one before; without a mapping as that one was read."""

    content: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    file_name: Annotated[str, Meta(min_length=1, max_length=1000)]
    mapping: Annotated[dict[str, str], Meta(max_length=100)] | None = None
    source_path: Annotated[str, Meta(max_length=PATH_BYTES)] = ""
    source_changed_us: int = 0
    folder: bool = False
    """The content is the list of a folder's files."""


@operation(router, "GET", "/{dataset_id}/versions", Permission.READ, **described([VERSION_EXAMPLE], errors=(404,)))
async def list_versions(dataset_id: str, parts: Parts) -> Response:
    """Every version, newest first: from which one it came, how it was made, and what is different."""
    row, _ = await found_dataset(parts, dataset_id)
    async with parts.store.session() as session:
        every = await registered_versions(session, row)
    return json_answer([version_json(one) for one in every])


@operation(
    router, "POST", "/{dataset_id}/versions", Permission.TRAIN, **described(UPDATE_EXAMPLE, errors=(400, 404, 409))
)
async def update_dataset(
    dataset_id: str, body: DatasetUpdate, request: Request, parts: Parts, actor: Actor
) -> Response:
    """The next version from an uploaded content, and the difference; `updated` is false where nothing changed."""
    key = await key_of(request, actor)
    earlier = await earlier_answer(parts, key)
    if earlier is not None:
        kept = msgspec.json.decode(earlier.body)
        dataset = dataset_json(parts, *await found_dataset(parts, kept["dataset_id"]))
        return json_answer({"updated": kept["updated"], "changes": kept["changes"], "dataset": dataset})
    row, newest = await found_dataset(parts, dataset_id)
    source = Source(
        content=body.content,
        file_name=body.file_name,
        mapping=newest.mapping if body.mapping is None else body.mapping,
        path=body.source_path,
        changed_us=body.source_changed_us,
        folder=body.folder,
    )

    async def work(progress: Progress) -> dict[str, Any]:
        async with heard(progress) as on_progress:
            handled = await parts.dataset_versions.update(
                row,
                newest,
                source,
                actor=actor,
                on_progress=on_progress,
                idempotency=key,
                respond=lambda state, rows: stored_answer(
                    {"dataset_id": state.dataset_id, "updated": bool(rows), "changes": _changes(rows)}
                ),
            )
        dataset = dataset_json(parts, *await found_dataset(parts, row.dataset_id))
        return {"updated": bool(handled.events), "changes": _changes(handled.events), "dataset": dataset}

    return await working_answer(request, work, parts.stopping)


def _changes(rows: list[Recorded]) -> dict[str, Any]:
    return dict(rows[-1].data["changes"]) if rows else {}
