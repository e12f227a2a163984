"""Backups: make, list, look into, check, prove by a drill, delete, let old ones go."""

import os
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from btmd import __version__
from btmd.api.answers import Progress, described, json_answer, working_answer
from btmd.api.idempotency import Key, earlier_answer, once, stored_answer
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.api.shapes import either, null_or, nullable
from btmd.api.times import optional_rfc3339, rfc3339
from btmd.api.work import heard
from btmd.backup.requests import CheckAnswer
from btmd.backups.folders import fault_of
from btmd.backups.keeper import Made, Wish
from btmd.domain.backup import STREAM, BackupFacts, BackupsState
from btmd.domain.event import Actor
from btmd.projections.backup import BackupRow

router = Router(tags=("backups",))

EXAMPLE = {
    "backup_id": "9f86d081884c7d65",
    "created_at": "2026-11-22T14:00:00.000000Z",
    "description": "Manual backup",
    "backup_path": "/home/ada/.local/state/btmd/backups/manifests/9f86d081884c7d65...",
    "size_mb": 0.42,
    "kind": "full",
    "cause": "manual",
    "events": 812,
    "head_seq": 812,
    "epoch": 1,
    "artefacts": 0,
    "components": ["settings", "presets", "models", "datasets", "access", "jobs"],
}
ONLY_THE_KEY = (
    "Backups are sealed. Only the keys in this machine's state folder open them: if the disk is lost, so is every"
    " backup, wherever it lies. `btmctl backup key show-recovery` gives a key to write down."
)
CREATED_EXAMPLE = {**EXAMPLE, "new_events": 20, "new_mb": 0.004, "frees_mb": 0.004, "notices": [ONLY_THE_KEY]}
LISTED_EXAMPLE = {
    **EXAMPLE,
    "new_mb": nullable(0.004),
    "frees_mb": nullable(0.004),
    "reachable": True,
    "verified_at": nullable("2026-11-22T15:00:00.000000Z"),
    "drilled_at": null_or("2026-11-22T16:00:00.000000Z"),
    "fault": "",
}
CHECK_EXAMPLE = {
    "backup_id": "9f86d081884c7d65",
    "ok": True,
    "events": 812,
    "artefacts": 0,
    "erased": 0,
    "size_bytes": 420_000,
    "state": "matches",
    "code": "",
    "detail": "",
    "hint": "",
}
DELETED_EXAMPLE = either(
    {"message": "The backup 9f86d081884c7d65 is deleted; ...", "backup_id": "9f86d081884c7d65", "freed_mb": 0.004},
    {"message": "The backup 9f86d081884c7d65 would go.", "dry_run": True, **LISTED_EXAMPLE},
)


class BackupCreation(msgspec.Struct):
    """``only`` names parts of the log; ``to`` is a folder on this machine, for the daemon's own user.

    Others take the files of `GET /backups/{backup_id}/files`.
    """

    description: Annotated[str, Meta(max_length=1000)] = "Manual backup"
    kind: Literal["config", "full", "selective"] | None = None
    only: Annotated[list[str], Meta(max_length=50)] | None = None
    with_artefacts: bool = False
    to: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None

    def wish(self) -> Wish:
        kind = self.kind or ("selective" if self.only else "full")
        return Wish(kind, tuple(self.only or ()), self.description, "manual", self.with_artefacts, self.to)


def backup_json(folder: str, facts: BackupFacts) -> dict[str, Any]:
    return {
        "backup_id": facts.backup_id,
        "created_at": rfc3339(facts.created_at_us),
        "description": facts.description,
        "backup_path": os.path.join(folder, "manifests", facts.name),
        "size_mb": _mb(facts.size_bytes),
        "kind": facts.kind,
        "cause": facts.cause,
        "events": facts.events,
        "head_seq": facts.head_seq,
        "epoch": facts.epoch,
        "artefacts": facts.artefacts,
        "components": facts.components,
    }


def row_json(row: BackupRow, freed_bytes: int | None) -> dict[str, Any]:
    """``frees_mb`` is what deleting it would free; None where its folder is out of reach."""
    return {
        **backup_json(row.folder, row.facts),
        "new_mb": None if row.written_bytes is None else _mb(row.written_bytes),
        "frees_mb": None if freed_bytes is None else _mb(freed_bytes),
        "reachable": freed_bytes is not None,
        "verified_at": optional_rfc3339(row.verified_us),
        "drilled_at": optional_rfc3339(row.drilled_us),
        "fault": row.fault,
    }


