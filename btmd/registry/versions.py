"""Versions made from versions: cleaned, anonymised, or read anew from the file as it is now."""

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from btmd.child.caller import ignore_progress
from btmd.command_handler import CommandHandler, Handled, Respond
from btmd.data.row_chunks import clear_rows
from btmd.domain.dataset import AddVersion, Made, stream_name
from btmd.domain.event import Actor
from btmd.inspection.facts import DatasetFacts
from btmd.projections.dataset import DatasetRow, DatasetVersionRow
from btmd.registry.content import ContentStore
from btmd.registry.contents_in_use import ContentsInUse
from btmd.store.event_log import IdempotencyKey

OnProgress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Derived:
    """What a child made: ``facts`` of the new rows (with their ``rows_sha256``), and what is different."""

    facts: DatasetFacts
    changes: dict[str, Any] = field(default_factory=dict)
    """Counts, kinds, column names and line numbers; never text of rows."""


class DatasetVersions:
    """Makes the next version of a dataset; what is refused leaves nothing behind."""

    def __init__(self, handler: CommandHandler, contents: ContentStore, in_use: ContentsInUse) -> None:
        self._handler, self._contents, self._in_use = handler, contents, in_use

    async def derive(
        self,
        row: DatasetRow,
        base: DatasetVersionRow,
        *,
        made: Made,
        work: Callable[[Path], Awaitable[Derived]],
        actor: Actor,
        on_progress: OnProgress = ignore_progress,
        source_sha256: str | None = None,
        source_path: str | None = None,
        mapping: Mapping[str, str] | None = None,
        idempotency: IdempotencyKey | None = None,
        respond: Respond | None = None,
    ) -> Handled:
        """Record the rows that ``work`` has a child write to the path it is given (with ``RowsWriter``) as a version.

        The rows of ``base`` stay where they are until then. The same rows as those of ``base`` make no version
        (``Handled.events`` is empty) unless they come from another source. Raises what ``work`` raises, and Conflict
        when another version was recorded meanwhile.
        """
        rows_out = self._contents.working_file(secrets.token_hex(8))
        async with self._in_use.holding(base.rows_sha256) as held:
            try:
                derived = await work(rows_out)
                source = source_sha256 or base.source_sha256
                if derived.facts.rows_sha256 == base.rows_sha256 and source == base.source_sha256:
                    state, version = await self._handler.state(stream_name(row.dataset_id))
                    return Handled([], state, version)
                on_progress(1.0, "Keeping the rows")
                await self._in_use.adopt_rows(rows_out, derived.facts.rows_sha256, held)
            finally:
                clear_rows(rows_out)
            command = AddVersion(
                dataset_id=row.dataset_id,
                version_id=version_id(source, derived.facts.rows_sha256, base.version_id),
                parent=base.version_id,
                made=made,
                changes=derived.changes,
                source_sha256=source,
                rows_sha256=derived.facts.rows_sha256,
                size_bytes=derived.facts.size_bytes,
                rows=derived.facts.rows_kept,
                mapping=base.mapping if mapping is None else dict(mapping),
                facts=msgspec.to_builtins(derived.facts, str_keys=True),
                source_path=base.source_path if source_path is None else source_path,
            )
            return await self._handler.handle(command, actor=actor, idempotency=idempotency, respond=respond)


def version_id(source_sha256: str, rows_sha256: str, parent: str = "") -> str:
    """16 hexadecimal digits that name a version: a first one by source and rows, a later one by its parent too."""
    return hashlib.sha256((source_sha256 + rows_sha256 + parent).encode()).hexdigest()[:16]
