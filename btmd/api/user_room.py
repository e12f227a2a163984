"""How much of the disk a user's things take, and how much a limit leaves them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio.to_thread
from sqlmodel import col, select
from starlette.requests import Request

from btmd.api.parts import Parts
from btmd.api.permission import limits_of
from btmd.domain.event import Actor
from btmd.domain.units import GIB, format_bytes
from btmd.errors import InvalidValue, OverLimit
from btmd.jobs.disk_use import folder_bytes
from btmd.projections.dataset import datasets, versions
from btmd.projections.job import JobRow
from btmd.projections.model import models
from btmd.registry.content import ContentStore


async def require_room(needed_bytes: int, actor: Actor, parts: Parts) -> None:
    """Raises OverLimit where the user's limit does not leave so much."""
    limit_gb = (await limits_of(actor, parts)).get("disk_gb")
    if limit_gb is None:
        return
    used_bytes = await _used_bytes(actor.uid, parts)
    if used_bytes + needed_bytes > limit_gb * GIB:
        raise OverLimit(
            f"The user {actor.name} may take {limit_gb:g} GB of the disk; {format_bytes(used_bytes)} are taken, and "
            f"this needs {format_bytes(needed_bytes)}.",
            hint="`btmctl disk` shows what takes room; `btmctl jobs delete`, `datasets remove` and "
            "`models remove` make some.",
        )


async def require_room_for_body(request: Request, actor: Actor, parts: Parts) -> None:
    """As ``require_room``, for what is being sent; who is limited has to tell its size. Raises InvalidValue too."""
    told = request.headers.get("content-length", "")
    if told.isdigit():
        await require_room(int(told), actor, parts)
    elif "disk_gb" in await limits_of(actor, parts):
        raise InvalidValue("How much will be sent has to be told beforehand.", hint="Send it with Content-Length.")


async def _used_bytes(uid: int, parts: Parts) -> int:
    uses = await parts.housekeeping.uses()
    async with parts.store.session() as session:
        owned = select(JobRow.job_id).where(JobRow.owner_uid == uid).where(col(JobRow.job_id).in_(list(uses)))
        jobs_bytes = sum(uses[job_id].total_bytes for job_id in await session.exec(owned))
        named = {
            row.dataset_id: [one.rows_sha256 for one in await versions(session, row.dataset_id)]
            for row in await datasets(session)
            if row.owner_uid == uid
        }
    sizes = await anyio.to_thread.run_sync(dataset_sizes, parts.contents, named)
    sent_bytes = await anyio.to_thread.run_sync(parts.contents.sent_bytes, uid)
    return jobs_bytes + sum(sizes.values()) + sent_bytes + await _models_bytes(uid, parts)


async def _models_bytes(uid: int, parts: Parts) -> int:
    """What the user's models take that are kept here, and what arrived of others."""
    async with parts.store.session() as session:
        kept = [Path(row.folder) for row in await models(session) if row.owner_uid == uid and row.converted]

    def measure() -> int:
        return sum(map(folder_bytes, kept)) + parts.sent_models.uploads.arrived_bytes(uid)

    return await anyio.to_thread.run_sync(measure)


def dataset_sizes(contents: ContentStore, named: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """By dataset. What versions of one share is counted once; what two datasets share, for both."""
    return {
        dataset_id: sum(folder_bytes(contents.path(one)) for one in contents.with_chunks(rows))
        for dataset_id, rows in named.items()
    }
