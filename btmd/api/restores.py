"""Restores: an earlier state brought back, whole or in parts, after a look at what would change."""

import sqlite3
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from btmd.api.answers import Progress, described, json_answer, working_answer
from btmd.api.history import POSITION_EXAMPLE, position_json
from btmd.api.idempotency import Key, kept_or, stored_answer
from btmd.api.operation import Router, operation
from btmd.api.paging import PAGE, Before, Limit
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.api.shapes import keyed, no, null_or, nullable, one_of, optional, typed
from btmd.api.times import rfc3339
from btmd.api.work import heard
from btmd.child.caller import OnProgress, ignore_progress
from btmd.domain.event import Actor
from btmd.domain.restore import STREAM, Manner, Mode, Prefer, Restored, RestoreStarted, components
from btmd.errors import InvalidValue
from btmd.restoring.restore import Done, Prepared, in_words
from btmd.restoring.target import LogTarget, RestoreTarget, target_in_backup
from btmd.store.past import Position, newest_rows, version_at
from btmd.store.recorded import Recorded

router = Router(tags=("settings",))

RESTORED_EXAMPLE = typed(Restored, {"component": "settings", "subject": "training.seed", "before": 7, "after": None})
EXAMPLE: dict[str, Any] = {
    "message": "Restored the state after event 41: 1 change.",
    "restore_id": nullable("4f1c0a9e77"),
    "dry_run": False,
    "target": {**POSITION_EXAMPLE, "seq": 41, "backup_id": null_or("9f86d081884c7d65")},
    "components": ["settings", "presets", "models", "datasets", "access"],
    "mode": one_of("replace", get_args(Mode)),
    "prefer": null_or(one_of("current", get_args(Prefer))),
    "expected_head": 57,
    "changes": [RESTORED_EXAMPLE],
    "conflicts": no(RESTORED_EXAMPLE),
    "left_alone": ["datasets: faq cannot come back, its contents are gone"],
    "undo_seq": nullable(57),
}


class HowToRestore(msgspec.Struct):
    """Which parts, and who wins where both states have something."""

    only: Annotated[list[str], Meta(max_length=50)] | None = None
    mode: Literal["replace", "merge"] = "replace"
    prefer: Literal["current", "restored"] | None = None
    dry_run: bool = False
    expected_head: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    force: bool = False


class Restore(HowToRestore):
    """Exactly one of ``at`` (a time), ``seq`` (the number of an event), ``backup_id``; only those parts.

    ``replace`` has the parts as they were; ``merge`` adds what is missing, and ``prefer`` says who wins where both have
    something. ``expected_head`` is that of a preview (``dry_run``): with ``force`` it may have moved on.
    """

    at: Annotated[str, Meta(max_length=100)] | None = None
    seq: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    backup_id: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


class BackupRestore(HowToRestore, kw_only=True):
    """The backup by its id, the beginning of it, or ``last``; the rest is as for ``POST /restores``."""

    backup_id: Annotated[str, Meta(min_length=1, max_length=200)]


@operation(router, "POST", "/restore", Permission.ADMIN, **described(EXAMPLE, errors=(404, 409), progress=True))
async def restore_backup(body: BackupRestore, request: Request, key: Key, parts: Parts, actor: Actor) -> Response:
    """Bring back the state that a backup holds; it is read through first, and a damaged one changes nothing."""
    return await _done(Restore(**msgspec.structs.asdict(body)), request, key, parts, actor)


@operation(router, "POST", "/restores", Permission.ADMIN, **described(EXAMPLE, errors=(404, 409), progress=True))
async def restore(body: Restore, request: Request, key: Key, parts: Parts, actor: Actor) -> Response:
    """Bring back the state of a moment; with `dry_run`, only say what would change.

    Give the preview's `expected_head` to apply exactly what was shown: it is refused when something of it changed
    since, unless `force` is true. A restore is undone by another one to `undo_seq`, `only` of the same `components`.
    """
    return await _done(body, request, key, parts, actor)


