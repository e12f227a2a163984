"""Adding, measuring and removing datasets: read in a child, kept by content, used with consent."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from btmd.command_handler import CommandHandler, Handled
from btmd.data.row_chunks import RowsFile
from btmd.domain.dataset import AddDataset, DatasetAdded, DatasetState, DatasetVersionAdded, RemoveDataset, taken
from btmd.domain.event import Actor
from btmd.errors import Conflict, FileMissing, InvalidValue
from btmd.files.durable import write_atomically
from btmd.inspection.facts import MappedRows, TokenFacts
from btmd.inspection.requests import TokensRequest
from btmd.naming import slug
from btmd.projections.dataset import DatasetRow, DatasetVersionRow, datasets, versions
from btmd.projections.job import unfinished_jobs
from btmd.projections.model import ModelRow
from btmd.registry.content import ContentStore
from btmd.registry.contents_in_use import ContentsInUse
from btmd.registry.inspector import Inspector
from btmd.registry.sources import Source, SourceReading
from btmd.registry.versions import version_id
from btmd.store.event_log import IdempotencyKey, Recorded, Store

LONGEST_PURPOSE = 1000
OnProgress = Callable[[float, str], None]


class DatasetAdding:
    """Registers datasets from contents that were uploaded, and measures them."""

    def __init__(
        self,
        store: Store,
        handler: CommandHandler,
        inspector: Inspector,
        contents: ContentStore,
        in_use: ContentsInUse,
        sources: SourceReading,
        cache_dir: Path,
    ) -> None:
        self._store, self._handler, self._inspector, self._contents = store, handler, inspector, contents
        self._in_use, self._sources, self._cache_dir = in_use, sources, cache_dir

    async def add(
        self,
        source: Source,
        *,
        name: str | None,
        consent: bool,
        purpose: str,
        scopes: tuple[str, ...] = ("train",),
        actor: Actor,
        on_progress: OnProgress,
        idempotency: IdempotencyKey | None = None,
        respond: Callable[[DatasetState, list[Recorded]], bytes] | None = None,
    ) -> Handled:
        """Make rows of an uploaded content and register them; a refused one leaves nothing behind.

        Raises FileMissing while the content is not there, DatasetRefused, Conflict.
        """
        await self._sources.require(source, actor)
        file_name = source.plain_name
        name = name or file_name.rpartition(".")[0] or file_name
        async with self._in_use.holding(source.content, sent_by=actor.uid) as held:
            dataset_id = slug(name)
            if len(purpose) > LONGEST_PURPOSE:
                raise InvalidValue(f"The purpose has more than {LONGEST_PURPOSE:,} characters.", hint="Say it shorter.")
            by_owner = await self._is_own(dataset_id, name, actor)
            facts = await self._sources.rows(source, actor, held, on_progress)
            added = DatasetAdded(dataset_id, name, actor.uid, file_name)
            version = DatasetVersionAdded(
                dataset_id=dataset_id,
                version_id=await self._version_there(dataset_id, source)
                or version_id(source.content, facts.rows_sha256),
                source_sha256=source.content,
                rows_sha256=facts.rows_sha256,
                size_bytes=facts.size_bytes,
                rows=facts.rows_kept,
                mapping=dict(source.mapping),
                facts=msgspec.to_builtins(facts, str_keys=True),
                source_path=source.path,
                source_changed_us=source.changed_us,
            )
            command = AddDataset(added, version, consent, purpose, scopes, by_owner)
            try:
                return await self._handler.handle(command, actor=actor, idempotency=idempotency, respond=respond)
            except Conflict:
                # Until this was decided, the same user may have added it in another request.
                if by_owner or not await self._is_own(dataset_id, name, actor):
                    raise
            command = msgspec.structs.replace(command, by_owner=True)
            return await self._handler.handle(command, actor=actor, idempotency=idempotency, respond=respond)

    async def _is_own(self, dataset_id: str, name: str, actor: Actor) -> bool:
        """Whether the dataset is there and the user's. Raises Conflict where it is somebody else's."""
        async with self._store.session() as session:
            there = next((one for one in await datasets(session) if one.dataset_id == dataset_id), None)
        if there is not None and there.owner_uid != actor.uid:
            raise taken(name)
        return there is not None

    async def _version_there(self, dataset_id: str, source: Source) -> str:
        """The newest version of the dataset if it came from this very source, perhaps by way of others; else empty."""
        async with self._store.session() as session:
            for newest in (await versions(session, dataset_id))[:1]:
                if newest.source_sha256 == source.content and newest.mapping == dict(source.mapping):
                    return newest.version_id
        return ""

    async def mapped_rows(self, source: Source, actor: Actor) -> MappedRows:
        """A few rows as a mapping makes them, for showing only; the content is not kept for it.

        Raises FileMissing, DatasetRefused, InvalidValue.
        """
        async with self._in_use.holding(source.content, sent_by=actor.uid) as held:
            return await self._sources.mapped_rows(source, actor, held)

    async def remove(self, row: DatasetRow, every: list[DatasetVersionRow], *, actor: Actor) -> Handled:
        """End the registration and remove contents that nothing else needs. Raises Conflict."""
        async with self._store.session() as session:
            users = [job.job_id for job in await unfinished_jobs(session) if job.dataset_id == row.dataset_id]
        if users:
            raise Conflict(
                f"The dataset {row.name} is needed by the job {users[0]}.",
                hint=f"Cancel it first: `btmctl jobs cancel {users[0]}`.",
            )
        handled = await self._handler.handle(RemoveDataset(row.dataset_id), actor=actor)
        await self._in_use.remove_unneeded({one.rows_sha256 for one in every})
        return handled

    async def measure(self, version: DatasetVersionRow, model: ModelRow, on_progress: OnProgress) -> TokenFacts:
        """The version's rows as the model's tokenizer sees them; measured once, then remembered.

        Raises FileMissing when the contents are gone, NothingToLearn, ModelRefused.
        """
        rows = self.rows_path(version)
        kept = self._cache_dir / f"tokens-{version.version_id}-{model.facts.fingerprint[:32]}.json"
        try:
            return msgspec.json.decode(kept.read_bytes(), type=TokenFacts)
        except (FileNotFoundError, msgspec.DecodeError):
            pass
        facts = await self._inspector.tokens(TokensRequest(rows=str(rows), model=model.folder), on_progress)
        write_atomically(kept, msgspec.json.encode(facts))
        return facts

    def rows_path(self, version: DatasetVersionRow) -> Path:
        """Where the rows stand. Raises FileMissing when they are gone or are not whole."""
        path = self._contents.path(version.rows_sha256)
        if (
            not self._contents.whole(version.rows_sha256)
            or RowsFile(path).size_bytes != version.facts["rows_size_bytes"]
        ):
            raise FileMissing(
                "The contents of this dataset are not in the state folder any more.", hint="Add the file again."
            )
        return path
