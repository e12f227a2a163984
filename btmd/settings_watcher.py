"""Between settings.toml and the log: what a person saves becomes events, what the log says becomes the file."""

import hashlib
import logging
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from btmd.command_handler import CommandHandler
from btmd.domain import settings
from btmd.domain.event import Actor
from btmd.domain.settings import SettingChanged, SettingsState, Value
from btmd.domain.settings_file import RejectFile, TakeFile
from btmd.errors import BtmdError
from btmd.file_watch import FolderWatch
from btmd.history import History
from btmd.job_folder import write_atomically
from btmd.settings_file import Content, SettingsFileWrong, read_content, read_values, replace_content, written
from btmd.store.event_log import Store
from btmd.subscriptions import subscribe

log = logging.getLogger("btmd.settings")

STILL_S = 0.5
"""A content that stood so long is one that somebody meant."""
LOOK_AGAIN_S = 10.0
TROUBLE = "settings file"


class Synced(msgspec.Struct, frozen=True):
    """A content of the file that log and file agree on."""

    sha256: str
    values: dict[str, Value]


class Memory(msgspec.Struct, frozen=True):
    """What is remembered across restarts.

    ``known`` are contents that are no person's edit: the last one agreed on and, around a write of ours, the next one.
    """

    known: tuple[Synced, ...] = ()
    rejected: str = ""


class SettingsWatcher:
    """Keeps the file at ``path`` and the settings the same. ``troubles`` is told what a person should know."""

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
    ) -> None:
        self._store, self._handler, self._history = store, handler, history
        self._path, self._memory_path = path, memory_path
        self._new_id, self._troubles = new_id, troubles
        self._memory = _remembered(memory_path)
        self._wake = anyio.Event()

    async def run(self) -> None:
        """Follow both sides until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow_log, self._store.head.seq)
            tasks.start_soon(self._follow_folder)
            while True:
                self._wake = anyio.Event()
                settled = await self._sync_or_tell()
                with anyio.move_on_after(None if settled else LOOK_AGAIN_S):
                    await self._wake.wait()

    async def _follow_log(self, position: int) -> None:
        async for rows in subscribe(self._store, position):
            if any(row.type == SettingChanged.TYPE for row in rows):
                self._wake.set()

    async def _follow_folder(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            watch = FolderWatch(self._path.parent)
        except OSError as problem:
            log.warning("%s is not watched: %s", self._path, problem.strerror)
            while True:
                await anyio.sleep(LOOK_AGAIN_S)
                self._wake.set()
        try:
            while True:
                await watch.changed()
                self._wake.set()
        finally:
            watch.close()

    async def _sync_or_tell(self) -> bool:
        """Whether both sides agree now or wait for a person; what hinders goes into the troubles."""
        try:
            await self.sync()
            return True
        except SettingsFileWrong as error:
            self._tell(error.detail)
            return True
        except OSError as problem:
            self._tell(f"{self._path} cannot be used: {problem.strerror or problem}. The settings themselves work.")
        except BtmdError as error:
            log.error("the settings file waits: %s", error.detail)
        return False

    async def sync(self) -> None:
        """Take what a person saved, then write what the log says. Raises OSError, and what the log refuses with."""
        content = await anyio.to_thread.run_sync(read_content, self._path)
        if content is not None and not self._is_known(content):
            content = await self._still(content)
            if content is not None and not self._is_known(content):
                if _sha256(content) != self._memory.rejected:
                    await self._take(content)
                if _sha256(content) == self._memory.rejected:
                    # What a person is still mending is not written over.
                    return
        self._troubles.pop(TROUBLE, None)
        await self._write(content)

    async def _still(self, content: Content) -> Content | None:
        """The content once it has not changed for a while."""
        while True:
            await anyio.sleep(STILL_S)
            again = await anyio.to_thread.run_sync(read_content, self._path)
            if again is None or again.data == content.data:
                return again
            content = again

    async def _take(self, content: Content) -> None:
        """Record what a person saved, as changes or as rejected."""
        actor = Actor(content.uid, content.gid, 0, (), "file")
        sha256 = _sha256(content)
        try:
            values = read_values(content.data)
        except SettingsFileWrong as error:
            await self._handler.handle(RejectFile(sha256, error.line, error.detail), actor=actor)
            where = f"{self._path}, line {error.line}: " if error.line is not None else f"{self._path}: "
            self._remember(Memory(self._memory.known, sha256))
            self._tell(f"{where}{error.detail} The last good settings stay.")
            return
        # Only what the person changed: a setting that came to the log meanwhile is not in their copy.
        base = self._memory.known[-1].values if self._memory.known else {}
        changes = {
            key: values.get(key)
            for key in sorted(base.keys() | values.keys())
            if base.get(key) != values.get(key) or type(base.get(key)) is not type(values.get(key))
        }
        command = TakeFile(changes, sha256, await self._taken_back(changes))
        handled = await self._handler.handle(command, actor=actor, correlation_id=self._new_id())
        self._remember(Memory((Synced(sha256, values),)))
        if command.took_back:
            log.warning(
                "the settings file took back %s; `btmctl config undo %d` brings the newer value again",
                ", ".join(command.took_back),
                handled.events[-1].seq,
            )

    async def _taken_back(self, changes: Mapping[str, Value | None]) -> tuple[str, ...]:
        """The settings that get the value of before a change that somebody made in another way."""
        found = []
        for key, value in changes.items():
            newest = await self._history.changes(key=key, limit=1)
            if newest and newest[0].actor.name != "file" and newest[0].before[key] == value:
                found.append(key)
        return tuple(found)

    async def _write(self, content: Content | None) -> None:
        """Give the file the log's values."""
        state, _ = await self._handler.state(settings.STREAM)
        values = dict((state or SettingsState()).values)
        known = self._memory.known[-1].values if content is not None and self._memory.known else None
        if known == values and known is not None and _same_types(known, values):
            return
        data = written(None if content is None else content.data.decode(), values).encode()
        if content is not None and data == content.data:
            self._remember(Memory((Synced(_sha256(content), values),)))
            return
        made = Synced(hashlib.sha256(data).hexdigest(), values)
        # Before the write: a daemon that dies in between must not take its own content for a person's.
        before = self._memory.known[-1:]
        self._remember(Memory((made, *before)))
        if await anyio.to_thread.run_sync(replace_content, self._path, content, data):
            self._remember(Memory((made,)))
        else:
            self._remember(Memory(before))
            self._wake.set()

    def _is_known(self, content: Content) -> bool:
        """Whether this is no edit; the memory then says which of the known contents it is."""
        sha256 = _sha256(content)
        for one in self._memory.known:
            if one.sha256 == sha256:
                if self._memory != Memory((one,)):
                    self._remember(Memory((one,)))
                return True
        return False

    def _remember(self, memory: Memory) -> None:
        if memory != self._memory:
            self._memory = memory
            write_atomically(self._memory_path, msgspec.json.encode(memory))

    def _tell(self, text: str) -> None:
        if self._troubles.get(TROUBLE) != text:
            log.warning("%s", text)
        self._troubles[TROUBLE] = text


def _remembered(path: Path) -> Memory:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Memory)
    except (OSError, msgspec.MsgspecError):
        # Whatever stands there instead: without a memory, the file is compared with the log.
        return Memory()


def _sha256(content: Content) -> str:
    return hashlib.sha256(content.data).hexdigest()


def _same_types(one: Mapping[str, Value], other: Mapping[str, Value]) -> bool:
    return all(type(one[key]) is type(other[key]) for key in one)
