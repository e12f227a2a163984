"""Views that turn out damaged while the daemon works: built anew from the log, and what stumbled over them goes on."""

import logging
import sqlite3
from collections.abc import Awaitable, Callable, MutableMapping, Sequence

import anyio
from sqlalchemy.exc import DatabaseError

from btmd.command_handler import CommandHandler
from btmd.domain import health
from btmd.domain.event import Actor
from btmd.domain.health import NoteFallingBack
from btmd.errors import BtmdError
from btmd.store.event_log import Store

log = logging.getLogger("btmd.views")

LOOK_S = 30.0
"""How often to see whether a view has stopped."""
PAUSE_S = 1.0
"""Before a part is begun again; the views are built meanwhile."""
AGAIN_S = 10.0
"""Between two attempts to build them."""
MOST_TEXT = 300

Part = Callable[[], Awaitable[None]]


class ViewMending:
    """Builds views anew. ``troubles`` tells meanwhile."""

    def __init__(
        self, *, store: Store, handler: CommandHandler, actor: Actor, troubles: MutableMapping[str, str]
    ) -> None:
        self._store, self._handler, self._actor, self._troubles = store, handler, actor, troubles
        self._wanted = anyio.Event()
        self._reason = ""
        self._given_up: set[str] = set()
        """Errors of views that building them anew did not mend."""

    def want(self, reason: str) -> None:
        """A view could not be read: all are to be built anew."""
        self._reason = self._reason or reason.partition("\n")[0][:MOST_TEXT]
        self._wanted.set()

    async def run(self) -> None:
        """Mend until cancelled."""
        while True:
            with anyio.move_on_after(LOOK_S):
                await self._wanted.wait()
            stopped = self._stopped()
            if self._reason or stopped:
                await self._mend(
                    None if self._reason else sorted(stopped), self._reason or next(iter(stopped.values()))
                )
                await anyio.sleep(AGAIN_S)

    def _stopped(self) -> dict[str, str]:
        found = {one["name"]: one["error"] for one in self._store.health()["projections"] if one["error"]}
        return {name: error for name, error in found.items() if error not in self._given_up}

    async def _mend(self, names: Sequence[str] | None, reason: str) -> None:
        self._reason, self._wanted = "", anyio.Event()
        log.warning("views are built anew from the log: %s", reason)
        failed = {name: error for name, error in (await self._store.rebuild_projections(names)).items() if error}
        for name, error in failed.items():
            log.error("the view %s cannot be built anew: %s", name, error)
        self._given_up |= {*failed.values(), *(self._stopped().values() if failed else ())}
        if failed:
            return
        did = "The views were built anew from the log."
        try:
            note = NoteFallingBack(health.VIEWS, f"A view could not be used: {reason}.", did, once=True)
            await self._handler.handle(note, actor=self._actor)
        except BtmdError as error:
            log.error("that views were built anew cannot be recorded: %s", error.detail)

    async def keep_up(self, name: str, part: Part, again: Part | None = None) -> None:
        """Run a part of the daemon; where a view fails it, it is begun again (by ``again``) once views are mended.

        Raises everything else that the part raises.
        """
        about, run = f"part {name}", part
        while True:
            try:
                await run()
                return
            except Exception as error:
                if not is_view_failure(error):
                    raise
                log.exception("the part %s stumbled over a view", name)
                self._troubles[about] = f"It does not work while a view is damaged: {_first(error)}"
                self.want(_first(error))
                run = again or part
            await anyio.sleep(PAUSE_S)
            self._troubles.pop(about, None)


def is_view_failure(error: BaseException) -> bool:
    """Whether nothing but the reading of the database failed."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_view_failure(one) for one in error.exceptions)
    return isinstance(error, (DatabaseError, sqlite3.DatabaseError))


def _first(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(getattr(error, "orig", None) or error).partition("\n")[0][:MOST_TEXT]
