"""The process that does the work of backups: no key ever comes into the daemon's memory."""

from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import msgspec

from btmd.backup.requests import Request
from btmd.child.caller import OnProgress, ask_child, ignore_progress
from btmd.command_handler import CommandHandler
from btmd.config import Config
from btmd.domain.backup import STREAM
from btmd.errors import ChildFailed

DEADLINE_S = 24 * 3600.0

Result = TypeVar("Result", bound=msgspec.Struct)


class BackupChild:
    """Asks a backup child. Hold ``turn`` for what changes a folder or reads through it: one at a time."""

    def __init__(
        self, config: Config, store_id: str, clock: Callable[[], int], handler: CommandHandler | None = None
    ) -> None:
        """Without a ``handler`` only the folders tell whether there were keys before."""
        self._config, self._store_id, self._clock, self._handler = config, store_id, clock, handler
        self.turn = anyio.Lock()

    def place(self, folder: str) -> dict[str, Any]:
        """The fields that every request has."""
        credential = self._config.backup_credential_path
        return {
            "folder": folder,
            "keys": str(self._config.keys_dir),
            "credential": None if credential is None else str(credential),
            "store_id": self._store_id,
            "now_us": self._clock(),
        }

    async def ask(self, request: Request, kind: type[Result], on_progress: OnProgress = ignore_progress) -> Result:
        """Raises what the library raises, and ChildFailed."""
        if self._handler is not None:
            state, _ = await self._handler.state(STREAM)
            if state is not None:
                folders = tuple(state.created_at_us)
                request = msgspec.structs.replace(request, known_folders=folders, keys_made=state.has_keys)
        try:
            return await ask_child("btmd.backup", request, kind, on_progress, deadline_s=DEADLINE_S)
        except OSError as problem:
            # No memory or no process left: told and tried again like any failure, instead of ending the daemon.
            raise ChildFailed(
                f"The process that works on backups cannot be started: {problem.strerror or problem}.",
                hint="If memory is short, close other programs and try again.",
            ) from problem