def made_json(made: Made, state: BackupsState) -> dict[str, Any]:
    return {
        **backup_json(made.folder, made.facts),
        "new_events": made.new_events,
        "new_mb": _mb(made.written_bytes),
        "frees_mb": _mb(made.freed_bytes),
        "notices": [] if state.opens_elsewhere else [ONLY_THE_KEY],
    }


def check_json(row: BackupRow, check: CheckAnswer) -> dict[str, Any]:
    values = msgspec.structs.asdict(check)
    del values["name"]
    return {"backup_id": row.backup_id, "ok": not check.code, **values}


def _mb(size_bytes: int) -> float:
    return round(size_bytes / 1e6, 6)


def _size(size_bytes: int) -> str:
    """Powers of ten, as the fields in MB are."""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if amount >= 100 or unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


@operation(
    router,
    "POST",
    "/backup",
    Permission.ADMIN,
    **described(CREATED_EXAMPLE, text="Backup", errors=(400, 404, 409), progress=True),
)
async def create_backup(
    request: Request, key: Key, parts: Parts, actor: Actor, body: BackupCreation | None = None
) -> Response:
    """Make a backup; only what is new since the one before is written. JSON lines where they are accepted."""
    wish = Wish() if body is None else body.wish()

    async def work(progress: Progress) -> dict[str, Any]:
        async with heard(progress) as on_progress:
            made = await parts.backups.create(
                wish,
                actor=actor,
                on_progress=on_progress,
                idempotency=key,
                respond=lambda made, state: stored_answer(made_json(made, state)),
            )
        if made is None:
            earlier = await earlier_answer(parts, key)
            assert earlier is not None
            return dict(msgspec.json.decode(earlier.body))
        state, _ = await parts.handler.state(STREAM)
        return made_json(made, state)

    return await working_answer(request, work, parts.stopping)


@operation(router, "GET", "/backups", Permission.READ, **described([LISTED_EXAMPLE], text="newest first"))
async def list_backups(parts: Parts) -> Response:
    """Every backup that is known: those in the state folder, and those that were made into other folders."""
    return json_answer([row_json(row, freed_bytes) for row, freed_bytes in await parts.backups.known.listed()])


@operation(router, "DELETE", "/backup/{backup_id}", Permission.ADMIN, **described(DELETED_EXAMPLE, errors=(404,)))
async def delete_backup(backup_id: str, parts: Parts, actor: Actor, dry_run: bool = False) -> Response:
    """Delete one backup; every other one stays whole. With `dry_run`, only say which one it would be."""
    row = await parts.backups.known.find(backup_id, also_lost=True)
    if dry_run:
        shown = row_json(row, parts.backups.known.freed_bytes(row))
        return json_answer({"message": f"The backup {row.backup_id} would go.", "dry_run": True, **shown})
    freed_bytes = await parts.backups.delete(row, actor=actor)
    return json_answer(
        {
            "message": f"The backup {row.backup_id} is deleted; that freed {_size(freed_bytes)}.",
            "backup_id": row.backup_id,
            "freed_mb": _mb(freed_bytes),
        }
    )


PRUNED_EXAMPLE = {
    "message": "...",
    "dry_run": False,
    "deleted": ["9f86d081884c7d65"],
    "freed_mb": 1.2,
    "over_mb": 0.0,
}


class Pruning(msgspec.Struct):
    """``dry_run`` only names those that would go."""

    dry_run: bool = False


@operation(router, "POST", "/backups/prune", Permission.ADMIN, **described(PRUNED_EXAMPLE, progress=True))
async def prune_backups(
    request: Request, key: Key, parts: Parts, actor: Actor, body: Pruning | None = None
) -> Response:
    """Let go the backups in the state folder that the settings `backup.keep_*` and `backup.max_gb` do not keep."""
    dry_run = body is not None and body.dry_run

    async def work(progress: Progress) -> dict[str, Any]:
        async with heard(progress) as on_progress:
            pruned = await parts.backups.prune(actor=actor, dry_run=dry_run, on_progress=on_progress)
        count = "1 backup" if len(pruned.names) == 1 else f"{len(pruned.names)} backups"
        went, freed = ("would go", "that would free") if dry_run else ("went", "that freed")
        return {
            "message": f"{count} {went}; {freed} {_size(pruned.freed_bytes)}.",
            "dry_run": dry_run,
            "deleted": [name[:16] for name in pruned.names],
            "freed_mb": _mb(pruned.freed_bytes),
            "over_mb": _mb(pruned.over_bytes),
        }

    answered = work if dry_run else once(parts, actor, key, work)
    return await working_answer(request, answered, parts.stopping)


