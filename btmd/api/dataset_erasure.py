"""Erasing datasets, and what was erased."""

from typing import Any

from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.idempotency import Key, once
from btmd.api.operation import Router, operation
from btmd.api.paging import PAGE, Before, Limit
from btmd.api.parts import Parts
from btmd.api.permission import DATASET, Permission
from btmd.api.shapes import no
from btmd.api.times import rfc3339
from btmd.domain.event import Actor
from btmd.errors import DatasetNotFound
from btmd.naming import find_dataset
from btmd.projections.dataset import DatasetRow, ErasureRow, dataset_named, erasures
from btmd.restoring.dataset_erasure import Erased

router = Router(prefix="/erasures", tags=("datasets",))

ERASED_EXAMPLE = {
    "message": "The dataset faq is erased.",
    "dataset_id": "faq",
    "jobs": ["k3q7zv2m5a"],
    "unreached": ["/media/stick/backups"],
}
ERASURE_EXAMPLE = {
    "number": 42,
    "dataset_id": "faq",
    "name": "faq",
    "by_uid": 1000,
    "at": "2026-11-22T14:00:00.000000Z",
    "versions": ["0a1b2c3d4e5f6071"],
    "jobs": ["k3q7zv2m5a"],
    "done": True,
    "unreached": no("/media/stick/backups"),
}


@operation(router, "GET", "", Permission.READ, **described([ERASURE_EXAMPLE], text="newest first"))
async def list_erasures(parts: Parts, limit: Limit = PAGE, before: Before = None) -> Response:
    """What was erased by whom, what was made from it, and which backup folders still wait to be treated.

    Older ones with `before`.
    """
    async with parts.store.session() as session:
        return json_answer([_erasure_json(one) for one in await erasures(session, limit=limit, before=before)])


@operation(router, "POST", "/{dataset_id}", Permission.OWN, DATASET, **described(ERASED_EXAMPLE, errors=(404, 409)))
async def erase_dataset(dataset_id: str, key: Key, parts: Parts, actor: Actor) -> Response:
    """Destroy a dataset, also one that was removed: contents, sample answers, and the keys of copies in backups.

    Trainings on it end first. The log keeps that it was there; results that were made from it stay and are named.
    """
    row = await _dataset(parts, dataset_id)

    async def work() -> dict[str, Any]:
        erased = await parts.erasure.erase(row, actor=actor)
        return {
            "message": _said(row, erased),
            "dataset_id": row.dataset_id,
            "jobs": erased.jobs,
            "unreached": erased.unreached,
        }

    return json_answer(await once(parts, actor, key, work)())


async def _dataset(parts: Parts, text: str) -> DatasetRow:
    async with parts.store.session() as session:
        try:
            return await find_dataset(session, text, removed=True)
        except DatasetNotFound:
            # Asked once more, an erasure says the same.
            erased = await dataset_named(session, text)
            if erased is None:
                raise
            return erased


def _said(row: DatasetRow, erased: Erased) -> str:
    said = [f"The dataset {row.name} is erased: its contents, answers made from it, and the keys of copies in backups."]
    if erased.jobs:
        said.append(f"What was trained on it stays: {', '.join(erased.jobs)}; `btmctl jobs show J` tells more.")
    if erased.unreached:
        said.append(
            f"Out of reach: {', '.join(erased.unreached)}. Copies there can be read until these appear and are treated."
        )
    return " ".join(said)


def _erasure_json(row: ErasureRow) -> dict[str, Any]:
    return {
        "number": row.erased_seq,
        "dataset_id": row.dataset_id,
        "name": row.name,
        "by_uid": row.by_uid,
        "at": rfc3339(row.erased_us),
        "versions": row.versions,
        "jobs": row.jobs,
        "done": row.done,
        "unreached": row.unreached,
    }
