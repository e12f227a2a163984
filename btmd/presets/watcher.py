"""Between the presets folder and the log: each own preset is a file there, and each file there is an own preset."""

import logging
import os
import re
from collections.abc import Callable, Collection, Mapping, MutableMapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from btmd.command_handler import CommandHandler
from btmd.domain.event import Actor
from btmd.domain.preset import Preset
from btmd.domain.preset_definition import (
    PresetChanged,
    PresetCreated,
    PresetDeleted,
    PresetState,
    stream_name,
    values_of,
)
from btmd.domain.preset_file import RejectPresetFile, TakePresetFile
from btmd.files.durable import write_atomically
from btmd.files.watched_file import ENCODING, FileWrong, read_own
from btmd.mirroring.follower import FolderFollower
from btmd.mirroring.sync import FileSync, Memory, Mirror, Values
from btmd.presets.catalogue import PresetCatalogue
from btmd.presets.history import changes_of_preset
from btmd.presets.reading import PresetRefused, parse_preset
from btmd.presets.text import written
from btmd.store.event_log import Store

log = logging.getLogger("btmd.presets")

ENDING = ".toml"
LONGEST_NAME = 100
TYPES = frozenset((PresetCreated.TYPE, PresetChanged.TYPE, PresetDeleted.TYPE))
FOLDER = "presets folder"


class PresetsWatcher:
    """Keeps the files in ``folder`` and the own presets the same. ``troubles`` is told what a person should know."""

    def __init__(
        self,
        *,
        store: Store,
        handler: CommandHandler,
        catalogue: PresetCatalogue,
        folder: Path,
        memory_path: Path,
        new_id: Callable[[], str],
        troubles: MutableMapping[str, str],
    ) -> None:
        self._store, self._handler, self._catalogue = store, handler, catalogue
        self._folder, self._memory_path = folder, memory_path
        self._new_id, self._troubles = new_id, troubles
        self._memories = _remembered(memory_path)
        self._syncs: dict[str, FileSync] = {}
        self._follower = FolderFollower(
            store, folder, TYPES, self.sync, about=f"watch of the {FOLDER}", troubles=troubles
        )

    async def run(self) -> None:
        """Follow both sides until cancelled."""
        await self._follower.run()

    async def reread(self) -> None:
        """Take at once what a person saved; what is wrong with it goes into the troubles."""
        await self._follower.bring_together()

    async def sync(self) -> bool:
        """Bring every file and its preset together; whether all of them agree now or wait for a person."""
        try:
            present = await anyio.to_thread.run_sync(self._present)
        except OSError as problem:
            self._troubles[FOLDER] = f"{self._folder} cannot be used: {problem.strerror}. The presets themselves work."
            return False
        self._troubles.pop(FOLDER, None)
        unread = {name for name in present if not name.isprintable() or len(name) > LONGEST_NAME}
        own = {row.key + ENDING for row in await self._catalogue.own_rows()}
        names = (present - unread) | self._memories.keys() | own
        self._forget(names, unread)
        settled: list[bool] = []

        async def one(name: str) -> None:
            settled.append(await self._sync_of(name).sync_or_tell())

        async with anyio.create_task_group() as tasks:
            for name in sorted(names):
                tasks.start_soon(one, name)
        return all(settled)

    def _present(self) -> set[str]:
        """The names of the files that are there; a folder that went away is made again, and its files with it."""
        if self._folder.is_symlink():
            raise OSError(0, "it is a link; links are not followed")
        there = self._folder.is_dir()
        if not there:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._follower.went_away() or not there:
            # What a folder in its place lacks, nobody has taken out of it.
            self._memories.clear()
            self._syncs.clear()
        return {name for name in os.listdir(self._folder) if name.endswith(ENDING) and not name.startswith(".")}

    def _forget(self, names: Collection[str], unread: Collection[str]) -> None:
        """Let go of files that are gone, with what was wrong with them; tell what cannot be read at all."""
        for name in self._syncs.keys() - set(names):
            del self._syncs[name]
        told = {_about(name) for name in (*names, *unread)}
        for about in [one for one in self._troubles if one.startswith(_about("")) and one not in told]:
            del self._troubles[about]
        for name in unread:
            self._troubles[_about(name)] = "It is not read: such a name cannot be a preset's key."

    def _sync_of(self, name: str) -> FileSync:
        if name not in self._syncs:
            self._syncs[name] = FileSync(
                PresetMirror(
                    self._folder / name,
                    self._store,
                    self._handler,
                    self._catalogue,
                    self._new_id,
                    lambda: self._follower.is_away,
                ),
                memory=self._memories.get(name, Memory()),
                remember=lambda memory: self._remember(name, memory),
                again=self._follower.wake,
                troubles=self._troubles,
            )
        return self._syncs[name]

    def _remember(self, name: str, memory: Memory) -> None:
        if memory == Memory():
            self._memories.pop(name, None)
        else:
            self._memories[name] = memory
        write_atomically(self._memory_path, msgspec.json.encode(self._memories))


