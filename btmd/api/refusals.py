"""What was refused is recorded where the audit is to tell of it: who tried what, and the error's code."""

import logging

from starlette.requests import Request

from btmd.domain.event import Actor
from btmd.domain.machine import RefuseOperation
from btmd.domain.restore import RestoreConflict
from btmd.errors import BtmdError, LogMovedOn, NotPermitted, Tampered, WrongKey

log = logging.getLogger("btmd.api")

RECORDED = (NotPermitted, WrongKey, Tampered, LogMovedOn, RestoreConflict)
"""Trying what one may not, keys that do not fit, data that somebody changed, and restores that were not carried out."""
BURST, EVERY_S = 20, 10.0
"""Of each user so many are recorded at once, then one in so many seconds: nobody fills the log by being refused."""
LONGEST = 500
"""Of what was asked for, as much as is recorded."""


async def record_refusal(request: Request, error: BtmdError) -> None:
    """Record the refusal of what ``request`` asked for, if it is one of those that count."""
    if not isinstance(error, RECORDED):
        return
    actor: Actor = request.state.peer
    more = request.app.state.refusals.take(actor.uid)
    if more is None:
        return
    try:
        command = RefuseOperation(f"{request.method} {request.url.path}"[:LONGEST], error.code, more)
        await request.app.state.parts.handler.handle(command, actor=actor)
    except BtmdError as problem:
        # The refusal itself stands all the same.
        log.error("a refusal could not be recorded: %s", problem.detail)
