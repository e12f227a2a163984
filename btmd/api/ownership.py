"""Whose things are: showing it, sharing them, and passing them on."""

from typing import Annotated, Any, Literal

import anyio.to_thread
import msgspec
from msgspec import Meta
from starlette.responses import Response

from btmd.accounts import find_account, groups_of, user_name
from btmd.api.answers import described, json_answer
from btmd.api.idempotency import Key, stored_answer
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Named, Permission, limits_of, require_own, role_of, thing_called
from btmd.api.user_room import require_room, thing_bytes
from btmd.domain.access import ADMIN, TRAINER, rank
from btmd.domain.event import Actor
from btmd.domain.job import ENDED
from btmd.domain.ownership import (
    STREAM,
    OwnershipCommand,
    OwnershipState,
    ShareThing,
    Thing,
    TransferThing,
    UnshareThing,
)
from btmd.errors import InvalidValue, NotPermitted
from btmd.naming import find_job

router = Router(prefix="/owners", tags=("access",))

Kind = Literal["job", "dataset", "model", "preset"]
Id = Annotated[str, Meta(min_length=1, max_length=300, description="its id or name; of a preset its key")]
Subject = Annotated[str, Meta(min_length=1, max_length=200, description="a user, or a group with @ before it")]
EXAMPLE = {
    "kind": "job",
    "id": "k3q7zv2m5a",
    "owner": "ada",
    "owner_uid": 1000,
    "shared_with": ["@lab", "bob"],
}
CHANGED_EXAMPLE = {**EXAMPLE, "message": "The job k3q7zv2m5a is shared with bob."}


class Sharing(msgspec.Struct):
    """With whom: what is inside may be seen and used by them, not changed or ended."""

    thing_id: Id
    subject: Subject
    why: Annotated[str, Meta(max_length=1000)] = ""


class Transfer(msgspec.Struct):
    """To whom it belongs from then on: a user's name or number."""

    thing_id: Id
    to: Annotated[str, Meta(min_length=1, max_length=200)]
    why: Annotated[str, Meta(max_length=1000)] = ""


@operation(router, "GET", "/{kind}", Permission.READ, **described(EXAMPLE, errors=(404,)))
async def owner(kind: Kind, thing_id: Id, parts: Parts, actor: Actor) -> Response:
    """Whose a job, dataset, model or own preset is, and with whom it is shared."""
    return json_answer(await _told(parts, await _thing(kind, thing_id, parts, actor)))


@operation(router, "POST", "/{kind}/shares", Permission.TRAIN, **described(CHANGED_EXAMPLE, errors=(404,)))
async def share(kind: Kind, body: Sharing, key: Key, parts: Parts, actor: Actor) -> Response:
    """Share what is the asking user's with a user or a group of this machine."""
    thing = await _own(kind, body.thing_id, parts, actor)
    subject, kernel_id = await anyio.to_thread.run_sync(find_account, body.subject)
    command = ShareThing(thing, subject, kernel_id, body.why)
    return await _changed(key, parts, actor, command, f"The {kind} {thing.thing_id} is shared with {subject}.")


@operation(router, "DELETE", "/{kind}/shares", Permission.TRAIN, **described(CHANGED_EXAMPLE, errors=(404,)))
async def unshare(kind: Kind, thing_id: Id, subject: Subject, key: Key, parts: Parts, actor: Actor) -> Response:
    """End the sharing with a user or a group. What they took away or trained with it meanwhile is theirs."""
    thing = await _own(kind, thing_id, parts, actor)
    command = UnshareThing(thing, subject.strip())
    said = f"The {kind} {thing.thing_id} is not shared with {subject} any more."
    return await _changed(key, parts, actor, command, said)


@operation(router, "PUT", "/{kind}", Permission.TRAIN, **described(CHANGED_EXAMPLE, errors=(404,)))
async def transfer(kind: Kind, body: Transfer, key: Key, parts: Parts, actor: Actor) -> Response:
    """Pass on what is the asking user's: from then on it is the other user's to change, share and end."""
    thing = await _own(kind, body.thing_id, parts, actor)
    if body.to.strip().startswith("@"):
        raise InvalidValue("A group owns nothing.", hint="Name a user; sharing is possible with a group too.")
    name, uid = await anyio.to_thread.run_sync(find_account, body.to)
    if uid != thing.owner_uid and await role_of(actor, parts) != ADMIN:
        await _require_takeable(thing, name, uid, actor, parts)
    command = TransferThing(thing, uid, body.why)
    return await _changed(key, parts, actor, command, f"The {kind} {thing.thing_id} belongs to {name} now.")


async def _own(kind: Kind, text: str, parts: Parts, actor: Actor) -> Thing:
    thing = await _thing(kind, text, parts, actor)
    await require_own(Named(kind, "thing_id"), thing.thing_id, actor, parts)
    return thing


async def _require_takeable(thing: Thing, name: str, uid: int, actor: Actor, parts: Parts) -> None:
    """Nobody gets out of a limit by giving things away, nor has others bear it. Raises NotPermitted, OverLimit."""
    groups = await anyio.to_thread.run_sync(groups_of, uid)
    to = Actor(uid=uid, gid=min(groups, default=uid), pid=0, groups=tuple(sorted(groups)), name=name)
    if rank(await role_of(to, parts)) < rank(TRAINER):
        raise NotPermitted(
            f"The user {name} may not train here, and could do nothing with it.",
            hint=f"An admin can let them: `btmctl access grant {name} {TRAINER}`.",
        )
    if thing.kind == "job":
        async with parts.store.session() as session:
            row = await find_job(session, thing.thing_id)
        if row.state not in ENDED:
            raise NotPermitted(
                f"The training {thing.thing_id} has not ended: until then it counts for who asked for it.",
                hint="Give it when it has ended; an admin can do it now.",
            )
    if "disk_gb" in await limits_of(to, parts):
        await require_room(await thing_bytes(thing, parts), to, parts)
    elif thing.kind != "preset" and "disk_gb" in await limits_of(actor, parts):
        raise NotPermitted(
            f"The room that it takes would count for nobody: {name} has no limit of the disk, and you have one.",
            hint="An admin can give it.",
        )


async def _thing(kind: Kind, text: str, parts: Parts, actor: Actor) -> Thing:
    thing = await thing_called(kind, text, parts, asked_by=actor.uid)
    if thing is None:
        parts.presets.require_own(text)
        await parts.presets.own_row(text)
    assert thing is not None
    return thing


async def _told(parts: Parts, thing: Thing) -> dict[str, Any]:
    state, _ = await parts.handler.state(STREAM)
    return _json(thing, state)


def _json(thing: Thing, state: OwnershipState | None) -> dict[str, Any]:
    return {
        "kind": thing.kind,
        "id": thing.thing_id,
        "owner": user_name(thing.owner_uid),
        "owner_uid": thing.owner_uid,
        "shared_with": sorted((state or OwnershipState()).shared_with(thing)),
    }


async def _changed(key: Key, parts: Parts, actor: Actor, command: OwnershipCommand, message: str) -> Response:
    thing = command.thing
    if isinstance(command, TransferThing):
        thing = Thing(thing.kind, thing.thing_id, thing.made_us, command.to_uid)

    def answer(state: OwnershipState | None) -> dict[str, Any]:
        return {**_json(thing, state), "message": message}

    handled = await parts.handler.handle(
        command,
        actor=actor,
        correlation_id=parts.new_id(),
        idempotency=key,
        respond=lambda state, rows: stored_answer(answer(state)),
    )
    return json_answer(answer(handled.state))
