"""Versions made from versions: cleaned, anonymised, or read anew from the file as it is now."""

import hashlib
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from btmd.child.caller import ignore_progress
from btmd.command_handler import CommandHandler, Handled, Respond
from btmd.data.row_chunks import clear_rows
from btmd.domain.dataset import AddVersion, DatasetVersionAdded, Made, stream_name
from btmd.domain.event import Actor
from btmd.inspection.facts import DatasetFacts
from btmd.inspection.requests import DifferenceRequest
from btmd.projections.dataset import DatasetRow, DatasetVersionRow
from btmd.registry.content import ContentStore
from btmd.registry.contents_in_use import ContentsInUse
from btmd.registry.inspector import Inspector
from btmd.registry.sources import Source, SourceReading
from btmd.store.event_log import IdempotencyKey

OnProgress = Callable[[float, str], None]


class Derived(Struct, frozen=True):
    """What a child made: ``facts`` of the new rows (with their ``rows_sha256``), and what is different."""

    facts: DatasetFacts
    changes: dict[str, Any] = field(default_factory=dict)
    """Counts, kinds, column names and line numbers; never text of rows."""


class DatasetVersions:
    """Makes the next version of a dataset; what is refused leaves nothing behind."""

    def __init__(
        self,
        handler: CommandHandler,
        inspector: Inspector,
        contents: ContentStore,
        in_use: ContentsInUse,
        sources: SourceReading,
    ) -> None:
        self._handler, self._inspector, self._contents = handler, inspector, contents
        self._in_use, self._sources = in_use, sources

    async def update(
        self,
        row: DatasetRow,
        base: DatasetVersionRow,
        source: Source,
        *,
        actor: Actor,
        on_progress: OnProgress = ignore_progress,
        idempotency: IdempotencyKey | None = None,
        respond: Respond | None = None,
    ) -> Handled:
        """The next version from the file as it is now, with what is different; none for the same content and mapping.

        Raises FileMissing while the content is not there, DatasetRefused, Conflict.
        """
        needed = source.content, base.rows_sha256
        async with self._in_use.holding(*needed, dataset_id=row.dataset_id, sent_by=actor.uid) as held:
            if source.content == base.source_sha256 and dict(source.mapping) == base.mapping:
                state, version = await self._handler.state(stream_name(row.dataset_id))
                return Handled([], state, version)
            await self._sources.require(source, actor)
            facts = await self._sources.rows(source, actor, held, lambda done, text: on_progress(done * 0.8, text))
            request = DifferenceRequest(
                before=str(self._contents.path(base.rows_sha256)), after=str(self._contents.path(facts.rows_sha256))
            )
            found = await self._inspector.difference(request, lambda done, text: on_progress(0.8 + done * 0.2, text))
            command = AddVersion(_version(row, base, "update", Derived(facts, msgspec.to_builtins(found)), source))
            return await self._handler.handle(command, actor=actor, idempotency=idempotency, respond=respond)

    async def derive(
        self,
        row: DatasetRow,
        base: DatasetVersionRow,
        *,
        made: Made,
        work: Callable[[Path], Awaitable[Derived]],
        actor: Actor,
        on_progress: OnProgress = ignore_progress,
        idempotency: IdempotencyKey | None = None,
        respond: Respond | None = None,
    ) -> Handled:
        """Record the rows that ``work`` has a child write to the path it is given (with ``RowsWriter``) as a version.

        The rows of ``base`` stay where they are until then. The same rows as those of ``base`` make no version
        (``Handled.events`` is empty). Raises what ``work`` raises, and Conflict when another version was recorded
        meanwhile.
        """
        rows_out = self._contents.working_file(secrets.token_hex(8))
        async with self._in_use.holding(base.rows_sha256, dataset_id=row.dataset_id) as held:
            try:
                derived = await work(rows_out)
                if derived.facts.rows_sha256 == base.rows_sha256:
                    state, version = await self._handler.state(stream_name(row.dataset_id))
                    return Handled([], state, version)
                on_progress(1.0, "Keeping the rows")
                await self._in_use.adopt_rows(rows_out, derived.facts.rows_sha256, held)
            finally:
                clear_rows(rows_out)
            command = AddVersion(_version(row, base, made, derived))
            return await self._handler.handle(command, actor=actor, idempotency=idempotency, respond=respond)


def _version(
    row: DatasetRow, base: DatasetVersionRow, made: Made, derived: Derived, source: Source | None = None
) -> DatasetVersionAdded:
    facts = derived.facts
    content = base.source_sha256 if source is None else source.content
    return DatasetVersionAdded(
        dataset_id=row.dataset_id,
        version_id=version_id(content, facts.rows_sha256, base.version_id),
        parent=base.version_id,
        made=made,
        changes=derived.changes,
        source_sha256=content,
        rows_sha256=facts.rows_sha256,
        size_bytes=facts.size_bytes,
        rows=facts.rows_kept,
        mapping=base.mapping if source is None else dict(source.mapping),
        facts=msgspec.to_builtins(facts, str_keys=True),
        source_path=base.source_path if source is None else source.path,
        source_changed_us=base.source_changed_us if source is None else source.changed_us,
    )


def version_id(source_sha256: str, rows_sha256: str, parent: str = "") -> str:
    """16 hexadecimal digits that name a version: a first one by source and rows, a later one by its parent too."""
    return hashlib.sha256((source_sha256 + rows_sha256 + parent).encode()).hexdigest()[:16]
