"""Files of models that the daemon may not open: announced, sent under their hashes, gone on with when cut off."""

from typing import Annotated

import anyio.to_thread
import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.api.user_room import arriving, require_room
from btmd.domain import settings
from btmd.domain.event import Actor
from btmd.domain.settings import SettingsState
from btmd.domain.units import GIB
from btmd.model_files import MOST_FILES
from btmd.naming import slug
from btmd.registry.model_upload import SentModel, require_model_files, sizes_of

router = Router(prefix="/model-files", tags=("models",))

ASKED = {"model_id": "smollm2", "needed_bytes": 271_000_000, "arrived_bytes": 0}


class WantedFile(msgspec.Struct):
    """A file that is to be sent."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    size_bytes: Annotated[int, Meta(ge=0, le=2**62)]


class ModelFiles(msgspec.Struct):
    """A model before its files are sent, as POST /models takes it afterwards."""

    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    files: Annotated[list[WantedFile], Meta(max_length=MOST_FILES)]
    name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    convert: bool = False


async def _reserve_bytes(parts: Parts) -> int:
    state, _ = await parts.handler.state(settings.STREAM)
    return int(float((state or SettingsState()).get("disk.reserve_gb")) * GIB)


@operation(router, "POST", "", Permission.TRAIN, **described(ASKED, text="they may come", errors=(409,)))
async def ask_model_files(body: ModelFiles, parts: Parts, actor: Actor) -> Response:
    """Whether a model's files may be sent: their kinds, the model's name, the room for them. Nothing is recorded."""
    sizes = sizes_of([(one.name, one.size_bytes) for one in body.files])
    require_model_files(sizes, convert=body.convert)
    sent = SentModel(body.path, dict.fromkeys(sizes, ""))
    model_id = slug(body.name or sent.usual_name)
    await parts.sent_models.require_own_name(model_id, body.path, actor)
    uploads, needed = parts.sent_models.uploads, sum(sizes.values())
    arrived = await anyio.to_thread.run_sync(uploads.arrived_bytes, actor.uid)
    await require_room(max(0, needed - arrived), actor, parts)
    reserve_bytes = await _reserve_bytes(parts)
    await anyio.to_thread.run_sync(uploads.require_disk, needed, actor.uid, reserve_bytes)
    return json_answer({"model_id": model_id, "needed_bytes": needed, "arrived_bytes": arrived})


@operation(
    router,
    "HEAD",
    "/{sha256}",
    Permission.TRAIN,
    **described(text="it is here; 404: not, or not wholly", errors=(400,)),
)
async def ask_model_file(sha256: str, parts: Parts, actor: Actor) -> Response:
    """Whether the asking user sent this file; `Upload-Offset` says how much of it is there."""
    size_bytes, is_whole = parts.sent_models.uploads.received_bytes(sha256, actor.uid)
    return Response(status_code=200 if is_whole else 404, headers={"Upload-Offset": str(size_bytes)})


@operation(
    router,
    "PUT",
    "/{sha256}",
    Permission.TRAIN,
    **described({"sha256": "9f86d0...", "size_bytes": 1234}, text="received and checked", errors=(409,)),
    request_body={"content": {"application/octet-stream": {"schema": {"type": "string"}}}},
)
async def put_model_file(
    sha256: str, request: Request, parts: Parts, actor: Actor, offset: Annotated[int, Meta(ge=0, le=2**62)] = 0
) -> Response:
    """The bytes from `offset` to the end; the hash is checked when they are all here."""
    uploads = parts.sent_models.uploads
    reserve_bytes = await _reserve_bytes(parts)
    async with arriving(request, actor, parts) as pieces:
        size_bytes = await uploads.receive(sha256, pieces, by_uid=actor.uid, offset=offset, reserve_bytes=reserve_bytes)
    return json_answer({"sha256": sha256, "size_bytes": size_bytes})
