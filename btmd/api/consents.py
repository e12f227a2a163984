"""Consents: who allowed what for which purpose with which dataset, and taking that back."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.dataset_documents import CONSENT_EXAMPLE, consent_json
from btmd.api.idempotency import Key, stored_answer
from btmd.api.operation import Router, operation
from btmd.api.paging import PAGE, Before, Limit
from btmd.api.parts import Parts
from btmd.api.permission import Named, Permission
from btmd.api.shapes import no
from btmd.api.times import optional_rfc3339
from btmd.domain.dataset import GrantConsent, RevokeConsent
from btmd.domain.event import Actor
from btmd.domain.job import ENDED
from btmd.naming import find_dataset
from btmd.projections.dataset import DatasetRow, datasets
from btmd.projections.job import JobRow, jobs_on_dataset
from btmd.registry.datasets import LONGEST_PURPOSE

router = Router(prefix="/consents", tags=("datasets",))

EXAMPLE = {
    "dataset_id": "faq",
    "number": 17,
    "name": "faq",
    **CONSENT_EXAMPLE,
}


class Consent(msgspec.Struct):
    """What is allowed: of train, export, backup; it adds to what was allowed before."""

    purpose: Annotated[str, Meta(max_length=LONGEST_PURPOSE)] = ""
    scopes: Annotated[list[str], Meta(max_length=10)] = msgspec.field(default_factory=lambda: ["train"])


def _consent_json(row: DatasetRow) -> dict[str, Any]:
    return {"dataset_id": row.dataset_id, "number": row.added_seq, "name": row.name, **consent_json(row)}


async def _row(parts: Parts, dataset: str) -> DatasetRow:
    async with parts.store.session() as session:
        return await find_dataset(session, dataset)


@operation(router, "GET", "", Permission.READ, **described([EXAMPLE], text="newest dataset first"))
async def list_consents(parts: Parts, limit: Limit = PAGE, before: Before = None) -> Response:
    """What is allowed with each dataset, for which purpose, and who allowed it when; older ones with `before`."""
    async with parts.store.session() as session:
        return json_answer([_consent_json(row) for row in await datasets(session, limit=limit, before=before)])


@operation(
    router, "PUT", "/{dataset}", Permission.OWN, Named("dataset", "dataset"), **described(EXAMPLE, errors=(404, 409))
)
async def grant_consent(dataset: str, body: Consent, key: Key, parts: Parts, actor: Actor) -> Response:
    """Allow the use of a dataset. It adds to what was allowed before; only a revocation takes something away."""
    row = await _row(parts, dataset)
    await parts.handler.handle(
        GrantConsent(row.dataset_id, actor.uid, body.purpose, tuple(body.scopes)),
        actor=actor,
        correlation_id=parts.new_id(),
        idempotency=key,
        respond=lambda state, rows: stored_answer(
            {
                **_consent_json(row),
                "scopes": state.consent_scopes,
                "purpose": state.purpose,
                "consent_by_uid": rows[-1].data["by_uid"] if rows else row.consent_by_uid,
                "consent_at": optional_rfc3339(rows[-1].recorded_at_us if rows else row.consent_us),
            }
        ),
    )
    return json_answer(_consent_json(await _row(parts, row.dataset_id)))


REVOKED_EXAMPLE = {
    "message": "Nothing is allowed with faq any more.",
    "unfinished_jobs": no("p5xw2jc7qd"),
    "results": ["k3q7zv2m5a"],
}


@operation(
    router,
    "DELETE",
    "/{dataset}",
    Permission.OWN,
    Named("dataset", "dataset"),
    **described(REVOKED_EXAMPLE, errors=(404, 409)),
)
async def revoke_consent(dataset: str, key: Key, parts: Parts, actor: Actor) -> Response:
    """Take back all that was allowed: no training begins with the dataset any more.

    The answer names the jobs that had begun or wait already, which end with a checkpoint, and those whose results
    were made from it.
    """
    row = await _row(parts, dataset)
    async with parts.store.session() as session:
        answer = _revoked(row, await jobs_on_dataset(session, row.dataset_id))
    await parts.handler.handle(
        RevokeConsent(row.dataset_id, actor.uid),
        actor=actor,
        correlation_id=parts.new_id(),
        idempotency=key,
        respond=lambda state, rows: stored_answer(answer),
    )
    return json_answer(answer)


def _revoked(row: DatasetRow, jobs: Sequence[JobRow]) -> dict[str, Any]:
    unfinished = [one.job_id for one in jobs if one.state not in ENDED]
    results = [one.job_id for one in jobs if one.state == "completed"]
    said = [f"Nothing is allowed with {row.name} any more." if row.scopes else f"Nothing was allowed with {row.name}."]
    if unfinished:
        said.append(f"They end now, with a checkpoint where they train already: {', '.join(unfinished)}.")
    if results:
        said.append(
            f"Made from it, and still there: the results of {', '.join(results)}. They are neither exported nor talked "
            "with any more; `btmctl jobs delete J` removes one."
        )
    return {"message": " ".join(said), "unfinished_jobs": unfinished, "results": results}
