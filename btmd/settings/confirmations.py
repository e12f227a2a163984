"""Changes that nobody confirmed in time are taken back, also when the time ran out while the daemon was away."""

import logging
from collections.abc import Callable

import anyio

from btmd.command_handler import CommandHandler
from btmd.domain import settings
from btmd.domain.event import Actor
from btmd.domain.settings import TakeBackUnconfirmed
from btmd.errors import BtmdError
from btmd.store.event_log import Store
from btmd.subscriptions import subscribe

log = logging.getLogger("btmd.settings")

LOOK_AGAIN_S = 30.0
"""The clock may be set meanwhile, so that no wait is longer than this."""


class Confirmations:
    """Follows the settings; ``clock`` gives microseconds since the epoch."""

    def __init__(
        self,
        store: Store,
        handler: CommandHandler,
        clock: Callable[[], int],
        new_id: Callable[[], str],
        actor: Actor,
    ) -> None:
        self._store, self._handler, self._clock, self._new_id, self._actor = store, handler, clock, new_id, actor
        self._changed = anyio.Event()

    async def take_back(self) -> float | None:
        """Take back what is due; the seconds until the next one is, None where nothing waits."""
        state, _ = await self._handler.state(settings.STREAM)
        now_us = self._clock()
        if state is not None and any(one.deadline_us <= now_us for one in state.unconfirmed):
            command = TakeBackUnconfirmed(now_us)
            handled = await self._handler.handle(command, actor=self._actor, correlation_id=self._new_id())
            log.warning("a change of the settings was not confirmed in time: it is taken back")
            state = handled.state
        waiting = [one.deadline_us for one in state.unconfirmed] if state is not None else []
        return max(0.0, (min(waiting) - now_us) / 1e6) if waiting else None

    async def run(self) -> None:
        """Take back in time until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow, self._store.head.seq)
            while True:
                self._changed = anyio.Event()
                try:
                    wait_s = await self.take_back()
                except BtmdError as error:
                    log.error("a change that was not confirmed cannot be taken back yet: %s", error.detail)
                    wait_s = LOOK_AGAIN_S
                with anyio.move_on_after(None if wait_s is None else min(wait_s, LOOK_AGAIN_S)):
                    await self._changed.wait()

    async def _follow(self, position: int) -> None:
        async for rows in subscribe(self._store, position):
            if any(row.stream == settings.STREAM for row in rows):
                self._changed.set()
