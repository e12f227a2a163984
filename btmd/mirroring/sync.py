"""Between a file and the log: what a person saves becomes events, what the log says becomes the file."""

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from btmd.domain.event import Actor
from btmd.errors import BtmdError
from btmd.files.watched_file import ENCODING, Content, FileWrong, read_content, remove_content, replace_content

log = logging.getLogger("btmd.files")

STILL_S = 0.5
"""A content that stood so long is one that somebody meant."""
ABSENT = ""
"""Stands for the content of a file that is not there."""

Values = dict[str, Any]


class Synced(msgspec.Struct, frozen=True):
    """A content of the file that log and file agree on; ABSENT where both have nothing."""

    sha256: str
    values: Values


class Memory(msgspec.Struct, frozen=True):
    """What is remembered across restarts.

    ``known`` are contents that are no person's edit: the last one agreed on and, around a write of ours, the next one.
    """

    known: tuple[Synced, ...] = ()
    rejected: str = ""


class Mirror(ABC):
    """One file and what it stands for in the log.

    ``about`` names it among the troubles, ``stays`` says what a wrong content does not touch, ``none_yet`` that there
    is no such thing. ``removable``: whether taking the file away is a wish.
    """

    path: Path
    about: str
    stays: str
    none_yet: str = ""
    removable: bool

    @abstractmethod
    def read(self, data: bytes) -> Values:
        """The values in the text. Raises FileWrong."""

    async def check(self, data: bytes, values: Values) -> None:
        """Raises FileWrong for values that the text may have and that cannot be used as things stand."""
        return

    @abstractmethod
    def write(self, text: str | None, values: Values) -> str:
        """The text with these values."""

    @abstractmethod
    async def current(self) -> Values | None:
        """What the log has; None for nothing, where there shall be no file."""

    @abstractmethod
    async def take(self, values: Values | None, changes: Mapping[str, Any], sha256: str, actor: Actor) -> None:
        """Record what a person saved: all ``values``, or None for a file taken away, and what of them they changed."""

    @abstractmethod
    async def reject(self, sha256: str, error: FileWrong, actor: Actor) -> None:
        """Record that a content cannot be used."""


class FileSync:
    """Keeps one file and the log the same. ``troubles`` is told what a person should know.

    ``remember`` keeps the memory across restarts; ``again`` asks for another look soon.
    """

    def __init__(
        self,
        mirror: Mirror,
        *,
        memory: Memory,
        remember: Callable[[Memory], None],
        again: Callable[[], None],
        troubles: MutableMapping[str, str],
    ) -> None:
        self._mirror, self._path = mirror, mirror.path
        self._memory, self._keep = memory, remember
        self._again, self._troubles = again, troubles

    async def sync_or_tell(self) -> bool:
        """Whether both sides agree now or wait for a person; what hinders goes into the troubles."""
        try:
            await self.sync()
            return True
        except FileWrong as error:
            self._tell(error.detail)
            return True
        except OSError as problem:
            self._tell(f"{self._path} cannot be used: {problem.strerror or problem}. {self._mirror.stays}")
        except BtmdError as error:
            log.error("%s waits: %s", self._path, error.detail)
        return False

    async def sync(self) -> None:
        """Take what a person saved, then write what the log says. Raises OSError, and what the log refuses with."""
        # Before the file: what comes to the log while it is watched to stand still is no change by the file.
        current = await self._mirror.current()
        content = await anyio.to_thread.run_sync(read_content, self._path)
        if not self._is_known(content):
            content = await self._still(content)
            if not self._is_known(content):
                await self._take(content, current or {})
                if content is not None and _sha256(content) == self._memory.rejected:
                    # What a person is still mending is not written over.
                    return
        self._troubles.pop(self._mirror.about, None)
        await self._write(content)

    async def _still(self, content: Content | None) -> Content | None:
        """The content once it has not changed for a while."""
        while True:
            await anyio.sleep(STILL_S)
            again = await anyio.to_thread.run_sync(read_content, self._path)
            if (again and again.data) == (content and content.data):
                return again
            content = again

    async def _take(self, content: Content | None, current: Values) -> None:
        """Record what a person saved, as changes or as rejected; the same once only.

        ``current`` is what the log had when the file was read: without a memory, the file is compared with that.
        """
        if content is None:
            # Where the folder went too, nobody has taken this file out of it.
            owner = self._path.parent.stat()
            await self._mirror.take(None, {}, ABSENT, Actor(owner.st_uid, owner.st_gid, 0, (), "file"))
            self._remember(Memory())
            return
        actor = Actor(content.uid, content.gid, 0, (), "file")
        sha256 = _sha256(content)
        try:
            values = self._mirror.read(content.data)
            await self._mirror.check(content.data, values)
        except FileWrong as error:
            if sha256 != self._memory.rejected:
                await self._mirror.reject(sha256, error, actor)
                self._remember(Memory(self._memory.known, sha256))
            where = f"{self._path}, line {error.line}: " if error.line is not None else f"{self._path}: "
            stays = self._mirror.none_yet if await self._mirror.current() is None else self._mirror.stays
            self._tell(f"{where}{error.detail} {stays}")
            return
        known = self._memory.known
        # Without a memory nobody can tell whether a value that is only in the log was taken out of the file: it stays.
        base = known[-1].values if known else {key: current[key] for key in current.keys() & values.keys()}
        # Only what the person changed: what came to the log meanwhile is not in their copy.
        changes = {
            key: values.get(key)
            for key in sorted(base.keys() | values.keys())
            if _differ(base.get(key), values.get(key))
        }
        if changes or known:
            await self._mirror.take(values, changes, sha256, actor)
        self._remember(Memory((Synced(sha256, values),)))

    async def _write(self, content: Content | None) -> None:
        """Give the file what the log has."""
        values = await self._mirror.current()
        if values is None:
            await self._remove(content)
            return
        known = self._memory.known[-1].values if content is not None and self._memory.known else None
        if known is not None and not any(_differ(known.get(key), values.get(key)) for key in known | values):
            return
        data = self._mirror.write(None if content is None else content.data.decode(ENCODING), values).encode()
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
            await self._look_again()

    async def _remove(self, content: Content | None) -> None:
        if content is not None:
            before = self._memory.known[-1:]
            self._remember(Memory((Synced(ABSENT, {}), *before)))
            if not await anyio.to_thread.run_sync(remove_content, self._path, content):
                self._remember(Memory(before))
                await self._look_again()
                return
        self._remember(Memory())

    async def _look_again(self) -> None:
        """Soon, but not at once: an editor may keep the file open to write for as long as it likes."""
        await anyio.sleep(STILL_S)
        self._again()

    def _is_known(self, content: Content | None) -> bool:
        """Whether this is no edit; the memory then says which of the known contents it is."""
        if content is None and (not self._mirror.removable or not self._memory.known):
            return True
        sha256 = ABSENT if content is None else _sha256(content)
        for one in self._memory.known:
            if one.sha256 == sha256:
                self._remember(Memory((one,)))
                return True
        return False

    def _remember(self, memory: Memory) -> None:
        if memory != self._memory:
            self._memory = memory
            self._keep(memory)

    def _tell(self, text: str) -> None:
        if self._troubles.get(self._mirror.about) != text:
            log.warning("%s", text)
        self._troubles[self._mirror.about] = text


def _sha256(content: Content) -> str:
    return hashlib.sha256(content.data).hexdigest()


def _differ(one: object, other: object) -> bool:
    return one != other or type(one) is not type(other)
