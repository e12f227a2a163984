"""Datasets: what is registered, adding an uploaded content, checking, removing."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from btmd.api.answers import Progress, described, json_answer, working_answer
from btmd.api.idempotency import earlier_id, key_of, stored_answer
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.api.times import optional_rfc3339, rfc3339
from btmd.api.work import heard
from btmd.domain.event import Actor
from btmd.domain.units import format_count
from btmd.naming import find_dataset
from btmd.projections.dataset import DatasetRow, DatasetVersionRow, datasets, registered_versions, version, versions
from btmd.projections.job import jobs_on_dataset
from btmd.registry.sources import Source

router = Router(prefix="/datasets", tags=("datasets",))

EXAMPLE = {"dataset_id": "faq", "name": "faq", "version_id": "0a1b2c3d4e5f6071", "rows": 180, "consent": ["train"]}
REMOVED_EXAMPLE = {"message": "The dataset faq is removed, with its 2 versions.", "results": ["k3q7zv2m5a"]}
PATH_BYTES = 4096


class DatasetAddition(msgspec.Struct):
    """An uploaded content, and what it is called."""

    content: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    file_name: Annotated[str, Meta(min_length=1, max_length=1000)]
    # Name and purpose are judged where a refusal takes the upload away again.
    name: str | None = None
    consent: bool = False
    purpose: str = ""
    scopes: Annotated[list[str], Meta(max_length=10)] = msgspec.field(default_factory=lambda: ["train"])
    """What the consent allows: of train, export, backup."""
    mapping: Annotated[dict[str, str], Meta(max_length=100)] = {}
    source_path: Annotated[str, Meta(max_length=PATH_BYTES)] = ""
    """Where the file lies, for an update later on; the daemon does not open it."""
    source_changed_us: int = 0
    """When it was changed last, in microseconds since the epoch."""
    folder: bool = False
    """The content is the list of a folder's files."""


def dataset_json(parts: Parts, row: DatasetRow, newest: DatasetVersionRow) -> dict[str, Any]:
    return {
        "dataset_id": row.dataset_id,
        "name": row.name,
        "owner_uid": row.owner_uid,
        "source_name": row.source_name,
        "added_at": rfc3339(row.added_us),
        "version_id": newest.version_id,
        "rows": newest.rows,
        "size_bytes": newest.size_bytes,
        "consent": row.scopes,
        "consent_at": optional_rfc3339(row.consent_us),
        "consent_by_uid": row.consent_by_uid if row.scopes else None,
        "purpose": row.purpose if row.scopes else "",
        "made": newest.made,
        "stored_bytes": parts.contents.stored_bytes([newest.rows_sha256]),
        "source_sha256": newest.source_sha256,
        "source_path": newest.source_path,
        "source_changed_us": newest.source_changed_us,
        "mapping": msgspec.json.decode(newest.mapping_json),
        "facts": newest.facts,
    }


def version_json(row: DatasetVersionRow) -> dict[str, Any]:
    return {
        "version_id": row.version_id,
        "added_at": rfc3339(row.added_us),
        "source_sha256": row.source_sha256,
        "rows_sha256": row.rows_sha256,
        "size_bytes": row.size_bytes,
        "rows": row.rows,
        "parent": row.parent,
        "made": row.made,
        "changes": row.changes,
        "source_path": row.source_path,
    }


async def found_dataset(parts: Parts, dataset_id: str) -> tuple[DatasetRow, DatasetVersionRow]:
    """The dataset and its newest version. Raises DatasetNotFound, Ambiguous."""
    async with parts.store.session() as session:
        row = await find_dataset(session, dataset_id)
        newest = await version(session, row.dataset_id, row.newest_version)
    assert newest is not None
    return row, newest


@operation(router, "GET", "", Permission.READ, **described([EXAMPLE], text="newest first"))
async def list_datasets(parts: Parts) -> Response:
    """Every registered dataset."""
    async with parts.store.session() as session:
        listed = []
        for row in await datasets(session):
            newest = await version(session, row.dataset_id, row.newest_version)
            if newest is not None:
                listed.append(dataset_json(parts, row, newest))
    return json_answer(listed)


@operation(router, "POST", "", Permission.TRAIN, **described(EXAMPLE, errors=(400, 404, 409)))
async def add_dataset(body: DatasetAddition, request: Request, parts: Parts, actor: Actor) -> Response:
    """Read an uploaded content and register it. JSON lines with progress where they are accepted."""
    key = await key_of(request, actor)
    earlier = await earlier_id(parts, key, "dataset_id")
    if earlier is not None:
        return json_answer(dataset_json(parts, *await found_dataset(parts, earlier)))

    async def work(progress: Progress) -> dict[str, Any]:
        async with heard(progress) as on_progress:
            handled = await parts.dataset_adding.add(
                Source(
                    body.content, body.file_name, body.mapping, body.source_path, body.source_changed_us, body.folder
                ),
                name=body.name,
                consent=body.consent,
                purpose=body.purpose,
                scopes=tuple(body.scopes),
                actor=actor,
                on_progress=on_progress,
                idempotency=key,
                respond=lambda state, rows: stored_answer({"dataset_id": state.dataset_id}),
            )
        return dataset_json(parts, *await found_dataset(parts, handled.state.dataset_id))

    return await working_answer(request, work, parts.stopping)


@operation(router, "GET", "/{dataset_id}", Permission.READ, **described(EXAMPLE, errors=(404,)))
async def get_dataset(dataset_id: str, parts: Parts) -> Response:
    """One dataset with its versions."""
    row, newest = await found_dataset(parts, dataset_id)
    async with parts.store.session() as session:
        every = await registered_versions(session, row)
    return json_answer({**dataset_json(parts, row, newest), "versions": [version_json(one) for one in every]})


@operation(router, "DELETE", "/{dataset_id}", Permission.TRAIN, **described(REMOVED_EXAMPLE, errors=(404, 409)))
async def remove_dataset(dataset_id: str, parts: Parts, actor: Actor) -> Response:
    """End the registration and remove the contents that nothing else needs; the history stays."""
    row, _ = await found_dataset(parts, dataset_id)
    async with parts.store.session() as session:
        every = list(await versions(session, row.dataset_id))
        listed = len(await registered_versions(session, row))
        results = [job.job_id for job in await jobs_on_dataset(session, row.dataset_id) if job.state == "completed"]
    await parts.dataset_adding.remove(row, every, actor=actor)
    kept = ["Its history stays, and so do copies of its contents in backups: `btmctl datasets erase` destroys those."]
    if results:
        kept.append(f"The results made from it stay, with their sample answers: {', '.join(results)}.")
    said = " ".join([f"The dataset {row.name} is removed, with its {format_count(listed, 'version')}.", *kept])
    return json_answer({"message": said, "results": results})
