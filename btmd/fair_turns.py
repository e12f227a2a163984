"""Work that takes a process of its own: a few at once, of one user fewer, so that nobody keeps all others waiting."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

import anyio

asking_uid: ContextVar[int | None] = ContextVar("asking_uid", default=None)
"""Who asks for what is being done just now; None: nobody, the daemon does it of itself."""


class FairTurns:
    """At most ``at_once`` have their turn, of one user ``of_one``; the daemon's own and root may take all of them.

    A user's others wait for one of their own to end, and stand in nobody's way meanwhile.
    """

    def __init__(self, at_once: int, of_one: int = 1) -> None:
        self._all = anyio.CapacityLimiter(at_once)
        self._of_one = of_one
        self._users: dict[int, tuple[anyio.CapacityLimiter, int]] = {}
        """By user, and how many have or want a turn."""

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it while the block runs."""
        uid = asking_uid.get()
        if uid is None or uid in (os.getuid(), 0):
            async with self._all:
                yield
            return
        own, asked = self._users.get(uid, (anyio.CapacityLimiter(self._of_one), 0))
        self._users[uid] = (own, asked + 1)
        try:
            async with own, self._all:
                yield
        finally:
            own, asked = self._users.pop(uid)
            if asked > 1:
                self._users[uid] = (own, asked - 1)
