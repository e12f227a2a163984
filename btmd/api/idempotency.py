"""The same key with the same request answers the same, for a day."""

import hashlib
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from btmd.api.parts import Parts
from btmd.domain.event import Actor
from btmd.errors import BadRequest
from btmd.store.batch import IdempotencyKey

LONGEST_KEY = 200


async def key_of(request: Request, actor: Actor) -> IdempotencyKey | None:
    """The request's key, if it has one. Raises BadRequest for one that is too long."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not key or len(key) > LONGEST_KEY:
        raise BadRequest(f"An Idempotency-Key has 1 to {LONGEST_KEY} characters.")
    body = await request.body()
    asked = f"{request.method} {request.url.path}?{request.url.query}\n".encode() + body
    return IdempotencyKey(actor.uid, key, hashlib.sha256(asked).hexdigest())


async def earlier_answer(parts: Parts, key: IdempotencyKey | None) -> Response | None:
    """The answer that this key was given before. Raises IdempotencyMismatch."""
    if key is None:
        return None
    earlier = await parts.store.earlier(key)
    if earlier is None or earlier.response is None:
        return None
    status, body = msgspec.json.decode(earlier.response, type=tuple[int, msgspec.Raw])
    return Response(bytes(body), status, {"Idempotency-Replayed": "true"}, media_type="application/json")


async def earlier_id(parts: Parts, key: IdempotencyKey | None, name: str) -> str | None:
    """The id that an earlier request with this key made; its answer is given anew. Raises IdempotencyMismatch."""
    answer = await earlier_answer(parts, key)
    return None if answer is None else str(msgspec.json.decode(answer.body)[name])


def stored_answer(body: Any, status: int = 200) -> bytes:
    """An answer as it is kept with the events it belongs to."""
    return msgspec.json.encode((status, body))
