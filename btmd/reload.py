"""Reading anew, without a restart, what a person keeps in files, and what is otherwise read at the start only."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from btmd.command_handler import CommandHandler
from btmd.domain import settings
from btmd.domain.settings import SettingsState

log = logging.getLogger("btmd")


async def set_log_level(handler: CommandHandler, given: str | None) -> None:
    """How much is written: as the setting says, unless it was ``given`` on the command line."""
    if given is None:
        state, _ = await handler.state(settings.STREAM)
        logging.getLogger().setLevel(str((state or SettingsState()).get("log.level")).upper())


async def reload(
    handler: CommandHandler, rereading: Sequence[Callable[[], Awaitable[None]]], given_log_level: str | None
) -> None:
    """Settings file, preset files, then the log's level."""
    for reread in rereading:
        await reread()
    await set_log_level(handler, given_log_level)
    log.info("settings, presets and the log's level were read anew")
