"""What an operation needs, stated where it is defined, and who has it."""

import logging
import os
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from btmd.api.parts import Parts, parts_of
from btmd.domain.event import Actor
from btmd.domain.machine import RefuseOperation
from btmd.errors import BtmdError, NotPermitted

log = logging.getLogger("btmd.api")


class Permission(StrEnum):
    """READ: look; TRAIN: start and steer trainings, add data and models; ADMIN: change how the daemon works."""

    READ = "read"
    TRAIN = "train"
    ADMIN = "admin"


def permitted(actor: Actor, permission: Permission) -> bool:
    """For now the daemon's own user and root may do everything, and nobody else anything."""
    return actor.uid in (os.getuid(), 0)


def _require(permission: Permission) -> Callable[[Request], Any]:
    async def check(request: Request) -> Actor:
        actor: Actor = request.state.peer
        if permitted(actor, permission):
            return actor
        parts = await parts_of(request)
        operation = f"{request.method} {request.url.path}"
        try:
            await parts.handler.handle(RefuseOperation(operation, NotPermitted.code), actor=actor)
        except BtmdError as error:
            log.error("a refusal could not be recorded: %s", error.detail)
        raise NotPermitted(
            f"The user {actor.name} may not do this.", hint="Only the user that runs the daemon may, for now."
        )

    check.permission = permission  # type: ignore[attr-defined]
    return check


async def peer(request: Request) -> Actor:
    """Who asks; permission was checked before."""
    actor: Actor = request.state.peer
    return actor


PartsOf = Annotated[Parts, Depends(parts_of)]
ActorOf = Annotated[Actor, Depends(peer)]


def operation(
    router: APIRouter, method: str, path: str, permission: Permission, **described: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register an operation with its one permission; there is no other way in."""
    extra = {"x-permission": permission.value, **described.pop("openapi_extra", {})}
    return router.api_route(
        path,
        methods=[method],
        dependencies=[Depends(_require(permission))],
        openapi_extra=extra,
        **described,
    )