class PresetMirror(Mirror):
    """One file of the folder; taking it away deletes the preset."""

    stays = "The last good preset stays."
    none_yet = "There is no such preset yet."
    removable = True

    def __init__(
        self,
        path: Path,
        store: Store,
        handler: CommandHandler,
        catalogue: PresetCatalogue,
        new_id: Callable[[], str],
        folder_went: Callable[[], bool],
    ) -> None:
        self.path = path
        self.about = _about(path.name)
        self._folder_went = folder_went
        self._key = path.name.removesuffix(ENDING)
        self._store, self._handler, self._catalogue, self._new_id = store, handler, catalogue, new_id

    def read(self, data: bytes) -> Values:
        try:
            text = data.decode(ENCODING)
        except UnicodeDecodeError as error:
            raise FileWrong("The file is not UTF-8 text.", data.count(b"\n", 0, error.start) + 1) from None
        if not text.strip():
            raise FileWrong("The file is empty; that does not mean that the preset is deleted.")
        try:
            preset = parse_preset(text, self.path.name)
        except PresetRefused as error:
            named = f"{error.key}: " if error.key else ""
            raise FileWrong(f"{named}{error.reason}.", error.line or None) from None
        line = _line_of_key(text)
        if preset.key != self._key:
            raise FileWrong(f"The key is {preset.key}: a file with it is called {preset.key}{ENDING}.", line)
        if preset.key in self._catalogue.built_in:
            raise FileWrong(f"The preset {preset.key} comes with btmd and stays as it is; choose another key.", line)
        return values_of(preset)

    def write(self, text: str | None, values: Values) -> str:
        return written(text, msgspec.convert(values, Preset), self.path.name)

    async def current(self) -> Values | None:
        state = await self._state()
        return None if state.preset is None else values_of(state.preset)

    async def take(self, values: Values | None, changes: Mapping[str, Any], sha256: str, actor: Actor) -> None:
        if values is None and self._folder_went():
            # It went while this file was waited for to stand still: out of the one in its place nobody has taken it.
            raise FileNotFoundError(2, "its folder went away", str(self.path))
        whole = None if values is None else msgspec.convert(values, Preset)
        command = TakePresetFile(self._key, whole, changes, sha256, await self._taken_back(changes))
        handled = await self._handler.handle(command, actor=actor, correlation_id=self._new_id())
        if whole is None or command.took_back:
            what = f"took back {', '.join(command.took_back)}" if whole else "was removed"
            log.warning(
                "the file of the preset %s %s; `btmctl presets undo %s %d` takes that back",
                self._key,
                what,
                self._key,
                handled.events[-1].seq,
            )

    async def reject(self, sha256: str, error: FileWrong, actor: Actor) -> None:
        await self._handler.handle(RejectPresetFile(self._key, sha256, error.line, error.detail), actor=actor)

    async def _taken_back(self, changes: Mapping[str, Any]) -> tuple[str, ...]:
        """The values that become what they were before the changes that others made since the file made one."""
        found = []
        history = await changes_of_preset(self._store, self._key)
        for key, value in changes.items():
            of_key = ((one.actor.name, before) for one in history for name, before, _ in one.differences if name == key)
            by_others = takewhile(lambda one: one[0] != "file", of_key)
            if any(before == value for _, before in by_others):
                found.append(key)
        return tuple(found)

    async def _state(self) -> PresetState:
        state, _ = await self._handler.state(stream_name(self._key))
        return state or PresetState()


def _about(name: str) -> str:
    plain = os.fsencode(name).decode("utf-8", "backslashreplace")[:LONGEST_NAME]
    return f"preset file {plain}"


def _line_of_key(text: str) -> int | None:
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*[\"']?key[\"']?\s*=", line):
            return number
    return None


def _remembered(path: Path) -> dict[str, Memory]:
    try:
        return msgspec.json.decode(read_own(path) or b"", type=dict[str, Memory])
    except msgspec.MsgspecError:
        # Whatever stands there instead: without a memory, the files are compared with the log.
        return {}
