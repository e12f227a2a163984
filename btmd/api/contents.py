"""Uploads: a file's bytes under their own hash, so that nothing is sent twice and an interrupted upload goes on."""

from typing import Annotated

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.api.user_room import arriving
from btmd.domain import settings
from btmd.domain.event import Actor
from btmd.domain.settings import SettingsState
from btmd.domain.units import GIB

router = Router(prefix="/contents", tags=("contents",))


@operation(
    router, "HEAD", "/{sha256}", Permission.READ, **described(text="it is here; 404: not, or not wholly", errors=(400,))
)
async def ask_content(sha256: str, parts: Parts, actor: Actor) -> Response:
    """Whether the asking user sent a content; `Upload-Offset` says how much of an unfinished upload there is.

    What others sent is as if it were not there.
    """
    if parts.contents.sent_by(sha256, actor.uid):
        parts.contents.keep(sha256)
        return Response(status_code=200, headers={"Upload-Offset": str(parts.contents.path(sha256).stat().st_size)})
    return Response(status_code=404, headers={"Upload-Offset": str(parts.contents.received_bytes(sha256, actor.uid))})


@operation(
    router,
    "PUT",
    "/{sha256}",
    Permission.TRAIN,
    **described({"sha256": "9f86d0...", "size_bytes": 1234}, text="received and checked", errors=(409, 413)),
    request_body={"content": {"application/octet-stream": {"schema": {"type": "string"}}}},
)
async def put_content(
    sha256: str, request: Request, parts: Parts, actor: Actor, offset: Annotated[int, Meta(ge=0, le=2**62)] = 0
) -> Response:
    """The bytes from `offset` to the end; the hash is checked when they are all here."""
    state, _ = await parts.handler.state(settings.STREAM)
    state = state or SettingsState()
    async with arriving(request, actor, parts) as pieces:
        size_bytes = await parts.contents.receive(
            sha256,
            pieces,
            by_uid=actor.uid,
            offset=offset,
            limit_bytes=int(float(state.get("uploads.max_gb")) * GIB),
            reserve_bytes=int(float(state.get("disk.reserve_gb")) * GIB),
        )
    return json_answer({"sha256": sha256, "size_bytes": size_bytes})
