"""Room on the disk: what takes it, and making some; deleting jobs."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import anyio
import anyio.to_thread
import msgspec
from msgspec import Meta
from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.idempotency import Key, once
from btmd.api.jobs import found_job
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import JOB, Permission
from btmd.api.shapes import no, nullable, one_of
from btmd.api.times import optional_rfc3339
from btmd.api.user_room import dataset_sizes
from btmd.domain import settings
from btmd.domain.event import Actor
from btmd.domain.job import STATES
from btmd.domain.settings import SettingsState
from btmd.domain.units import GIB
from btmd.errors import InvalidValue
from btmd.jobs.disk_use import CANCELLED, KINDS, Removable, folder_bytes
from btmd.projections.dataset import datasets, versions
from btmd.projections.job import jobs

router = Router(tags=("disk",))

MOST_JOBS = 1_000_000
REMOVABLE_EXAMPLE = {
    "kind": one_of(CANCELLED, KINDS),
    "job_id": "k3q7zv2m5a",
    "names": ["step-00000040"],
    "size_bytes": 52_428_800,
}
EXAMPLE: dict[str, Any] = {
    "total_bytes": 500_000_000_000,
    "free_bytes": 120_000_000_000,
    "budget_bytes": 0,
    "jobs_bytes": 210_000_000,
    "jobs": [
        {
            "job_id": "k3q7zv2m5a",
            "name": "",
            "state": one_of("cancelled", (*STATES, "unknown")),
            "ended_at": nullable("2026-11-22T14:10:00.000000Z"),
            "total_bytes": 60_000_000,
            "checkpoints_bytes": 52_428_800,
            "checkpoints": 1,
            "result_bytes": 0,
            "left_overs_bytes": 0,
        }
    ],
    "datasets": [{"dataset_id": "facts", "size_bytes": 1_000_000}],
    "parts": [{"name": "event log", "size_bytes": 9_000_000}],
    "removable": [REMOVABLE_EXAMPLE],
    "removable_bytes": 52_428_800,
}


@operation(router, "GET", "/disk", Permission.READ, **described(EXAMPLE))
async def disk(parts: Parts) -> Response:
    """What takes room, by job, dataset and part, the largest first, and what of it could go. Bytes."""
    config = parts.config
    uses = await parts.housekeeping.uses()
    removable = await parts.housekeeping.removable()
    async with parts.store.session() as session:
        rows = {row.job_id: row for row in await jobs(session, limit=MOST_JOBS)}
        named = {
            row.dataset_id: [one.rows_sha256 for one in await versions(session, row.dataset_id)]
            for row in await datasets(session)
        }
    listed = [
        {
            "job_id": job_id,
            "name": rows[job_id].name if job_id in rows else "",
            "state": rows[job_id].state if job_id in rows else "unknown",
            "ended_at": optional_rfc3339(rows[job_id].ended_us) if job_id in rows else None,
            "total_bytes": use.total_bytes,
            "checkpoints_bytes": use.checkpoints_bytes,
            "checkpoints": len(use.checkpoints),
            "result_bytes": use.result_bytes,
            "left_overs_bytes": use.left_overs_bytes,
        }
        for job_id, use in uses.items()
    ]
    state, _ = await parts.handler.state(settings.STREAM)
    space = await anyio.to_thread.run_sync(shutil.disk_usage, config.state_dir)
    places = {
        "backups": config.backups_dir,
        "models kept here": config.models_dir,
        "caches": config.cache_dir,
        "rows of datasets": config.content_dir,
    }
    async with parts.housekeeping.walks.turn():
        found = await anyio.to_thread.run_sync(_sizes, places)
        found["event log"] = await anyio.to_thread.run_sync(_log_bytes, config.database_path)
        sizes = await anyio.to_thread.run_sync(dataset_sizes, parts.contents, named)
    return json_answer(
        {
            "total_bytes": space.total,
            "free_bytes": space.free,
            "budget_bytes": int(float((state or SettingsState()).get("disk.budget_gb")) * GIB),
            "jobs_bytes": sum(use.total_bytes for use in uses.values()),
            "jobs": sorted(listed, key=lambda one: -one["total_bytes"]),
            "datasets": _largest_first("dataset_id", sizes),
            "parts": _largest_first("name", found),
            "removable": [_as_values(one) for one in removable],
            "removable_bytes": sum(one.size_bytes for one in removable),
        }
    )


class Clean(msgspec.Struct):
    """``only``: kinds of what goes; all of them when left out. With ``dry_run`` nothing does."""

    only: Annotated[list[str], Meta(max_length=len(KINDS))] | None = None
    dry_run: bool = False


@operation(
    router,
    "POST",
    "/disk/clean",
    Permission.ADMIN,
    **described({"freed_bytes": 52_428_800, "removed": [REMOVABLE_EXAMPLE], "dry_run": False}, errors=(409,)),
)
async def clean(key: Key, parts: Parts, actor: Actor, body: Clean | None = None) -> Response:
    """Remove what crashes left, caches, and checkpoints of ended jobs; results and best states of completed ones stay.

    A failed job whose checkpoints went can only be begun anew.
    """
    body = body or Clean()
    kinds = KINDS if body.only is None else tuple(body.only)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        wrong = f"There is nothing called {unknown[0]!r} to clean." if unknown else "Nothing is to be cleaned."
        raise InvalidValue(wrong, hint=f"Choose from: {', '.join(KINDS)}.")
    if body.dry_run:
        return json_answer(_cleaned(await parts.housekeeping.removable(kinds), dry_run=True))

    async def work() -> dict[str, Any]:
        return _cleaned((await parts.housekeeping.clean(kinds, actor=actor)).removed, dry_run=False)

    return json_answer(await once(parts, actor, key, work)())


def _cleaned(removed: Sequence[Removable], *, dry_run: bool) -> dict[str, Any]:
    freed_bytes = sum(one.size_bytes for one in removed)
    return {"freed_bytes": freed_bytes, "removed": [_as_values(one) for one in removed], "dry_run": dry_run}


DELETED_EXAMPLE = {
    "job_id": "k3q7zv2m5a",
    "name": "",
    "state": one_of("cancelled", STATES),
    "freed_bytes": 60_000_000,
    "needed_by": no("the training p5xw2jc7qd goes on from its adapter"),
    "dry_run": False,
    "message": "It was deleted; its history stays in the log.",
}


@operation(
    router,
    "DELETE",
    "/jobs/{job_id}",
    Permission.OWN,
    JOB,
    **described(DELETED_EXAMPLE, errors=(404, 409)),
)
async def delete(job_id: str, parts: Parts, actor: Actor, force: bool = False, dry_run: bool = False) -> Response:
    """Delete an ended job with all of its files, the result too; its history stays in the log.

    Refused where a waiting training or a registered model needs it, unless `force` is true. `dry_run` only says what.
    """
    row = await found_job(parts, job_id)
    if dry_run:
        use = (await parts.housekeeping.uses()).get(row.job_id)
        needs = await parts.housekeeping.needs_of(row)
        freed_bytes = 0 if use is None else use.total_bytes
        message = "It would be deleted."
    else:
        needs = []
        freed_bytes = await parts.housekeeping.delete(row, actor=actor, force=force)
        message = "It was deleted; its history stays in the log."
    answer = {
        "job_id": row.job_id,
        "name": row.name,
        "state": row.state,
        "freed_bytes": freed_bytes,
        "needed_by": needs,
        "dry_run": dry_run,
        "message": message,
    }
    return json_answer(answer)


def _as_values(one: Removable) -> dict[str, Any]:
    # Left-overs are named by paths, of which the last part says enough.
    names = [Path(name).name for name in one.names]
    return {"kind": one.kind, "job_id": one.job_id, "names": names, "size_bytes": one.size_bytes}


def _largest_first(key: str, sizes: dict[str, int]) -> list[dict[str, Any]]:
    found = [{key: name, "size_bytes": size_bytes} for name, size_bytes in sizes.items()]
    return sorted(found, key=lambda one: -int(one["size_bytes"]))


def _sizes(places: dict[str, Path]) -> dict[str, int]:
    return {name: folder_bytes(path) for name, path in places.items()}


def _log_bytes(path: Path) -> int:
    return sum(folder_bytes(path.with_name(path.name + ending)) for ending in ("", "-wal", "-shm"))
