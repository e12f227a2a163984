"""Who may use the daemon, and as what."""

from typing import Annotated, Any, Literal

import anyio.to_thread
import msgspec
from msgspec import Meta
from starlette.responses import Response

from btmd.accounts import AccountNotFound, find_account
from btmd.api.answers import described, json_answer
from btmd.api.idempotency import Key, stored_answer
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.api.shapes import keyed, nullable, one_of
from btmd.domain.access import (
    ADMIN,
    LIMITS,
    ROLES,
    STREAM,
    TRAINER,
    AccessCommand,
    AccessState,
    ChangeLimits,
    GrantAccess,
    RevokeAccess,
)
from btmd.domain.event import Actor
from btmd.store.recorded import Recorded

router = Router(prefix="/access", tags=("access",))

GRANT_EXAMPLE = {
    "subject": "ada",
    "kernel_id": 1000,
    "role": nullable(one_of(TRAINER, ROLES)),
    "limits": keyed({"running_jobs": 1.0}),
}
CHANGED_EXAMPLE = {"number": nullable(17), "message": "ada is a trainer from now on.", "grants": [GRANT_EXAMPLE]}


class AccessRole(msgspec.Struct):
    role: Literal["viewer", "trainer", "admin"]
    why: Annotated[str, Meta(max_length=1000)] = ""


class Limits(msgspec.Struct):
    """By name: running_jobs, disk_gb, priority. Null takes a limit away; what is not named stays."""

    limits: Annotated[dict[str, float | None], Meta(min_length=1, max_length=len(LIMITS))]
    why: Annotated[str, Meta(max_length=1000)] = ""


def grants_json(state: AccessState | None) -> list[dict[str, Any]]:
    """Everybody who was granted or limited something; ``role`` is None for who has none."""
    state = state or AccessState()
    listed = []
    for subject in sorted(state.grants.keys() | state.limited.keys()):
        grant, limited = state.grants.get(subject), state.limited.get(subject)
        known = grant or limited
        assert known is not None
        listed.append(
            {
                "subject": subject,
                "kernel_id": known.kernel_id,
                "role": None if grant is None else grant.role,
                "limits": {} if limited is None else limited.limits,
            }
        )
    return listed


@operation(router, "GET", "", Permission.READ, **described([GRANT_EXAMPLE]))
async def list_access(parts: Parts) -> Response:
    """What was granted to whom; a group's name has an @ before it. The daemon's own user and root need no grant."""
    state, _ = await parts.handler.state(STREAM)
    return json_answer(grants_json(state))


@operation(router, "PUT", "/{subject}", Permission.ADMIN, **described(CHANGED_EXAMPLE, errors=(404,)))
async def grant_access(subject: str, body: AccessRole, key: Key, parts: Parts, actor: Actor) -> Response:
    """Give a user, or a @group, a role: viewer, trainer or admin. It takes the place of the one they had."""
    name, kernel_id = await anyio.to_thread.run_sync(find_account, subject)
    article = "an" if body.role == ADMIN else "a"
    said = f"{name} is {article} {body.role} from now on."
    return await _changed(key, parts, actor, GrantAccess(name, kernel_id, body.role, body.why), said)


@operation(router, "PUT", "/{subject}/limits", Permission.ADMIN, **described(CHANGED_EXAMPLE, errors=(404,)))
async def limit_access(subject: str, body: Limits, key: Key, parts: Parts, actor: Actor) -> Response:
    """Limit what a user, or each user of a @group, may have: it counts for those who are no admins.

    A user's own limit goes before that of a group; of several groups the widest counts.
    """
    name, kernel_id = await anyio.to_thread.run_sync(find_account, subject)
    command = ChangeLimits(name, kernel_id, body.limits, body.why)
    return await _changed(key, parts, actor, command, f"The limits of {name} are changed.")


@operation(router, "DELETE", "/{subject}", Permission.ADMIN, **described(CHANGED_EXAMPLE, errors=(404,)))
async def revoke_access(
    subject: str,
    key: Key,
    parts: Parts,
    actor: Actor,
    why: Annotated[str, Meta(max_length=1000)] = "",
) -> Response:
    """Take a role away; it stays away, also through restores that do not name access."""
    state, _ = await parts.handler.state(STREAM)
    name = subject
    if name not in (state or AccessState()).grants:
        try:
            name, _ = await anyio.to_thread.run_sync(find_account, subject)
        except AccountNotFound:
            # One who left this machine can still have something to lose, under the name of before.
            name = subject
    return await _changed(key, parts, actor, RevokeAccess(name, why), f"{name} has no role any more.")


async def _changed(key: Key, parts: Parts, actor: Actor, command: AccessCommand, message: str) -> Response:
    def answer(state: AccessState | None, rows: list[Recorded]) -> dict[str, Any]:
        return {"number": rows[-1].seq if rows else None, "message": message, "grants": grants_json(state)}

    handled = await parts.handler.handle(
        command,
        actor=actor,
        correlation_id=parts.new_id(),
        idempotency=key,
        respond=lambda state, rows: stored_answer(answer(state, rows)),
    )
    return json_answer(answer(handled.state, handled.events))
