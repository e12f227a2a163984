"""Models: what is registered, adding a folder or a GGUF file, removing."""

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
from btmd.api.times import rfc3339
from btmd.api.work import heard
from btmd.domain.event import Actor
from btmd.naming import find_model
from btmd.projections.model import ModelRow, models

router = Router(prefix="/models", tags=("models",))

EXAMPLE = {"model_id": "smollm2", "name": "SmolLM2", "folder": "/home/ada/models/smollm2", "converted": False}
VERIFIED = {
    "model_id": "smollm2",
    "verdict": "unchanged",
    "files": 7,
    "size_bytes": 271_000_000,
    "recorded_at": "2026-11-22T14:00:00Z",
    "verified_at": "2026-11-22T15:00:00Z",
    "changed": [],
    "missing": [],
    "added": [],
}


class ModelSettings(msgspec.Struct):
    """Training values by their keys; null takes one away."""

    settings: dict[str, Any]


class ModelAddition(msgspec.Struct):
    """A path on this machine, opened by the daemon itself: only for its own user."""

    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    convert: bool = False
    """Convert pickled weights, which are refused otherwise."""


def model_json(row: ModelRow) -> dict[str, Any]:
    return {
        "model_id": row.model_id,
        "name": row.name,
        "owner_uid": row.owner_uid,
        "source": row.source,
        "folder": row.folder,
        "converted": row.converted,
        "added_at": rfc3339(row.added_us),
        "facts": row.facts,
        "settings": row.settings,
        "verification": {
            "recorded_at": None if row.hashed_us is None else rfc3339(row.hashed_us),
            "verified_at": None if row.verified_us is None else rfc3339(row.verified_us),
            **{name: row.differences.get(name, []) for name in ("changed", "missing", "added")},
        },
    }


@operation(router, "GET", "", Permission.READ, **described([EXAMPLE], text="newest first"))
async def list_models(parts: Parts) -> Response:
    """Every registered model."""
    async with parts.store.session() as session:
        return json_answer([model_json(row) for row in await models(session)])


@operation(router, "POST", "", Permission.TRAIN, **described(EXAMPLE, errors=(400, 404, 409)))
async def add_model(body: ModelAddition, request: Request, parts: Parts, actor: Actor) -> Response:
    """Register a model folder, or convert a GGUF file. JSON lines with progress where they are accepted."""
    key = await key_of(request, actor)
    earlier = await earlier_id(parts, key, "model_id")
    if earlier is not None:
        async with parts.store.session() as session:
            return json_answer(model_json(await find_model(session, earlier)))

    async def work(progress: Progress) -> dict[str, Any]:
        async with heard(progress) as on_progress:
            handled = await parts.model_adding.add(
                body.path,
                body.name,
                actor=actor,
                on_progress=on_progress,
                convert=body.convert,
                idempotency=key,
                respond=lambda state, rows: stored_answer({"model_id": state.model_id}),
            )
        async with parts.store.session() as session:
            return model_json(await find_model(session, handled.state.model_id))

    return await working_answer(request, work, parts.stopping)


@operation(router, "POST", "/{model_id:path}/verify", Permission.TRAIN, **described(VERIFIED, errors=(404,)))
async def verify_model(model_id: str, request: Request, parts: Parts, actor: Actor) -> Response:
    """Read every byte of the model's files and name those that are not as they were recorded."""
    async with parts.store.session() as session:
        row = await find_model(session, model_id)

    async def work(progress: Progress) -> dict[str, Any]:
        async with heard(progress) as on_progress:
            _, hashes = await parts.model_adding.verify(row, actor=actor, on_progress=on_progress)
        async with parts.store.session() as session:
            found = model_json(await find_model(session, row.model_id))
        verification = found["verification"]
        differs = any(verification[name] for name in ("changed", "missing", "added"))
        first = verification["verified_at"] is None
        return {
            "model_id": row.model_id,
            "verdict": "recorded" if first else "changed" if differs else "unchanged",
            "files": len(hashes.files),
            "size_bytes": hashes.size_bytes,
            **verification,
        }

    return await working_answer(request, work, parts.stopping)


@operation(router, "PATCH", "/{model_id:path}", Permission.TRAIN, **described(EXAMPLE, errors=(404,)))
async def set_model(model_id: str, body: ModelSettings, parts: Parts, actor: Actor) -> Response:
    """Training values that plans for this model begin with; what is asked for one training still wins."""
    async with parts.store.session() as session:
        row = await find_model(session, model_id)
    await parts.model_adding.set(row, body.settings, actor=actor)
    async with parts.store.session() as session:
        return json_answer(model_json(await find_model(session, row.model_id)))


@operation(router, "GET", "/{model_id:path}", Permission.READ, **described(EXAMPLE, errors=(404,)))
async def get_model(model_id: str, parts: Parts) -> Response:
    """One model, with what its files say."""
    async with parts.store.session() as session:
        return json_answer(model_json(await find_model(session, model_id)))


@operation(router, "DELETE", "/{model_id:path}", Permission.TRAIN, **described({"message": "..."}, errors=(404, 409)))
async def remove_model(model_id: str, parts: Parts, actor: Actor) -> Response:
    """End the registration; the person's own files are not touched."""
    async with parts.store.session() as session:
        row = await find_model(session, model_id)
    await parts.model_adding.remove(row, actor=actor)
    return json_answer({"message": f"The model {row.name} is removed from the list."})
