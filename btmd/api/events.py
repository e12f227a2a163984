"""The log as a page of JSON or as Server-Sent Events, resumed without a gap."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import anyio
import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from btmd.api import problems
from btmd.api.answers import StreamAnswer, Write, wants
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Permission, role_of
from btmd.api.shapes import anything, example_of, keyed, null_or, nullable, schema_of
from btmd.api.times import SINCE, rfc3339
from btmd.domain.access import AccessRevoked
from btmd.domain.event import Actor
from btmd.errors import InvalidValue
from btmd.store.recorded import Recorded
from btmd.subscriptions import subscribe

router = Router(tags=("events",))

KEEP_ALIVE_S = 15.0
FOLLOWED_ROWS, PIECE_BYTES = 64, 64 * 1024
"""What a follower that reads nothing keeps in memory: so many events, and a piece that was to be sent."""
EXAMPLE = {
    "seq": 7,
    "stream": "settings",
    "version": 1,
    "event_id": "0f0c...",
    "type": "SettingChanged",
    "recorded_at": "2026-11-22T14:00:00.000000Z",
    "wall_at": "2026-11-22T14:00:00.000000Z",
    "actor": {"uid": 1000, "gid": 1000, "pid": 4711, "groups": [1000], "name": "ada"},
    "correlation_id": nullable("f5121d1904e62aed25a78483421f62e0"),
    "causation_id": null_or("f5121d1904e62aed25a78483421f62e0"),
    "data": keyed({"key": anything("training.seed"), "before": 1, "after": 7, "why": "", "change_id": ""}),
}


class _Event(msgspec.Struct):
    seq: int
    stream: str
    version: int
    event_id: str
    type: str
    recorded_at: str
    wall_at: str
    actor: msgspec.Raw
    correlation_id: str | None
    causation_id: str | None
    data: msgspec.Raw


def event_json(recorded: Recorded) -> bytes:
    """An event as REST gives it; actor and data are the stored text."""
    return msgspec.json.encode(
        _Event(
            recorded.seq,
            recorded.stream,
            recorded.version,
            recorded.event_id,
            recorded.type,
            rfc3339(recorded.recorded_at_us),
            rfc3339(recorded.wall_at_us),
            msgspec.Raw(recorded.actor_json.encode()),
            recorded.correlation_id,
            recorded.causation_id,
            msgspec.Raw(recorded.data_json.encode()),
        )
    )


class _Wanted:
    """Which events a client asked for."""

    def __init__(self, types: list[str] | None, streams: list[str] | None, since_us: int | None) -> None:
        self.types = types or None
        self.streams = streams or None
        self.since_us = since_us

    def __call__(self, recorded: Recorded) -> bool:
        return (
            (self.types is None or recorded.type in self.types)
            and (self.streams is None or recorded.stream in self.streams)
            and (self.since_us is None or recorded.recorded_at_us >= self.since_us)
        )

    async def read(self, parts: Parts, after: int, limit: int) -> list[Recorded]:
        """The first ``limit`` of them beyond a position."""
        return await parts.store.read(
            after, limit=limit, types=self.types, streams=self.streams, since_us=self.since_us
        )


_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "`text/event-stream` (id: seq, data: the event), or a list where JSON is accepted",
        "content": {
            "text/event-stream": {"schema": {"type": "string"}},
            "application/json": {"schema": schema_of([EXAMPLE]), "example": example_of([EXAMPLE])},
        },
    },
    422: {"description": "refused", "content": problems.CONTENT},
}


@operation(router, "GET", "/events", Permission.READ, responses=_RESPONSES)
async def events(
    request: Request,
    parts: Parts,
    actor: Actor,
    after: Annotated[int, Meta(ge=0, le=2**62)] | None = None,
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000,
    follow: bool = False,
    type: Annotated[list[str], Meta(max_length=50)] | None = None,
    stream: Annotated[list[str], Meta(max_length=50)] | None = None,
    since_us: Annotated[int, SINCE] | None = None,
) -> Response:
    """Events after a position, oldest first; with `follow` (or Server-Sent Events) as they happen.

    `Last-Event-ID` resumes after that event. Without `after`, a stream begins with the next event, a page with the
    first one. `type` and `stream` may be given several times.
    """
    wanted = _Wanted(type, stream, since_us)
    if wants(request, "text/event-stream") or (follow and not wants(request, "application/json")):
        position = _position(request, after, parts.store.head.seq)
        return StreamAnswer(
            lambda write: _server_sent(parts, actor, position, wanted, write), "text/event-stream", parts.stopping
        )
    first = await wanted.read(parts, after or 0, min(limit, FOLLOWED_ROWS))
    if len(first) < FOLLOWED_ROWS or limit == FOLLOWED_ROWS:
        return Response(b"[" + b",".join(map(event_json, first)) + b"]", media_type="application/json")
    return StreamAnswer(
        lambda write: _page(parts, actor, wanted, first, limit, write), "application/json", parts.stopping
    )


def _position(request: Request, after: int | None, head: int) -> int:
    last = request.headers.get("last-event-id")
    if last is None:
        return head if after is None else after
    if not (last.isascii() and last.isdigit()) or len(last) > 18:
        raise InvalidValue("Last-Event-ID is the number of an event.")
    return int(last)


async def _page(parts: Parts, actor: Actor, wanted: _Wanted, found: list[Recorded], limit: int, write: Write) -> None:
    """A list of ``limit`` events or fewer, of which few at a time are in memory, however slowly they are read.

    It breaks off, and is no list then, when the user's role is gone.
    """
    begin = b"["
    while found:
        await write(begin + b",".join(map(event_json, found)))
        begin = b","
        limit -= len(found)
        found = await wanted.read(parts, found[-1].seq, min(limit, FOLLOWED_ROWS)) if limit else []
        if found and await role_of(actor, parts) is None:
            return
    await write(b"]")


async def _server_sent(parts: Parts, actor: Actor, after: int, wanted: _Wanted, write: Write) -> None:
    """Events as they are recorded, and a comment now and then, until the store is closed or the user's role is gone."""
    await write(b": btmd\nretry: 1000\n\n")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_keep_alive, write)
        # Of the first ones too: a role may have gone before ``after``, which may lie beyond the end of the log.
        looked = False
        async for batch in subscribe(parts.store, after, limit=FOLLOWED_ROWS):
            if not looked or any(one.type == AccessRevoked.TYPE for one in batch):
                looked = True
                if await role_of(actor, parts) is None:
                    break
            for piece in _pieces(filter(wanted, batch)):
                await write(piece)
        tasks.cancel_scope.cancel()


def _pieces(found: Iterable[Recorded]) -> Iterator[bytes]:
    """Several events at once, as long as they are small."""
    piece = bytearray()
    for one in found:
        piece += b"id: %d\ndata: %s\n\n" % (one.seq, event_json(one))
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


async def _keep_alive(write: Write) -> None:
    while True:
        await anyio.sleep(KEEP_ALIVE_S)
        await write(b": still here\n\n")
