"""Datasets: what is registered, adding an uploaded content, checking, removing."""

from typing import Annotated, Any

import anyio.to_thread
import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from btmd.api.answers import Progress, described, json_answer, working_answer
from btmd.api.dataset_documents import (
    EXAMPLE,
    VERSION_EXAMPLE,
    UploadedSource,
    dataset_json,
    found_dataset,
    version_json,
)
from btmd.api.idempotency import Key, earlier_facts, stored_facts
from btmd.api.operation import Router, operation
from btmd.api.paging import PAGE, Before, Limit
from btmd.api.parts import Parts
from btmd.api.permission import DATASET, Permission
from btmd.api.user_room import require_room
from btmd.api.work import heard
from btmd.domain.event import Actor
from btmd.domain.units import format_count
from btmd.projections.dataset import newest_versions, registered_versions, versions
from btmd.projections.job import jobs_on_dataset

router = Router(prefix="/datasets", tags=("datasets",))

SHOWN_EXAMPLE = {**EXAMPLE, "versions": [VERSION_EXAMPLE]}
REMOVED_EXAMPLE = {"message": "The dataset faq is removed, with its 2 versions.", "results": ["k3q7zv2m5a"]}


class DatasetAddition(UploadedSource):
    """An uploaded content, and what it is called. `mapping` says which column is what.

    `consent` allows the uses in `scopes` (train, export, backup) for a `purpose`. With `folder`, the content lists a
    folder's files. `source_path` and `source_changed_at` are kept for an update; nobody opens the path.
    """

    # Name and purpose are judged where a refusal takes the upload away again.
    name: str | None = None
    consent: bool = False
    purpose: str = ""
    scopes: Annotated[list[str], Meta(max_length=10)] = msgspec.field(default_factory=lambda: ["train"])
    """What the consent allows: of train, export, backup."""
    mapping: Annotated[dict[str, str], Meta(max_length=100)] = msgspec.field(default_factory=dict)


@operation(router, "GET", "", Permission.READ, **described([EXAMPLE], text="newest first"))
async def list_datasets(parts: Parts, removed: bool = False, limit: Limit = PAGE, before: Before = None) -> Response:
    """Registered datasets; with `removed` also those that were removed and not erased; older ones with `before`."""
    async with parts.store.session() as session:
        found = await newest_versions(session, removed=removed, limit=limit, before=before)
    # What each takes on the disk is looked up: of hundreds that holds up nobody else.
    return json_answer(await anyio.to_thread.run_sync(lambda: [dataset_json(parts, *one) for one in found]))


@operation(router, "POST", "", Permission.TRAIN, **described(EXAMPLE, errors=(400, 404, 409), progress=True))
async def add_dataset(body: DatasetAddition, request: Request, key: Key, parts: Parts, actor: Actor) -> Response:
    """Read an uploaded content and register it. JSON lines with progress where they are accepted."""
    earlier = await earlier_facts(parts, key)
    if earlier is not None:
        return json_answer(dataset_json(parts, *await found_dataset(parts, earlier["dataset_id"])))

    async def work(progress: Progress) -> dict[str, Any]:
        await require_room(1, actor, parts)
        async with heard(progress) as on_progress:
            handled = await parts.dataset_adding.add(
                body.source(body.mapping),
                name=body.name,
                consent=body.consent,
                purpose=body.purpose,
                scopes=tuple(body.scopes),
                actor=actor,
                on_progress=on_progress,
                idempotency=key,
                respond=lambda state, rows: stored_facts({"dataset_id": state.dataset_id}),
            )
        return dataset_json(parts, *await found_dataset(parts, handled.state.dataset_id))

    return await working_answer(request, work, parts.stopping)


@operation(router, "GET", "/{dataset_id}", Permission.READ, **described(SHOWN_EXAMPLE, errors=(404,)))
async def get_dataset(dataset_id: str, parts: Parts, removed: bool = False) -> Response:
    """One dataset with its versions; with `removed` also one that was removed and not erased."""
    row, newest = await found_dataset(parts, dataset_id, removed=removed)
    async with parts.store.session() as session:
        every = await registered_versions(session, row)
    return json_answer({**dataset_json(parts, row, newest), "versions": [version_json(one) for one in every]})


@operation(router, "DELETE", "/{dataset_id}", Permission.OWN, DATASET, **described(REMOVED_EXAMPLE, errors=(404, 409)))
async def remove_dataset(dataset_id: str, parts: Parts, actor: Actor) -> Response:
    """End the registration and remove the contents that nothing else needs; the history stays."""
    row, _ = await found_dataset(parts, dataset_id)
    async with parts.store.session() as session:
        every = list(await versions(session, row.dataset_id))
        listed = len(await registered_versions(session, row))
        results = [job.job_id for job in await jobs_on_dataset(session, row.dataset_id) if job.state == "completed"]
    await parts.dataset_adding.remove(row, every, actor=actor)
    kept = [
        f"Its history stays, and so do copies of its contents in backups: `btmctl datasets erase {row.dataset_id}` "
        "destroys those. `btmctl datasets list --all` still shows it."
    ]
    if results:
        kept.append(f"The results made from it stay, with their sample answers: {', '.join(results)}.")
    said = " ".join([f"The dataset {row.name} is removed, with its {format_count(listed, 'version')}.", *kept])
    return json_answer({"message": said, "results": results})
