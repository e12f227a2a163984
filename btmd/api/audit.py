"""The audit: whether the log is the one that was written, and who did or was refused what."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.operation import Router, operation
from btmd.api.paging import PAGE, Before
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.api.shapes import typed
from btmd.api.times import rfc3339
from btmd.backup.requests import AuditAnswer, AuditHead, AuditRequest
from btmd.backups.child import BackupChild
from btmd.domain.dataset import PersonalDataAccepted
from btmd.domain.machine import OperationRefused
from btmd.errors import InvalidValue
from btmd.projections.backup import backups
from btmd.store.audit import newest_of
from btmd.store.recorded import Recorded
from btmd.vocabulary import personal_data

router = Router(prefix="/audit", tags=("audit",))

VERIFIED_EXAMPLE = {
    **typed(
        AuditAnswer,
        {
            "verdict": "ok",
            "checked": 1200,
            "first_bad": None,
            "reason": "",
            "head_seq": 1200,
            "head_hash": "9f86d081884c7d65...",
            "epoch": 1,
            "store_id": "0f3b5c7d9e1a2b4c",
            "compared": [],
            "public_key": "3d4017c3e843895a...",
        },
    ),
    "compared": [{"source": "running daemon", "event": 1200, "result": "same"}],
}


@operation(router, "GET", "/verification", Permission.READ, **described(VERIFIED_EXAMPLE))
async def verify(
    parts: Parts, heads: Annotated[str, Meta(max_length=10_000, description="known heads, EPOCH:EVENT:HASH,...")] = ""
) -> Response:
    """Walk the hash chain from the first event to the last, and look up where it is known to have ended.

    `verdict` is `ok`, `damaged` or `tampered`; `first_bad` is the number of the first event that does not fit.
    `compared` tells of the heads that were looked up: this daemon's, those in backups, and `heads`, which somebody
    kept elsewhere. A log that was rewritten or cut off as a whole does not fit them. 0 is an epoch that is not known.
    `public_key` is that of the seal under exports; empty where backups have made no key yet, or it cannot be opened.
    """
    return json_answer(audit_document(await audited(parts, _parsed(heads))))


async def audited(parts: Parts, heads: Sequence[AuditHead] = ()) -> AuditAnswer:
    """Have the whole log walked, and the heads that are known looked up in it."""
    head = parts.store.head
    known = (AuditHead("running daemon", head.seq, head.hash.hex(), head.epoch), *heads)
    async with parts.store.session() as session:
        folders = tuple({row.folder for row in await backups(session)})
    child = BackupChild(parts.config, parts.store.store_id, parts.clock)
    request = AuditRequest(
        **child.place(str(parts.config.backups_dir)),
        database=str(parts.config.database_path),
        folders=folders,
        known=known,
    )
    async with parts.backups.looks.turn():
        return await child.ask(request, AuditAnswer)


def _parsed(heads: str) -> list[AuditHead]:
    """Raises InvalidValue."""
    found = []
    for text in filter(None, heads.split(",")):
        match = re.fullmatch(r"(\d{1,9}):(\d{1,18}):([0-9a-f]{64})", text)
        if match is None:
            raise InvalidValue(
                f"{text[:80]!r} is no head of a log.", hint="EPOCH:EVENT:HASH, as `audit verify` shows it."
            )
        found.append(AuditHead("head that was kept", int(match[2]), match[3], int(match[1])))
    return found


def audit_document(found: AuditAnswer) -> dict[str, Any]:
    """The answer with names for what was compared."""
    compared = [{"source": source, "event": seq, "result": fate} for source, seq, fate in found.compared]
    return {**msgspec.to_builtins(found), "compared": compared}


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
    limit: Annotated[int, Meta(ge=1, le=10_000)] = PAGE,
    before: Before = None,
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
        more = f", and {data['more']} more before it" if data.get("more") else ""
        return f"refused: {data.get('operation')} ({data.get('code')}{more})"
    if row.type == "SettingChanged":
        before, after = ("default" if data.get(end) is None else data[end] for end in ("before", "after"))
        return f"{data.get('key')}: {before} -> {after}" + (f', "{data["why"]}"' if data.get("why") else "")
    if row.type == PersonalDataAccepted.TYPE:
        rows = personal_data({"kind": kind, "rows": count} for kind, count in data.get("kinds", {}).items())
        return f"personal data accepted: {data.get('dataset_id')} version {data.get('version_id')} ({rows})"
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in row.type).strip()
    subject = row.stream.partition("-")[2] or " ".join(str(data[one]) for one in ("subject", "role") if one in data)
    return f"{words}: {subject}" if subject else words
