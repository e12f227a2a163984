"""Ending all trainings with a checkpoint before the daemon ends; they go on by themselves with the next one."""

import logging
from collections.abc import Callable, Collection

import anyio

from btmd.command_handler import CommandHandler
from btmd.domain.event import Actor
from btmd.domain.queue import YieldJob
from btmd.errors import BtmdError

log = logging.getLogger("btmd")

WHY = "stopping"
LIMIT_S = 300.0
"""How long the slowest checkpoint may take. A trainer that is not done then has been asked, and leaves when it is."""
LOOK_S = 0.2
ASK_EVERY = 10
"""Looks between two askings: a trainer that was about to start is there by then."""


async def drain(
    handler: CommandHandler,
    busy: Callable[[], Collection[str]],
    actor: Actor,
    *,
    limit_s: float = LIMIT_S,
) -> frozenset[str]:
    """Ask every trainer to save a checkpoint and leave, and wait; returns the jobs whose trainer is still there.

    ``busy`` are the jobs with a trainer, or about to have one. Nothing may start new ones meanwhile.
    """
    with anyio.move_on_after(limit_s):
        while True:
            for job_id in sorted(busy()):
                try:
                    # Of one that is asked to end in another way already, nothing more is asked.
                    await handler.handle(YieldJob(job_id, WHY), actor=actor)
                except BtmdError as error:
                    log.warning("job %s cannot be asked to save and leave: %s", job_id, error.detail)
            for _ in range(ASK_EVERY):
                if not busy():
                    return frozenset()
                await anyio.sleep(LOOK_S)
    left = frozenset(busy())
    log.warning("not done with their checkpoint, these trainings leave by themselves: %s", ", ".join(sorted(left)))
    return left
