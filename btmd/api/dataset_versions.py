"""Versions of a dataset: those there are, and the next one from the file as it is now."""

from typing import Annotated

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.dataset_documents import (
    EXAMPLE,
    UPDATED_EXAMPLE,
    VERSION_EXAMPLE,
    UploadedSource,
    found_dataset,
    version_json,
)
from btmd.api.idempotency import Key
from btmd.api.next_version import Changes, Recording, next_version, told
from btmd.api.operation import Router, operation
from btmd.api.paging import PAGE, Before, Limit
from btmd.api.parts import Parts
from btmd.api.permission import DATASET, Permission
from btmd.api.shapes import either
from btmd.domain.event import Actor
from btmd.projections.dataset import DatasetRow, DatasetVersionRow, registered_versions

router = Router(prefix="/datasets", tags=("datasets",))

UPDATE_EXAMPLE = {"updated": True, "changes": either(UPDATED_EXAMPLE, {}), "dataset": EXAMPLE}


class DatasetUpdate(UploadedSource):
    """An uploaded content that takes the place of the one before; without a mapping as that one was read."""

    mapping: Annotated[dict[str, str], Meta(max_length=100)] | None = None


@operation(
    router,
    "GET",
    "/{dataset_id}/versions",
    Permission.READ,
    **described([VERSION_EXAMPLE], text="newest first", errors=(404,)),
)
async def list_versions(dataset_id: str, parts: Parts, limit: Limit = PAGE, before: Before = None) -> Response:
    """The versions: from which one each came, how it was made, and what is different; older ones with `before`."""
    row, _ = await found_dataset(parts, dataset_id)
    async with parts.store.session() as session:
        every = await registered_versions(session, row)
    return json_answer([version_json(one) for one in every if before is None or one.added_seq < before][:limit])


@operation(
    router,
    "POST",
    "/{dataset_id}/versions",
    Permission.OWN,
    DATASET,
    **described(UPDATE_EXAMPLE, errors=(400, 404, 409), progress=True),
)
async def update_dataset(
    dataset_id: str, body: DatasetUpdate, request: Request, key: Key, parts: Parts, actor: Actor
) -> Response:
    """The next version from an uploaded content, and the difference; `updated` is false where nothing changed."""

    async def make(row: DatasetRow, newest: DatasetVersionRow, recording: Recording) -> tuple[bool, Changes]:
        source = body.source(newest.mapping if body.mapping is None else body.mapping)
        return told(await parts.dataset_versions.update(row, newest, source, **recording))

    return await next_version(dataset_id, request, key, parts, actor, make, done="updated")
