"""Which contents may leave the disk: none that the log names, and none that work under way has or needs."""

import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Set
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
from msgspec import Struct, field

from btmd.data.row_chunks import read_list
from btmd.errors import BtmdError, Conflict
from btmd.projections.dataset import referenced_contents
from btmd.projections.job import unfinished_contents
from btmd.registry.content import ContentStore
from btmd.store.event_log import Store

log = logging.getLogger("btmd.contents")

_AT_ONCE = 200
"""How many files are removed before others have their turn."""


class _Work(Struct, eq=False):
    """What some work has, the dataset whose rows it reads, and how to end it."""

    held: set[str]
    dataset_id: str
    sent_by: int | None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)


class ContentsInUse:
    """Holds contents for work, and removes what nothing names or holds.

    Everything is removed in the loop, in the same breath as the look whether it is held: nobody begins to hold what
    is just going.
    """

    def __init__(self, store: Store, contents: ContentStore) -> None:
        self._store, self._contents = store, contents
        self._works: set[_Work] = set()
        self._looks: dict[object, set[str]] = {}
        """What was held since each look began that is under way: it may have been named after the log was read."""
        self._left: set[str] = set()
        """What could not be removed while the log could not be written."""
        self._coming_back = 0
        self._came_back = anyio.Event()

    @asynccontextmanager
    async def holding(self, *named: str, dataset_id: str = "", sent_by: int | None = None) -> AsyncIterator[set[str]]:
        """A set whose contents stay while the block runs, though the log does not name them yet; it may grow.

        What nothing needs then goes, however the block ended; but what others than the user ``sent_by`` have sent as
        well waits for them. With ``dataset_id`` an erasure of that dataset ends the block: raises Conflict.
        """
        work = _Work(set(named), dataset_id, sent_by)
        self._works.add(work)
        try:
            with work.scope:
                yield work.held
        finally:
            self._works.discard(work)
            for look in self._looks.values():
                look |= work.held
            with anyio.CancelScope(shield=True):
                await self._leave(work)
        if work.scope.cancelled_caught:
            raise Conflict("The dataset was erased meanwhile.", hint="`btmctl datasets list` shows those there are.")

    async def _leave(self, work: _Work) -> None:
        if work.sent_by is not None:
            work.held -= self._contents.used_by(work.sent_by, work.held)
        try:
            # What was given up may yet be written to the log: afterwards it says whether it was.
            await self._store.round_trip()
            await self.remove_unneeded(work.held)
        except (BtmdError, OSError) as error:
            log.error("contents that may be needed by nothing stay for now: %s", error)
            self._left |= work.held
        finally:
            work.ended.set()

    @contextmanager
    def bringing_back(self) -> Iterator[None]:
        """Meanwhile nothing goes because nothing names it: files may stand there before the log does."""
        self._coming_back += 1
        try:
            yield
        finally:
            self._coming_back -= 1
            if not self._coming_back:
                self._came_back.set()
                self._came_back = anyio.Event()

    async def adopt_rows(self, path: Path, sha256: str, held: set[str]) -> None:
        """Move rows that a child finished into the content store, held before they are there. Raises OSError."""
        held |= {sha256, *(chunk.sha256 for chunk in read_list(path))}
        await anyio.to_thread.run_sync(self._contents.adopt_rows, path, sha256)

    async def remove_unneeded(self, candidates: set[str]) -> None:
        """Remove those of ``candidates``, and the chunks they name, that nothing needs."""

        def going(needed: set[str]) -> set[str]:
            return self._contents.with_chunks(candidates) - self._contents.with_chunks(needed)

        await self._remove(going, last=candidates)

    async def remove_erased(self, dataset_id: str, contents: Collection[str]) -> None:
        """Remove contents of an erased dataset, unfinished uploads of them, and all chunks that nothing needs.

        Where its lists of rows are damaged, nobody knows which chunks were of it. Work on the dataset is ended first.
        Raises OSError.
        """
        works = [work for work in self._works if work.dataset_id == dataset_id]
        for work in works:
            work.scope.cancel()
        for work in works:
            await work.ended.wait()
        while self._coming_back:
            await self._came_back.wait()

        def going(needed: set[str]) -> set[str]:
            named = self._contents.with_chunks(contents) - self._contents.with_chunks(needed)
            return named | self._contents.loose_chunks(needed)

        removed = await self._remove(going, last=contents)
        self._contents.remove_unfinished(set(contents))
        await anyio.to_thread.run_sync(self._contents.sync, removed)

    async def remove_left(self) -> None:
        """Remove what could not go before, now that the log can be written again. Raises StoreFailed, OSError."""
        await self._store.round_trip()
        left, self._left = self._left, set()
        if left:
            await self.remove_unneeded(left)

    async def sweep(self, before_s: float, registered: Set[str]) -> int:
        """Remove what nothing needs and nobody touched since, unfinished uploads too; returns how many files.

        ``registered`` is what the log itself says, so that a damaged view costs nobody their data. Raises StoreFailed,
        OSError.
        """
        await self.remove_left()
        if self._coming_back:
            return 0
        removed = await self._remove(lambda needed: self._contents.forgotten(needed | registered, before_s))
        given_up = await anyio.to_thread.run_sync(self._contents.given_up, before_s)
        for path in given_up:
            self._contents.clear(path)
        return len(removed) + len(given_up)

    async def _remove(self, going: Callable[[set[str]], set[str]], *, last: Collection[str] = ()) -> list[str]:
        """Remove what ``going`` says of what is needed, but for what was held meanwhile; returns what went.

        A list goes after its chunks: without it nobody could tell what is left of them.
        """
        look = object()
        meanwhile = self._looks[look] = self.held()
        removed: list[str] = []
        try:
            async with self._store.session() as session:
                named = await referenced_contents(session) | await unfinished_contents(session)
            needed = named | meanwhile
            chosen = await anyio.to_thread.run_sync(going, needed)
            kept: set[str] = set()
            for number, sha256 in enumerate(sorted(chosen, key=lambda one: one in last)):
                if number % _AT_ONCE == 0:
                    await anyio.lowlevel.checkpoint()
                    kept = self._contents.with_chunks((meanwhile | self.held()) - needed)
                if sha256 not in kept:
                    self._contents.remove(sha256)
                    removed.append(sha256)
        finally:
            del self._looks[look]
        return removed

    def held(self) -> set[str]:
        """What work under way has or needs."""
        return set[str]().union(*(work.held for work in self._works))
