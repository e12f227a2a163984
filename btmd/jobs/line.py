"""Changing the order of the jobs that wait: one change at a time, each decided on the line as it stands."""

from collections.abc import Callable

import anyio

from btmd.command_handler import CommandHandler, Handled, Respond
from btmd.domain.event import Actor
from btmd.domain.queue import MoveJob, Place, move_before, move_first, move_last
from btmd.projections.queue import places
from btmd.store.event_log import IdempotencyKey, Store

FIRST, LAST = "first", "last"

Check = Callable[[list[Place], MoveJob], None]
"""Refuses a move by raising, on the line as it stands."""


class Line:
    """The jobs that have not ended, in the order of their turns."""

    def __init__(self, store: Store, handler: CommandHandler) -> None:
        self._store, self._handler = store, handler
        # The rank that a job is given depends on those of its neighbours.
        self._turn = anyio.Lock()

    async def places(self) -> list[Place]:
        async with self._store.session() as session:
            return await places(session)

    async def move_before(
        self,
        job_id: str,
        next_job: str,
        *,
        actor: Actor,
        idempotency: IdempotencyKey | None,
        respond: Respond,
        check: Check | None = None,
    ) -> Handled | None:
        """Put a job right before another one. Raises Conflict, JobEnded, and what ``check`` does."""
        return await self._move(lambda line: move_before(line, job_id, next_job), actor, idempotency, respond, check)

    async def move_to(
        self,
        job_id: str,
        end: str,
        *,
        actor: Actor,
        idempotency: IdempotencyKey | None,
        respond: Respond,
        check: Check | None = None,
    ) -> Handled | None:
        """Put a job at the front or the back; None when it stands there. Raises Conflict, JobEnded, as ``check``."""
        move = move_first if end == FIRST else move_last
        return await self._move(lambda line: move(line, job_id), actor, idempotency, respond, check)

    async def _move(
        self,
        move: Callable[[list[Place]], MoveJob | None],
        actor: Actor,
        idempotency: IdempotencyKey | None,
        respond: Respond,
        check: Check | None,
    ) -> Handled | None:
        async with self._turn:
            line = await self.places()
            command = move(line)
            if command is None:
                return None
            if check is not None:
                check(line, command)
            return await self._handler.handle(command, actor=actor, idempotency=idempotency, respond=respond)
