"""Restores: an earlier state brought back, whole or in parts, after a look at what would change."""

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.history import position_json
from btmd.api.idempotency import earlier_answer, key_of, stored_answer
from btmd.api.parts import Parts
from btmd.api.permission import ActorOf, PartsOf, Permission, operation
from btmd.api.times import rfc3339
from btmd.domain.restore import STREAM, Manner, Mode, Prefer, Restored, components
from btmd.errors import BackupNotFound, InvalidValue
from btmd.restoring import Done, Prepared
from btmd.store.past import Position, newest_rows

router = APIRouter(prefix="/restores", tags=["settings"])

EXAMPLE: dict[str, Any] = {
    "message": "Restored the state after event 41: 1 change.",
    "restore_id": "4f1c0a9e77",
    "dry_run": False,
    "target": {"seq": 41, "wall_at": "2026-11-22T13:00:00.000000Z", "recorded_at": "2026-11-22T13:00:00.000000Z"},
    "components": ["settings", "presets", "models", "datasets", "access"],
    "mode": "replace",
    "prefer": None,
    "expected_head": 57,
    "changes": [{"component": "settings", "subject": "training.seed", "before": 7, "after": None}],
    "conflicts": [],
    "left_alone": [],
    "undo_seq": 57,
}


class Restore(BaseModel):
    """Exactly one of ``at`` (a time), ``seq`` (the number of an event), ``backup_id``."""

    at: str | None = Field(default=None, max_length=100)
    seq: int | None = Field(default=None, ge=0, le=2**62)
    backup_id: str | None = Field(default=None, min_length=1, max_length=200)
    only: list[str] | None = Field(default=None, max_length=50)
    mode: Literal["replace", "merge"] = "replace"
    prefer: Literal["current", "restored"] | None = None
    dry_run: bool = False
    expected_head: int | None = Field(default=None, ge=0, le=2**62)
    force: bool = False


@operation(router, "POST", "", Permission.ADMIN, **described(EXAMPLE, errors=(404, 409)))
async def restore(body: Restore, request: Request, parts: PartsOf, actor: ActorOf) -> Response:
    """Bring back the state of a moment; with `dry_run`, only say what would change.

    Give the preview's `expected_head` to apply exactly what was shown: it is refused when something of it changed
    since, unless `force` is true. A restore is undone by another one to `undo_seq`.
    """
    key = await key_of(request, actor)
    earlier = await earlier_answer(parts, key)
    if earlier is not None:
        return earlier
    manner = _manner(body)
    target = await _target(parts, body)
    if body.dry_run:
        prepared = await parts.restoring.prepare(target.seq, manner, actor.uid)
        return json_answer(_answer(target, prepared, None))
    done = await parts.restoring.restore(
        target.seq,
        manner,
        actor=actor,
        expected_head=body.expected_head,
        force=body.force,
        idempotency=key,
        respond=lambda done: stored_answer(_answer(target, done.prepared, done)),
    )
    return json_answer(_answer(target, done.prepared, done))


RESTORE_EXAMPLE = {"restore_id": "4f1c0a9e77", "number": 58, "recorded_at": "2026-11-22T14:00:00.000000Z"}


@operation(router, "GET", "", Permission.READ, **described([RESTORE_EXAMPLE], text="newest first"))
async def list_restores(parts: PartsOf) -> Response:
    """The restores there were. `number` is that of the first event: one to the event before undoes it."""
    rows = await parts.store.query(lambda connection: newest_rows(connection, STREAM, 2000))
    completed = {row.data["restore_id"]: row.data for row in rows if row.type == "RestoreCompleted"}
    return json_answer(
        [
            {
                **row.data,
                **completed.get(row.data["restore_id"], {}),
                "number": row.seq,
                "recorded_at": rfc3339(row.recorded_at_us),
                "actor": {"uid": row.actor.uid, "name": row.actor.name},
            }
            for row in rows
            if row.type == "RestoreStarted"
        ]
    )


def _manner(body: Restore) -> Manner:
    mode: Mode = body.mode
    prefer: Prefer | None = body.prefer
    if prefer is not None and mode != "merge":
        raise InvalidValue("Only a merge has something to prefer.", hint="Use --mode merge with --prefer.")
    return Manner(components(body.only), mode, prefer)


async def _target(parts: Parts, body: Restore) -> Position:
    if sum(one is not None for one in (body.at, body.seq, body.backup_id)) != 1:
        raise InvalidValue(
            "A restore needs exactly one of at, seq and backup_id.", hint="/openapi.json shows examples."
        )
    if body.at is not None:
        return await parts.history.find(body.at)
    if body.seq is not None:
        return await parts.history.position(body.seq)
    raise BackupNotFound(f"There is no backup called {body.backup_id}.", hint="`btmctl restore --at TIME` needs none.")


def _answer(target: Position, prepared: Prepared, done: Done | None) -> dict[str, Any]:
    plan, manner = prepared.plan, prepared.manner
    count = "1 change" if len(plan.changes) == 1 else f"{len(plan.changes)} changes"
    applied = done is not None and bool(done.rows)
    return {
        "message": f"{'Restored' if applied else 'Restoring'} the state after event {target.seq}: {count}.",
        "restore_id": done.restore_id if done is not None and applied else None,
        "dry_run": done is None,
        "target": position_json(target),
        "components": manner.components,
        "mode": manner.mode,
        "prefer": manner.prefer,
        "expected_head": prepared.head_seq,
        "changes": [_restored(one) for one in plan.changes],
        "conflicts": [_restored(one) for one in plan.conflicts],
        "left_alone": plan.left_alone,
        "undo_seq": done.rows[0].seq - 1 if done is not None and applied else None,
    }


def _restored(one: Restored) -> dict[str, Any]:
    return {"component": one.component, "subject": one.subject, "before": one.before, "after": one.after}
