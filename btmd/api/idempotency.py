"""The same key with the same request answers the same, for a day.

An operation takes the key as a parameter of the type ``Key``. What it answered is kept with its own events
(``stored_answer``), or when all is done (``once``), and given again before the operation is asked. One whose answer is
made anew, or must be kept nowhere, keeps only facts of its own (``stored_facts``).
"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec

import anyio
import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from btmd.api.parts import Parts
from btmd.domain.event import Actor
from btmd.errors import BadRequest
from btmd.store.batch import IdempotencyKey

Key = IdempotencyKey | None
Asked = ParamSpec("Asked")
LONGEST_KEY = 200
_FACTS = 0
"""In the place of a status: no answer, but what the operation needs to give one."""


async def key_of(request: Request, actor: Actor, *, secret: bool = False) -> Key:
    """The request's key, if it has one. Raises BadRequest for one that is too long.

    What is kept of a request is its hash; of a ``secret`` one a hash that takes time, as a passphrase could be guessed
    by the other.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not key or len(key) > LONGEST_KEY:
        raise BadRequest(f"An Idempotency-Key has 1 to {LONGEST_KEY} characters.")
    body = await request.body()
    asked = f"{request.method} {request.url.path}?{request.url.query}\n".encode() + body
    digest = await anyio.to_thread.run_sync(_slow_hash, asked, key) if secret else hashlib.sha256(asked).digest()
    return IdempotencyKey(actor.uid, key, digest.hex())


async def earlier_answer(parts: Parts, key: Key) -> Response | None:
    """The answer that this key was given before. Raises IdempotencyMismatch."""
    status, body = await _kept(parts, key)
    if status == _FACTS:
        return None
    return Response(body, status, {"Idempotency-Replayed": "true"}, media_type="application/json")


async def earlier_facts(parts: Parts, key: Key) -> dict[str, Any] | None:
    """What an earlier request with this key kept to be answered from anew. Raises IdempotencyMismatch."""
    status, body = await _kept(parts, key)
    return dict(msgspec.json.decode(body)) if status == _FACTS and body else None


async def kept_or(parts: Parts, key: Key, answer: dict[str, Any]) -> dict[str, Any]:
    """``answer``, unless the same request was at work at the same time and did it: then the one that is kept."""
    status, body = await _kept(parts, key)
    return answer if status == _FACTS else dict(msgspec.json.decode(body))


def stored_answer(body: Any, status: int = 200) -> bytes:
    """An answer as it is kept with the events it belongs to."""
    return msgspec.json.encode((status, body))


def stored_facts(facts: dict[str, Any]) -> bytes:
    """What an answer is made from anew, as it is kept in the answer's place."""
    return stored_answer(facts, _FACTS)


def once(
    parts: Parts, actor: Actor, key: Key, work: Callable[Asked, Awaitable[dict[str, Any]]]
) -> Callable[Asked, Awaitable[dict[str, Any]]]:
    """``work`` that is not done again with the same key, for work that has no one event to keep its answer with.

    The answer is kept when the work is done: a daemon that ends between the two does it again. Whoever asks for it a
    second time meanwhile waits for it.
    """
    if key is None:
        return work

    async def done_once(*args: Asked.args, **kwargs: Asked.kwargs) -> dict[str, Any]:
        async with parts.keyed.setdefault((key.uid, key.key), anyio.Lock()):
            _, earlier = await _kept(parts, key)
            if earlier:
                return dict(msgspec.json.decode(earlier))
            answer = await work(*args, **kwargs)
            await parts.store.append([], actor=actor, idempotency=key, response=stored_answer(answer))
            return answer

    return done_once


async def _kept(parts: Parts, key: Key) -> tuple[int, bytes]:
    """Status and body of what is kept with the key; an empty body where nothing is."""
    earlier = None if key is None else await parts.store.earlier(key)
    if earlier is None or earlier.response is None:
        return _FACTS, b""
    status, body = msgspec.json.decode(earlier.response, type=tuple[int, msgspec.Raw])
    return status, bytes(body)


def _slow_hash(asked: bytes, key: str) -> bytes:
    return hashlib.scrypt(asked, salt=key.encode(), n=2**15, r=8, p=1, maxmem=2**26, dklen=32)
