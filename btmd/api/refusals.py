"""What was refused is recorded where the audit is to tell of it: who tried what, and the error's code."""

import logging
import time
from collections.abc import Callable

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
MOST_USERS = 1000
LONGEST = 500
"""Of what was asked for, as much as is recorded."""


class RefusalBudget:
    """How many refusals of each user may still be recorded; ``now_s`` is a clock that only goes forward."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._left: dict[int, tuple[float, float]] = {}
        self._more: dict[int, int] = {}

    def take(self, uid: int) -> int | None:
        """How many were left out since the last one that was recorded; None: this one is left out too."""
        now_s = self._now_s()
        left, since_s = self._left.pop(uid, (float(BURST), now_s))
        left = min(float(BURST), left + (now_s - since_s) / EVERY_S)
        while len(self._left) >= MOST_USERS:
            # The one that was refused longest ago.
            gone = next(iter(self._left))
            del self._left[gone]
            self._more.pop(gone, None)
        if left < 1:
            self._left[uid] = (left, now_s)
            self._more[uid] = self._more.get(uid, 0) + 1
            return None
        self._left[uid] = (left - 1, now_s)
        return self._more.pop(uid, 0)


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
