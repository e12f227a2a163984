"""What an operation needs, and who has it."""

import os
from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct
from sqlmodel.ext.asyncio.session import AsyncSession

from btmd.api.parts import Parts
from btmd.domain import access, ownership
from btmd.domain.access import ADMIN, TRAINER, VIEWER
from btmd.domain.event import Actor
from btmd.domain.ownership import OwnershipState, Thing
from btmd.errors import ModelNotFound, NotPermitted
from btmd.naming import find_dataset, find_job, find_model
from btmd.projections.job import JobRow, job, jobs_named, newest_job
from btmd.projections.preset import own_preset


class Permission(StrEnum):
    """What is needed of a role, and of the things that a request names.

    READ: a viewer; what is told of things, not what is inside them. SEE: a viewer, and the things are theirs or were
    shared with them. TRAIN: a trainer, and what is used of others was shared. OWN: a trainer, and the things are
    theirs. ADMIN: an admin, to whom the rest is open too.
    """

    READ = "read"
    SEE = "see"
    TRAIN = "train"
    OWN = "own"
    ADMIN = "admin"


ROLES = {
    Permission.READ: VIEWER,
    Permission.SEE: VIEWER,
    Permission.TRAIN: TRAINER,
    Permission.OWN: TRAINER,
    Permission.ADMIN: ADMIN,
}


class Named(Struct, frozen=True):
    """A thing that a request names: its kind, and the parameter or the body's field that holds id or name."""

    kind: str
    field: str


JOB, DATASET = Named("job", "job_id"), Named("dataset", "dataset_id")
MODEL, PRESET = Named("model", "model_id"), Named("preset", "key")


async def require(permission: Permission, actor: Actor, parts: Parts) -> str:
    """The asking user's role, where it suffices. Raises NotPermitted."""
    role = await role_of(actor, parts)
    needed = ROLES[permission]
    if access.rank(role) >= access.rank(needed):
        assert role is not None
        return role
    if role is None:
        raise NotPermitted(
            f"The user {actor.name} may not use this daemon.",
            hint=f"An admin can let them: `btmctl access grant {actor.name} {needed}`.",
        )
    raise NotPermitted(
        f"The user {actor.name} is a {role} here; this takes the role {needed}.",
        hint=f"An admin can give it: `btmctl access grant {actor.name} {needed}`.",
    )


async def role_of(actor: Actor, parts: Parts) -> str | None:
    own_uid = os.getuid()
    if actor.uid in (own_uid, 0):
        # Asked for every request of the machine's one user: nothing needs to be read for that.
        return ADMIN
    state, _ = await parts.handler.state(access.STREAM)
    return access.role_of(actor.uid, _groups(actor), state, own_uid)


async def require_thing(permission: Permission, named: Named, text: str, actor: Actor, parts: Parts) -> str:
    """The id of the thing that is meant, where the user may do this with it; they are no admin.

    Raises NotPermitted, Ambiguous, and what says that it is not there: left to the operation, that might find what
    somebody else has made meanwhile. A model to train may still be known by its id in the Hugging Face cache.
    """
    try:
        thing = await thing_called(named.kind, text, parts, asked_by=actor.uid)
    except ModelNotFound:
        if permission is Permission.TRAIN:
            return text
        raise
    if thing is None or thing.owner_uid == actor.uid:
        return text if thing is None else thing.thing_id
    own = permission is Permission.OWN
    if not own and (_for_all(thing) or await is_shared(thing, actor, parts)):
        return thing.thing_id
    raise NotPermitted(
        f"The {thing.kind} {thing.thing_id} belongs to somebody else.",
        hint="Its owner or an admin can do this." if own else f"Its owner can share it: {_share(thing, actor)}.",
    )


async def require_own(named: Named, text: str, actor: Actor, parts: Parts) -> None:
    """For what an operation comes upon only later. Raises NotPermitted where it is somebody else's."""
    if await role_of(actor, parts) != ADMIN:
        await require_thing(Permission.OWN, named, text, actor, parts)


async def require_use(named: Named, text: str, actor: Actor, parts: Parts) -> None:
    """As ``require_own``, for what may also have been shared."""
    if await role_of(actor, parts) != ADMIN:
        await require_thing(Permission.TRAIN, named, text, actor, parts)


async def require_priority(priority: int, actor: Actor, parts: Parts) -> None:
    """Raises NotPermitted beyond the user's limit."""
    limit = (await limits_of(actor, parts)).get("priority")
    if limit is not None and priority > limit:
        raise NotPermitted(
            f"The highest priority of the user {actor.name}'s trainings is {limit:g}.",
            hint=f"An admin can change that: `btmctl access limit {actor.name} priority={priority}`.",
        )


def _for_all(thing: Thing) -> bool:
    """Base models and presets of the daemon's own user and of root are there for everybody to use."""
    return thing.kind in ("model", "preset") and thing.owner_uid in (os.getuid(), 0)


def _share(thing: Thing, actor: Actor) -> str:
    return f"`btmctl {thing.kind}s share {thing.thing_id} {actor.name}`"


async def is_shared(thing: Thing, actor: Actor, parts: Parts) -> bool:
    state, _ = await parts.handler.state(ownership.STREAM)
    shared = (state or OwnershipState()).shared_with(thing)
    return any(access.is_meant(subject, number, actor.uid, _groups(actor)) for subject, number in shared.items())


async def thing_called(kind: str, text: str, parts: Parts, *, asked_by: int) -> Thing | None:
    """What is called so; None for a preset that comes with btmd. ``last`` means the user's own newest job.

    Raises NotFound, Ambiguous.
    """
    async with parts.store.session() as session:
        match kind:
            case "job":
                found = await _own_job(session, text, asked_by) or await find_job(session, text)
                return Thing(kind, found.job_id, found.submitted_us, found.owner_uid)
            case "dataset":
                dataset = await find_dataset(session, text, removed=True)
                return Thing(kind, dataset.dataset_id, dataset.added_us, dataset.owner_uid)
            case "model":
                model = await find_model(session, text)
                return Thing(kind, model.model_id, model.added_us, model.owner_uid)
            case "preset":
                preset = await own_preset(session, text)
                return None if preset is None else Thing(kind, preset.key, preset.created_us, preset.owner_uid)
    raise AssertionError(kind)


async def _own_job(session: AsyncSession, text: str, asked_by: int) -> JobRow | None:
    """The user's own newest job of that name, or of all: somebody else may give theirs the same name later."""
    if text == "last":
        return await newest_job(session, owner_uid=asked_by)
    if await job(session, text) is not None:
        return None
    named = [row for row in await jobs_named(session, text) if row.name == text and row.owner_uid == asked_by]
    return named[0] if named else None


async def limits_of(actor: Actor, parts: Parts) -> Mapping[str, float]:
    """What is limited for this user; nothing for an admin."""
    state, _ = await parts.handler.state(access.STREAM)
    return access.limits_of(actor.uid, _groups(actor), state, os.getuid())


def _groups(actor: Actor) -> frozenset[int]:
    return frozenset((actor.gid, *actor.groups))
