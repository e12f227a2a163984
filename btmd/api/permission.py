"""What an operation needs, and who has it."""

import os
from enum import StrEnum

from starlette.requests import Request

from btmd.api.parts import Parts
from btmd.domain.event import Actor
from btmd.errors import NotPermitted


class Permission(StrEnum):
    """READ: look; TRAIN: start and steer trainings, add data and models; ADMIN: change how the daemon works."""

    READ = "read"
    TRAIN = "train"
    ADMIN = "admin"


def permitted(actor: Actor, permission: Permission) -> bool:
    """For now the daemon's own user and root may do everything, and nobody else anything."""
    return actor.uid in (os.getuid(), 0)


async def require(permission: Permission, request: Request, parts: Parts) -> Actor:
    """Who asks, where they may. Raises NotPermitted."""
    actor: Actor = request.state.peer
    if permitted(actor, permission):
        return actor
    raise NotPermitted(
        f"The user {actor.name} may not do this.", hint="Only the user that runs the daemon may, for now."
    )
