"""Which contents may leave the disk: none that the log names, and none that work under way has or needs."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from btmd.data.row_chunks import read_list
from btmd.errors import BtmdError
from btmd.projections.dataset import referenced_contents
from btmd.projections.job import unfinished_contents
from btmd.registry.content import ContentStore
from btmd.store.event_log import Store


class ContentsInUse:
    def __init__(self, store: Store, contents: ContentStore) -> None:
        self._store, self._contents = store, contents
        self._held: dict[object, set[str]] = {}
        self._left: set[str] = set()
        """What work that was cancelled had: it stays until the next start, or until a dataset is erased."""
        self._erased: set[str] = set()

    @asynccontextmanager
    async def holding(self, *named: str) -> AsyncIterator[set[str]]:
        """A set whose contents stay while the block runs, though the log does not name them yet; it may grow.

        What nothing needs then goes, also when the block was refused. After a cancellation the log may yet name what
        is there: the next start looks, and so does an erasure. What was erased meanwhile goes at once.
        """
        work = object()
        held = self._held[work] = set(named)
        try:
            try:
                yield held
            except BtmdError:
                del self._held[work]
                await self.remove_unneeded(held)
                raise
            del self._held[work]
            await self.remove_unneeded(held)
        finally:
            if self._held.pop(work, None) is not None:
                self._left |= held
                if not self._erased.isdisjoint(held):
                    with anyio.CancelScope(shield=True):
                        await self.remove_unneeded(held)

    async def erased(self, contents: Iterable[str]) -> None:
        """Contents of a dataset that was erased leave when the work that holds them ends, however it ends.

        With them goes what work that was given up has left: it may hold the same text in a newer file.
        """
        self._erased |= set(contents)
        left = set(self._left)
        await self.remove_unneeded(left)
        self._left -= left

    async def adopt_rows(self, path: Path, sha256: str, held: set[str]) -> None:
        """Move rows that a child finished into the content store, held before they are there. Raises OSError."""
        held |= {sha256, *(chunk.sha256 for chunk in read_list(path))}
        await anyio.to_thread.run_sync(self._contents.adopt_rows, path, sha256)

    async def remove_unneeded(self, candidates: set[str]) -> None:
        """Remove those of ``candidates``, and the chunks they name, that nothing needs."""
        candidates = self._contents.with_chunks(candidates)
        async with self._store.session() as session:
            named = await referenced_contents(session) | await unfinished_contents(session)
        # Asked for after the log is read: work may be recorded meanwhile, or begin.
        for sha256 in candidates - self._contents.with_chunks(self.with_held(named)):
            self._contents.remove(sha256)

    def with_held(self, named: set[str]) -> set[str]:
        """The same contents and those that work under way holds."""
        return named.union(*self._held.values())
