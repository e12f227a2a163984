"""The events of a span as a file that a stranger can verify, sealed by the store's key."""

from typing import Annotated

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from btmd import __version__
from btmd.api import problems
from btmd.api.answers import NDJSON, StreamAnswer, Write, line
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.api.refusals import record_refusal
from btmd.api.times import rfc3339
from btmd.audit.export import Lines, Seal, bound_of, span_of
from btmd.backup.requests import SealAnswer, SealRequest
from btmd.backups.child import BackupChild
from btmd.domain.event import Actor
from btmd.errors import BtmdError

router = Router(prefix="/audit", tags=("audit",))

TIME = "a time (RFC 3339, or as a person types it) or the number of an event; it is included"
RESPONSES = {
    200: {
        "description": "an opening line, a line for each event, a closing line; btmd/audit/verify_audit.py knows them",
        "content": {NDJSON: {"schema": {"type": "string"}}},
    },
    **{code: {"description": "refused", "content": problems.CONTENT} for code in (403, 422, 503)},
}


@operation(router, "GET", "/export", Permission.READ, responses=RESPONSES)
async def export(
    request: Request,
    parts: Parts,
    actor: Actor,
    since: Annotated[str, Meta(max_length=100, description=TIME)] = "",
    until: Annotated[str, Meta(max_length=100, description=TIME)] = "",
) -> Response:
    """The events recorded from `since` until `until`, or all: each with everything that the hash chain covers.

    `btmd/audit/verify_audit.py` verifies it without btmd. The closing line is sealed with the store's key, where there
    is one: backups make it. Times are those at which events were recorded, which never go back. An export that could
    not be read to its end has a last line with `error`.
    """
    now_us, head, store_id = parts.clock(), parts.store.head, parts.store.store_id
    bounds = [bound_of(text, now_us=now_us) for text in (since, until)]
    span = await parts.store.query(lambda connection: span_of(connection, store_id, head, *bounds))
    lines = Lines(store_id, span)

    async def produce(write: Write) -> None:
        made = {"made_at": rfc3339(now_us), "made_by": f"{actor.name} ({actor.uid})", "version": __version__}
        await write(lines.opening(since=since, until=until, **made))
        try:
            while page := await parts.store.query(lines.page):
                await write(page)
        except BtmdError as error:
            await record_refusal(request, error)
            await write(line({"error": problems.problem(error)}))
            return
        closing = lines.closing(head)
        await write(closing.line(await _sealed(parts, closing.digest)))

    return StreamAnswer(produce, NDJSON, parts.stopping)


async def _sealed(parts: Parts, digest: str) -> Seal | None:
    """None where there is no key, or none that can be opened: the export says so itself."""
    child = BackupChild(parts.config, parts.store.store_id, parts.clock)
    request = SealRequest(**child.place(str(parts.config.backups_dir)), digest=digest)
    try:
        async with parts.backups.looks.turn():
            answer = await child.ask(request, SealAnswer)
    except BtmdError:
        return None
    return Seal(answer.public_key, answer.signature)
