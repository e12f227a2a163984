"""Between settings.toml and the log: what a person saves becomes events, what the log says becomes the file."""

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

import msgspec

from btmd.command_handler import CommandHandler
from btmd.domain import settings
from btmd.domain.event import Actor
from btmd.domain.preset_definition import PresetChanged, PresetCreated, PresetDeleted
from btmd.domain.settings import SettingChanged, SettingsState
from btmd.domain.settings_file import RejectFile, TakeFile
from btmd.domain.settings_schema import Value
from btmd.errors import InvalidValue
from btmd.files.durable import write_atomically
from btmd.files.watched_file import ENCODING, FileWrong, read_own
from btmd.history import History
from btmd.mirroring.follower import FolderFollower
from btmd.mirroring.sync import FileSync, Memory, Mirror, Values
from btmd.settings.file import SettingsFileWrong, line_of, read_values, written
from btmd.store.event_log import Store

log = logging.getLogger("btmd.settings")

PRESET = "training.preset"
TYPES = frozenset((SettingChanged.TYPE, PresetCreated.TYPE, PresetChanged.TYPE, PresetDeleted.TYPE))
"""Of presets too: a file that names one waits until it is there."""
RequirePreset = Callable[[object], Awaitable[None]]


class SettingsWatcher:
    """Keeps the file at ``path`` and the settings the same. ``troubles`` is told what a person should know.

    ``require_preset`` raises InvalidValue for what cannot be the setting training.preset.
    """

    def __init__(
        self,
        *,
        store: Store,
        handler: CommandHandler,
        history: History,
        path: Path,
        memory_path: Path,
        new_id: Callable[[], str],
        troubles: MutableMapping[str, str],
        require_preset: RequirePreset,
    ) -> None:
        self._sync = FileSync(
            SettingsMirror(path, handler, history, new_id, require_preset),
            memory=_remembered(memory_path),
            remember=lambda memory: write_atomically(memory_path, msgspec.json.encode(memory)),
            again=lambda: self._follower.wake(),
            troubles=troubles,
        )
        self._folder = path.parent
        self._follower = FolderFollower(
            store,
            path.parent,
            TYPES,
            self._sync_or_tell,
            about="watch of the settings folder",
            troubles=troubles,
        )

    async def run(self) -> None:
        """Follow both sides until cancelled."""
        await self._follower.run()

    async def reread(self) -> None:
        """Take at once what a person saved; what is wrong with it goes into the troubles."""
        await self._follower.bring_together()

    async def sync(self) -> None:
        """Take what a person saved, then write what the log says. Raises OSError, and what the log refuses with."""
        await self._sync.sync()

    async def _sync_or_tell(self) -> bool:
        # What hinders is found again, and told, by the write.
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return await self._sync.sync_or_tell()


class SettingsMirror(Mirror):
    """The settings file; taking it away is no wish for defaults, so it is written anew."""

    about = "settings file"
    stays = "The last good settings stay."
    removable = False

    def __init__(
        self,
        path: Path,
        handler: CommandHandler,
        history: History,
        new_id: Callable[[], str],
        require_preset: RequirePreset,
    ) -> None:
        self.path = path
        self._handler, self._history, self._new_id = handler, history, new_id
        self._require_preset = require_preset

    def read(self, data: bytes) -> Values:
        return dict(read_values(data))

    async def check(self, data: bytes, values: Values) -> None:
        # One that went since it was set is no mistake of this edit.
        if values.get(PRESET) == (await self.current()).get(PRESET):
            return
        try:
            await self._require_preset(values.get(PRESET))
        except InvalidValue as error:
            line = line_of(data.decode(ENCODING), PRESET)
            raise SettingsFileWrong(f"{error.detail} {error.hint}", line) from None

    def write(self, text: str | None, values: Values) -> str:
        return written(text, values)

    async def current(self) -> Values:
        state, _ = await self._handler.state(settings.STREAM)
        return dict((state or SettingsState()).values)

    async def take(self, values: Values | None, changes: Mapping[str, Any], sha256: str, actor: Actor) -> None:
        command = TakeFile(changes, sha256, await self._taken_back(changes))
        handled = await self._handler.handle(command, actor=actor, correlation_id=self._new_id())
        if command.took_back:
            log.warning(
                "the settings file took back %s; `btmctl config undo %d` brings the newer value again",
                ", ".join(command.took_back),
                handled.events[-1].seq,
            )

    async def reject(self, sha256: str, error: FileWrong, actor: Actor) -> None:
        await self._handler.handle(RejectFile(sha256, error.line, error.detail), actor=actor)

    async def _taken_back(self, changes: Mapping[str, Value | None]) -> tuple[str, ...]:
        """The settings that get a value of before the changes that others made since the file made one."""
        found = []
        for key, value in changes.items():
            newest_first = await self._history.changes(key=key)
            by_others = takewhile(lambda one: one.actor.name != "file", newest_first)
            if any(one.before[key] == value for one in by_others):
                found.append(key)
        return tuple(found)


def _remembered(path: Path) -> Memory:
    try:
        return msgspec.json.decode(read_own(path) or b"", type=Memory)
    except msgspec.MsgspecError:
        # Whatever stands there instead: without a memory, the file is compared with the log.
        return Memory()