@operation(
    router,
    "POST",
    "/backups/verify",
    Permission.ADMIN,
    **described({"backups": [CHECK_EXAMPLE], "out_of_reach": ["/media/stick/backups"]}, progress=True),
)
async def verify_backups(request: Request, key: Key, parts: Parts, actor: Actor) -> Response:
    """Read every backup within reach through; what is wrong with one, or that it is gone, stands in its entry."""

    async def work(progress: Progress) -> dict[str, Any]:
        async with heard(progress) as on_progress:
            checked, away = await parts.backups.verify_all(actor=actor, on_progress=on_progress)
        return {"backups": [check_json(row, check) for row, check in checked], "out_of_reach": away}

    return await working_answer(request, once(parts, actor, key, work), parts.stopping)


SHOWN_EXAMPLE = {
    **LISTED_EXAMPLE,
    "store_id": "0f3b5c7d9e1a2b4c",
    "head_hash": "2d7243faa3e5a560...",
    "state_hash": "b5bb9d8014a0f9b1...",
    "btmd_version": __version__,
    "schema": 12,
    "contents": [
        {
            "kind": "adapter",
            "owner": "k3q7zv2m5a",
            "name": "adapter_model.safetensors",
            "size_bytes": 4711,
            "erased": False,
        }
    ],
    "omissions": [{"what": "base models", "count": 1, "size_bytes": 538090408, "then": "Keep a copy of the folders."}],
}


@operation(router, "GET", "/backups/{backup_id}", Permission.READ, **described(SHOWN_EXAMPLE, errors=(404,)))
async def show_backup(backup_id: str, parts: Parts) -> Response:
    """One backup: what is in it, and what a restore from it would miss."""
    row = await parts.backups.known.find(backup_id)
    shown = await parts.backups.show(row)
    values = msgspec.structs.asdict(shown)
    return json_answer(
        {
            **row_json(row, parts.backups.known.freed_bytes(row)),
            **{name: value for name, value in values.items() if name not in ("artefacts", "parts")},
            "contents": shown.artefacts,
        }
    )


@operation(
    router,
    "POST",
    "/backups/{backup_id}/verify",
    Permission.ADMIN,
    **described(CHECK_EXAMPLE, errors=(404,), progress=True),
)
async def verify_backup(backup_id: str, request: Request, key: Key, parts: Parts, actor: Actor) -> Response:
    """Read one backup through: checksums, seals, links, the hash chain, the state. 503 names what is wrong with it."""
    row = await parts.backups.known.find(backup_id)

    async def work(progress: Progress) -> dict[str, Any]:
        async with heard(progress) as on_progress:
            ((_, check),) = await parts.backups.verify([row], actor=actor, on_progress=on_progress)
        if check.code:
            raise fault_of(check.code, check.detail, check.hint)
        return check_json(row, check)

    return await working_answer(request, once(parts, actor, key, work), parts.stopping)


DRILL_EXAMPLE = {
    "backup_id": "9f86d081884c7d65",
    "proved": True,
    "events": 812,
    "head_seq": 812,
    "duration_s": 0.4,
    "state": "matches",
}


@operation(
    router,
    "POST",
    "/backups/{backup_id}/drill",
    Permission.ADMIN,
    **described(DRILL_EXAMPLE, errors=(404,), progress=True),
)
async def drill_backup(backup_id: str, request: Request, key: Key, parts: Parts, actor: Actor) -> Response:
    """Restore a full backup (`last`: the newest) into a temporary place and compare the state. 503 says what failed."""
    row = await parts.backups.known.newest_full() if backup_id == "last" else await parts.backups.known.find(backup_id)

    async def work(progress: Progress) -> dict[str, Any]:
        async with heard(progress) as on_progress:
            done = await parts.backups.drill(row, actor=actor, on_progress=on_progress)
        if done.code:
            raise fault_of(done.code, done.detail)
        return {
            "backup_id": row.backup_id,
            "proved": True,
            "events": done.events,
            "head_seq": done.head_seq,
            "duration_s": done.duration_us / 1e6,
            "state": done.state,
        }

    return await working_answer(request, once(parts, actor, key, work), parts.stopping)