RESTORE_EXAMPLE = {
    **typed(
        RestoreStarted,
        {
            "restore_id": "4f1c0a9e77",
            "target_seq": 41,
            "components": ["settings", "presets"],
            "mode": "replace",
            "prefer": None,
            "expected_head": 57,
            "forced": False,
            "backup_id": "",
        },
    ),
    # Of one that came to its end.
    "changed": optional(keyed({"settings": 1})),
    "left_alone": optional(["datasets: faq cannot come back, its contents are gone"]),
    "number": 58,
    "recorded_at": "2026-11-22T14:00:00.000000Z",
    "actor": {"uid": 1000, "name": "ada"},
}


@operation(router, "GET", "/restores", Permission.READ, **described([RESTORE_EXAMPLE], text="newest first"))
async def list_restores(parts: Parts, limit: Limit = PAGE, before: Before = None) -> Response:
    """The restores there were. One of the same `components` to the event before `number`, its first, undoes it.

    Older ones with `before`.
    """

    def read(connection: sqlite3.Connection) -> list[Recorded]:
        version = None if before is None else version_at(connection, STREAM, before - 1) + 1
        # Each has two events; one that did not come to its end has one.
        return newest_rows(connection, STREAM, 2 * limit, version)

    rows = await parts.store.query(read)
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
        ][:limit]
    )


async def _done(body: Restore, request: Request, key: Key, parts: Parts, actor: Actor) -> Response:
    if body.backup_id is None:
        return json_answer(await _restored_by(body, parts, actor, key, ignore_progress))

    async def work(progress: Progress) -> dict[str, Any]:
        async with heard(progress) as on_progress:
            return await _restored_by(body, parts, actor, key, on_progress)

    return await working_answer(request, work, parts.stopping)


async def _restored_by(body: Restore, parts: Parts, actor: Actor, key: Key, on_progress: OnProgress) -> dict[str, Any]:
    manner = _manner(body)
    target, shown = await _target(parts, body, on_progress)
    if body.dry_run:
        return _answer(shown, await parts.restoring.prepare(target, manner, actor.uid), None)
    done = await parts.restoring.restore(
        target,
        manner,
        actor=actor,
        expected_head=body.expected_head,
        force=body.force,
        idempotency=key,
        respond=lambda done: stored_answer(_answer(shown, done.prepared, done)),
    )
    return await kept_or(parts, key, _answer(shown, done.prepared, done))


def _manner(body: Restore) -> Manner:
    mode: Mode = body.mode
    prefer: Prefer | None = body.prefer
    if prefer is not None and mode != "merge":
        raise InvalidValue("Only a merge has something to prefer.", hint="Use --mode merge with --prefer.")
    return Manner(components(body.only), mode, prefer)


async def _target(parts: Parts, body: Restore, on_progress: OnProgress) -> tuple[RestoreTarget, dict[str, Any]]:
    """The state that is meant, and how it is told."""
    if sum(one is not None for one in (body.at, body.seq, body.backup_id)) != 1:
        raise InvalidValue(
            "A restore needs exactly one of at, seq and backup_id.", hint="/openapi.json shows examples."
        )
    if body.backup_id is not None:
        row = await parts.backups.known.find(body.backup_id)
        target = await target_in_backup(row, parts.backups, parts.store, parts.history, on_progress)
        return target, _shown(Position(row.head_seq, row.created_us, row.created_us), row.backup_id)
    if body.at is not None:
        position = await parts.history.find(body.at)
    else:
        position = await parts.history.position(body.seq or 0)
    return LogTarget(parts.history, position.seq), _shown(position, None)


def _shown(position: Position, backup_id: str | None) -> dict[str, Any]:
    return {**position_json(position), "backup_id": backup_id}


def _answer(shown: dict[str, Any], prepared: Prepared, done: Done | None) -> dict[str, Any]:
    plan, manner = prepared.plan, prepared.manner
    count = "1 change" if len(plan.changes) == 1 else f"{len(plan.changes)} changes"
    whence = f"{'in' if prepared.target.backup_id else 'after'} {in_words(prepared.target)}"
    applied = done is not None and bool(done.rows)
    message = f"{'Restored' if applied else 'Restoring'} the state {whence}: {count}."
    if done is not None and not applied:
        message = f"Nothing was changed: what may come back is as it was {whence}."
    return {
        "message": message,
        "restore_id": done.restore_id if done is not None and applied else None,
        "dry_run": done is None,
        "target": shown,
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
