"""Adding, measuring and removing datasets: read in a child, kept by content, used with consent."""

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from btmd.command_handler import CommandHandler, Handled
from btmd.data.row_chunks import RowsFile, clear_rows
from btmd.domain.dataset import AddDataset, DatasetState, RemoveDataset
from btmd.domain.event import Actor
from btmd.errors import Conflict, FileMissing, InvalidValue
from btmd.files.durable import write_atomically
from btmd.inspection.facts import DatasetFacts, TokenFacts
from btmd.inspection.requests import DatasetRequest, TokensRequest
from btmd.naming import slug
from btmd.projections.dataset import DatasetRow, DatasetVersionRow
from btmd.projections.job import unfinished_jobs
from btmd.projections.model import ModelRow
from btmd.registry.content import ContentStore
from btmd.registry.contents_in_use import ContentsInUse
from btmd.registry.inspector import Inspector
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
        cache_dir: Path,
    ) -> None:
        self._store, self._handler, self._inspector, self._contents = store, handler, inspector, contents
        self._in_use, self._cache_dir = in_use, cache_dir

    async def add(
        self,
        *,
        content: str,
        file_name: str,
        name: str | None,
        consent: bool,
        purpose: str,
        mapping: Mapping[str, str],
        actor: Actor,
        on_progress: OnProgress,
        idempotency: IdempotencyKey | None = None,
        respond: Callable[[DatasetState, list[Recorded]], bytes] | None = None,
    ) -> Handled:
        """Read an uploaded content into rows and register it; a refused one leaves nothing behind.

        Raises FileMissing while the content is not there, DatasetRefused, Conflict.
        """
        source = self._contents.path(content)
        if not source.is_file():
            raise FileMissing("This content was not uploaded.", hint="Send it with PUT /contents/{sha256} first.")
        file_name = file_name.replace("\\", "/").rpartition("/")[2]
        name = name or file_name.rpartition(".")[0] or file_name
        async with self._in_use.holding(content) as held:
            dataset_id = slug(name)
            if len(purpose) > LONGEST_PURPOSE:
                raise InvalidValue(f"The purpose has more than {LONGEST_PURPOSE:,} characters.", hint="Say it shorter.")
            facts = await self._read(source, file_name, dict(mapping), on_progress, held)
            command = AddDataset(
                dataset_id=dataset_id,
                name=name,
                owner_uid=actor.uid,
                source_name=file_name,
                version_id=version_id(content, facts.rows_sha256),
                source_sha256=content,
                rows_sha256=facts.rows_sha256,
                size_bytes=facts.size_bytes,
                rows=facts.rows_kept,
                mapping=dict(mapping),
                facts=msgspec.to_builtins(facts, str_keys=True),
                consent=consent,
                purpose=purpose,
            )
            return await self._handler.handle(command, actor=actor, idempotency=idempotency, respond=respond)

    async def remove(self, row: DatasetRow, versions: list[DatasetVersionRow], *, actor: Actor) -> Handled:
        """End the registration and remove contents that nothing else needs. Raises Conflict."""
        async with self._store.session() as session:
            users = [job.job_id for job in await unfinished_jobs(session) if job.dataset_id == row.dataset_id]
        if users:
            raise Conflict(
                f"The dataset {row.name} is needed by the job {users[0]}.",
                hint=f"Cancel it first: `btmctl jobs cancel {users[0]}`.",
            )
        handled = await self._handler.handle(RemoveDataset(row.dataset_id), actor=actor)
        await self._in_use.remove_unneeded({one for each in versions for one in (each.source_sha256, each.rows_sha256)})
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

    async def _read(
        self, source: Path, file_name: str, mapping: dict[str, str], on_progress: OnProgress, held: set[str]
    ) -> DatasetFacts:
        rows = self._contents.working_file(secrets.token_hex(8))
        try:
            request = DatasetRequest(source=str(source), name=file_name, rows=str(rows), mapping=mapping or None)
            facts = await self._inspector.dataset(request, on_progress)
            await self._in_use.adopt_rows(rows, facts.rows_sha256, held)
        finally:
            clear_rows(rows)
        return facts
