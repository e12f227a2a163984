"""Contents that a person sent, and the rows that a child makes of them, once."""

import secrets
from collections.abc import Callable, Mapping

import anyio.to_thread
import msgspec
from msgspec import Struct, field

from btmd.data.row_chunks import clear_rows
from btmd.domain.event import Actor
from btmd.errors import DatasetRefused, FileMissing
from btmd.inspection.facts import DatasetFacts, MappedRows
from btmd.inspection.requests import DatasetRequest, MappedRowsRequest
from btmd.projections.dataset import versions_of_source
from btmd.reading.folder_files import FolderFile
from btmd.registry.content import ContentStore
from btmd.registry.contents_in_use import ContentsInUse
from btmd.registry.folder_list import FolderList, ListedFile, read_folder_list
from btmd.registry.inspector import Inspector
from btmd.store.event_log import Store

OnProgress = Callable[[float, str], None]
MOST_FACTS_BYTES = 4 * 1024 * 1024
"""What is recorded of a source for good, and read whenever datasets are listed."""


class Source(Struct, frozen=True):
    """An uploaded content, by its SHA-256, and where it came from. ``path`` and ``changed_us`` are the person's."""

    content: str
    file_name: str
    mapping: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    changed_us: int = 0
    folder: bool = False
    """The content is the list of a folder's files, which are contents of their own."""

    @property
    def plain_name(self) -> str:
        """The file's name without folders."""
        return self.file_name.replace("\\", "/").rpartition("/")[2]


class SourceReading:
    """Makes rows from contents; what was read before with the same mapping is not read again."""

    def __init__(self, store: Store, inspector: Inspector, contents: ContentStore, in_use: ContentsInUse) -> None:
        self._store, self._inspector, self._contents, self._in_use = store, inspector, contents, in_use

    async def require(self, source: Source, actor: Actor) -> None:
        """Raises FileMissing where the content has to be sent first."""
        if self._contents.sent_by(source.content, actor.uid):
            missing = len([one for one in self._files(source) if not self._contents.sent_by(one.sha256, actor.uid)])
            if missing and await self._known(source, actor) is None:
                raise FileMissing(
                    f"{missing:,} files of the folder were not uploaded.",
                    hint="Send each with PUT /contents/{sha256} first.",
                )
        elif await self._known(source, actor) is None:
            raise FileMissing("This content was not uploaded.", hint="Send it with PUT /contents/{sha256} first.")

    async def rows(self, source: Source, actor: Actor, held: set[str], on_progress: OnProgress) -> DatasetFacts:
        """The rows of a content, in the content store and in ``held``. Raises FileMissing, DatasetRefused."""
        known = await self._known(source, actor)
        if known is not None:
            held |= self._contents.with_chunks([known.rows_sha256])
            # Added again, perhaps since it turned out to be damaged.
            await anyio.to_thread.run_sync(self._contents.remove_damaged, known.rows_sha256)
            if self._contents.whole(known.rows_sha256):
                return known
        await self.require(source, actor)
        held |= {one.sha256 for one in self._files(source)}
        rows = self._contents.working_file(secrets.token_hex(8))
        try:
            request = DatasetRequest(
                source=str(self._contents.path(source.content)),
                name=source.plain_name,
                rows=str(rows),
                mapping=dict(source.mapping) or None,
                folder=self._folder(source),
                skipped=self._list(source).skipped if source.folder else (),
            )
            facts = await self._inspector.dataset(request, on_progress)
            _require_brief(facts)
            await self._in_use.adopt_rows(rows, facts.rows_sha256, held)
        finally:
            clear_rows(rows)
        return facts

    async def mapped_rows(self, source: Source, actor: Actor, held: set[str]) -> MappedRows:
        """A few rows as the source's mapping makes them, for showing only. Raises FileMissing, DatasetRefused."""
        if not self._contents.sent_by(source.content, actor.uid):
            raise FileMissing("This content was not uploaded.", hint="Send it with PUT /contents/{sha256} first.")
        held |= {one.sha256 for one in self._files(source)}
        await self.require(source, actor)
        return await self._inspector.mapped_rows(
            MappedRowsRequest(
                source=str(self._contents.path(source.content)),
                name=source.plain_name,
                mapping=dict(source.mapping) or None,
                folder=self._folder(source),
                scratch=str(self._contents.working_file(secrets.token_hex(8))),
            )
        )

    def _list(self, source: Source) -> FolderList:
        return read_folder_list(self._contents.path(source.content))

    def _files(self, source: Source) -> tuple[ListedFile, ...]:
        return self._list(source).files if source.folder else ()

    def _folder(self, source: Source) -> tuple[FolderFile, ...] | None:
        if not source.folder:
            return None
        return tuple(FolderFile(one.name, str(self._contents.path(one.sha256))) for one in self._files(source))

    async def _known(self, source: Source, actor: Actor) -> DatasetFacts | None:
        """Facts of a version with this content and mapping: of one's own, or of anybody's who sent the bytes too."""
        sent = self._contents.sent_by(source.content, actor.uid)
        async with self._store.session() as session:
            found = await versions_of_source(session, source.content)
        for row, version in found:
            mine = sent or row.owner_uid == actor.uid
            if mine and version.mapping == dict(source.mapping) and self._contents.whole(version.rows_sha256):
                return msgspec.convert(version.facts, DatasetFacts)
        return None


def _require_brief(facts: DatasetFacts) -> None:
    size_bytes = len(msgspec.json.encode(facts))
    if size_bytes > MOST_FACTS_BYTES:
        raise DatasetRefused(
            f"What there is to record of this data, names of columns and files above all, takes {size_bytes:,} bytes.",
            hint="Give columns and files shorter names, or add fewer of them together.",
        )
