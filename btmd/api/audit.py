"""The audit: whether the log is the one that was written, and who did or was refused what."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.api.times import rfc3339
from btmd.domain.machine import OperationRefused
from btmd.store.audit import audit_log, newest_of
from btmd.store.recorded import Recorded

router = Router(prefix="/audit", tags=("audit",))

VERIFIED_EXAMPLE = {
    "verdict": "ok",
    "checked": 1200,
    "first_bad": None,
    "reason": "",
    "head_seq": 1200,
    "head_hash": "9f86d081884c7d65...",
}


@operation(router, "GET", "/verification", Permission.READ, **described(VERIFIED_EXAMPLE))
async def verify(parts: Parts) -> Response:
    """Walk the hash chain from the first event to the last.

    `verdict` is `ok`, `damaged` or `tampered`; `first_bad` is the number of the first event that does not fit. Keep
    `head_seq` and `head_hash` somewhere else: a log that was rewritten as a whole does not fit them.
    """
    known = parts.store.head
    return json_answer(msgspec.to_builtins(await parts.store.query(lambda connection: audit_log(connection, known))))


ENTRY_EXAMPLE = {
    "number": 17,
    "recorded_at": "2026-11-22T14:00:00.000000Z",
    "actor": {"uid": 1000, "gid": 1000, "pid": 4711, "groups": [1000], "name": "ada"},
    "type": "SettingChanged",
    "stream": "settings",
    "refused": False,
    "what": "training.seed: default -> 7",
}


@operation(router, "GET", "", Permission.READ, **described([ENTRY_EXAMPLE], text="newest first"))
async def audit(
    parts: Parts,
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100,
    before: Annotated[int, Meta(ge=1, le=2**62)] | None = None,
    user: Annotated[str, Meta(min_length=1, max_length=200)] | None = None,
    refused: bool = False,
) -> Response:
    """Who did or was refused what; of one `user` (name or uid), `refused` operations only, `before` a number."""
    types = (OperationRefused.TYPE,) if refused else ()
    rows = await parts.store.query(
        lambda connection: newest_of(connection, limit=limit, before=before, user=user, types=types)
    )
    return json_answer(
        [
            {
                "number": row.seq,
                "recorded_at": rfc3339(row.recorded_at_us),
                "actor": msgspec.to_builtins(row.actor),
                "type": row.type,
                "stream": row.stream,
                "refused": row.type == OperationRefused.TYPE,
                "what": in_words(row),
            }
            for row in rows
        ]
    )


def in_words(row: Recorded) -> str:
    """What an event says, in a line."""
    data: dict[str, Any] = row.data
    if row.type == OperationRefused.TYPE:
        return f"refused: {data.get('operation')} ({data.get('code')})"
    if row.type == "SettingChanged":
        before, after = ("default" if data.get(end) is None else data[end] for end in ("before", "after"))
        return f"{data.get('key')}: {before} -> {after}" + (f', "{data["why"]}"' if data.get("why") else "")
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in row.type).strip()
    subject = row.stream.partition("-")[2] or " ".join(str(data[one]) for one in ("subject", "role") if one in data)
    return f"{words}: {subject}" if subject else words
