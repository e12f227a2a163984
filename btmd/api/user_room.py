"""How much of the disk a user's things take, and how much a limit leaves them."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
from sqlmodel import select
from starlette.requests import Request

from btmd.api.parts import Parts
from btmd.api.permission import limits_of, role_of
from btmd.domain.access import ADMIN
from btmd.domain.event import Actor
from btmd.domain.ownership import Thing
from btmd.domain.units import GIB, format_bytes
from btmd.errors import InvalidValue, OverLimit
from btmd.jobs.disk_use import folder_bytes
from btmd.projections.dataset import datasets, versions
from btmd.projections.forecast import forecast_of
from btmd.projections.job import JobRow, unfinished_jobs
from btmd.projections.model import ModelRow, models
from btmd.registry.content import ContentStore

MOST_UNFINISHED = 200
"""Trainings of one user who is no admin."""
_TO_COME: Counter[int] = Counter()
"""By user, what of the bodies that are being sent has not arrived yet; there is one server in a process."""


async def require_room(needed_bytes: int, actor: Actor, parts: Parts) -> None:
    """Raises OverLimit where the user's limit does not leave so much."""
    limit_gb = (await limits_of(actor, parts)).get("disk_gb")
    if limit_gb is None:
        return
    to_come = _TO_COME[actor.uid]
    used_bytes = await _used_bytes(actor.uid, parts)
    # What arrived while it was looked may stand in neither; what was announced meanwhile takes its room too.
    used_bytes += max(to_come, _TO_COME[actor.uid])
    if used_bytes + needed_bytes > limit_gb * GIB:
        raise OverLimit(
            f"The user {actor.name} may take {limit_gb:g} GB of the disk; {format_bytes(used_bytes)} are taken, and "
            f"this needs {format_bytes(needed_bytes)}.",
            hint="`btmctl disk` shows what takes room; `btmctl jobs delete`, `datasets remove` and "
            "`models remove` make some.",
        )


async def require_few(actor: Actor, parts: Parts) -> None:
    """Raises OverLimit where more trainings of the user wait or run than anybody looks through; admins know best."""
    if await role_of(actor, parts) == ADMIN:
        return
    async with parts.store.session() as session:
        count = sum(row.owner_uid == actor.uid for row in await unfinished_jobs(session))
    if count >= MOST_UNFINISHED:
        raise OverLimit(
            f"{count} trainings of the user {actor.name} have not ended; that many may wait.",
            hint="Wait for some of them to end, or cancel some: `btmctl queue list`.",
        )


@asynccontextmanager
async def arriving(request: Request, actor: Actor, parts: Parts) -> AsyncIterator[AsyncIterator[bytes]]:
    """The pieces of a request's body, for which there is room; nobody else is promised it while they come.

    Who is limited has to tell its size. Raises OverLimit, InvalidValue.
    """
    told = request.headers.get("content-length", "")
    if not told.isdigit() and "disk_gb" in await limits_of(actor, parts):
        raise InvalidValue("How much will be sent has to be told beforehand.", hint="Send it with Content-Length.")
    left = int(told) if told.isdigit() else 0
    await require_room(left, actor, parts)
    _TO_COME[actor.uid] += left

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal left
        async for piece in request.stream():
            arrived = min(left, len(piece))
            left -= arrived
            _TO_COME[actor.uid] -= arrived
            yield piece

    try:
        yield pieces()
    finally:
        _TO_COME[actor.uid] -= left
        if not _TO_COME[actor.uid]:
            del _TO_COME[actor.uid]


async def thing_bytes(thing: Thing, parts: Parts) -> int:
    """What somebody's job, dataset or model takes; nothing for a preset."""
    if thing.kind == "job":
        uses = await parts.housekeeping.uses()
        return uses[thing.thing_id].total_bytes if thing.thing_id in uses else 0
    async with parts.store.session() as session:
        if thing.kind == "model":
            row = await session.get(ModelRow, thing.thing_id)
            return await anyio.to_thread.run_sync(folder_bytes, Path(row.folder)) if row and row.converted else 0
        every = [one.rows_sha256 for one in await versions(session, thing.thing_id)] if thing.kind == "dataset" else []
    sizes = await anyio.to_thread.run_sync(dataset_sizes, parts.contents, {thing.thing_id: every})
    return sizes[thing.thing_id]


async def _used_bytes(uid: int, parts: Parts) -> int:
    uses = await parts.housekeeping.uses()
    async with parts.store.session() as session:
        owned = list(await session.exec(select(JobRow.job_id).where(JobRow.owner_uid == uid)))
        unfinished = [row.job_id for row in await unfinished_jobs(session) if row.owner_uid == uid]
        foretold = {one: await forecast_of(session, one) for one in unfinished}
        named = {
            row.dataset_id: [one.rows_sha256 for one in await versions(session, row.dataset_id)]
            for row in await datasets(session)
            if row.owner_uid == uid
        }
    jobs = {job_id: uses[job_id].total_bytes for job_id in owned if job_id in uses}
    # What a training will take is taken from when it was asked for: or many at once would each find the room of one.
    for job_id, row in foretold.items():
        jobs[job_id] = max(jobs.get(job_id, 0), 0 if row is None else row.disk_bytes)
    sizes = await anyio.to_thread.run_sync(dataset_sizes, parts.contents, named)
    sent_bytes = await anyio.to_thread.run_sync(parts.contents.sent_bytes, uid)
    return sum(jobs.values()) + sum(sizes.values()) + sent_bytes + await _folders_bytes(uid, parts)


async def _folders_bytes(uid: int, parts: Parts) -> int:
    """What the user's models take that are kept here, what arrived of others, and exports that wait to be fetched."""
    async with parts.store.session() as session:
        kept = [Path(row.folder) for row in await models(session) if row.owner_uid == uid and row.converted]

    def measure() -> int:
        exports = parts.config.exports_dir.glob(f"*-{uid}")
        return sum(map(folder_bytes, (*kept, *exports))) + parts.sent_models.uploads.arrived_bytes(uid)

    return await anyio.to_thread.run_sync(measure)


def dataset_sizes(contents: ContentStore, named: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """By dataset. What versions of one share is counted once; what two datasets share, for both."""
    return {
        dataset_id: sum(folder_bytes(contents.path(one)) for one in contents.with_chunks(rows))
        for dataset_id, rows in named.items()
    }
