"""Personal data in a version: surveyed once, shown in its context, replaced in a version made from it."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import msgspec

from btmd.command_handler import Handled, Respond
from btmd.domain.event import Actor
from btmd.errors import FileMissing, InvalidValue
from btmd.files.durable import write_atomically
from btmd.inspection.facts import DatasetFacts, PersonalData
from btmd.inspection.requests import AnonymiseRequest, AnonymisingPreviewRequest, PersonalDataRequest, Replacing
from btmd.inspection.shown import AnonymisingPreview
from btmd.privacy.finding import DETECTORS
from btmd.projections.dataset import DatasetRow, DatasetVersionRow
from btmd.registry.content import ContentStore
from btmd.registry.contents_in_use import ContentsInUse
from btmd.registry.datasets import DatasetAdding
from btmd.registry.inspector import Inspector
from btmd.registry.versions import DatasetVersions, Derived
from btmd.store.event_log import IdempotencyKey

OnProgress = Callable[[float, str], None]


class Anonymising:
    """Asks children for personal data. What they find goes to whoever asked; only counts and lines are kept."""

    def __init__(
        self,
        inspector: Inspector,
        datasets: DatasetAdding,
        versions: DatasetVersions,
        contents: ContentStore,
        in_use: ContentsInUse,
        cache_dir: Path,
    ) -> None:
        self._inspector, self._datasets, self._versions = inspector, datasets, versions
        self._contents, self._in_use, self._cache_dir = contents, in_use, cache_dir

    async def personal_data(self, version: DatasetVersionRow, on_progress: OnProgress) -> PersonalData:
        """What a version holds, by kind; found out once, then remembered. Raises FileMissing, Damaged, ChildFailed."""
        rows = self._datasets.rows_path(version)
        names = "-names" if importlib.util.find_spec("spacy") is not None else ""
        kept = self._cache_dir / f"personal-{version.version_id}-{DETECTORS}{names}.json"
        try:
            return msgspec.json.decode(kept.read_bytes(), type=PersonalData)
        except (FileNotFoundError, msgspec.DecodeError):
            pass
        request = PersonalDataRequest(rows=str(rows), rows_total=version.rows)
        facts = await self._inspector.personal_data(request, on_progress)
        write_atomically(kept, msgspec.json.encode(facts))
        return facts

    async def preview(
        self,
        version: DatasetVersionRow,
        replacing: Replacing,
        examples: int,
        on_progress: OnProgress,
        *,
        actor: Actor,
        content: str | None = None,
    ) -> AnonymisingPreview:
        """What would be replaced, with its text; ``content``: the uploaded file that the columns are of.

        Raises InvalidValue for a list, a pattern or a column, FileMissing.
        """
        rows = self._datasets.rows_path(version)
        async with self._in_use.holding(*self._held(content), dataset_id=version.dataset_id):
            request = AnonymisingPreviewRequest(
                rows=str(rows),
                rows_total=version.rows,
                replacing=self._with_source(replacing, content, actor, version),
                examples=examples,
            )
            return await self._inspector.anonymising_preview(request, on_progress)

    async def anonymise(
        self,
        row: DatasetRow,
        base: DatasetVersionRow,
        replacing: Replacing,
        *,
        actor: Actor,
        on_progress: OnProgress,
        content: str | None = None,
        idempotency: IdempotencyKey | None = None,
        respond: Respond | None = None,
    ) -> Handled:
        """Record the version with placeholders, if anything was found. Raises as `preview` does, and Conflict."""
        rows = self._datasets.rows_path(base)

        async def work(rows_out: Path) -> Derived:
            request = AnonymiseRequest(
                rows=str(rows),
                rows_total=base.rows,
                out=str(rows_out),
                replacing=self._with_source(replacing, content, actor, base),
            )
            made = await self._inspector.anonymise(request, on_progress)
            facts = msgspec.structs.replace(
                msgspec.convert(base.facts, DatasetFacts),
                rows_sha256=made.rows_sha256 or base.rows_sha256,
                rows_size_bytes=made.rows_size_bytes,
                duplicates=made.duplicates,
                average_chars=made.average_chars,
                longest_chars=made.longest_chars,
            )
            return Derived(facts, msgspec.to_builtins(made.changes, str_keys=True))

        async with self._in_use.holding(*self._held(content), dataset_id=row.dataset_id):
            return await self._versions.derive(
                row,
                base,
                made="anonymise",
                work=work,
                actor=actor,
                on_progress=on_progress,
                idempotency=idempotency,
                respond=respond,
            )

    def _held(self, content: str | None) -> tuple[str, ...]:
        return () if content is None else (content,)

    def _with_source(
        self, replacing: Replacing, content: str | None, actor: Actor, version: DatasetVersionRow
    ) -> Replacing:
        if not replacing.columns:
            return replacing
        if content is None:
            raise InvalidValue(
                "The values of a column stand in the file, which is not kept once its rows are made.",
                hint="Send the file again and name it as `source` (on the command line: --source FILE).",
            )
        if not self._contents.sent_by(content, actor.uid):
            raise FileMissing("This content was not uploaded.", hint="Send it with PUT /contents/{sha256} first.")
        return msgspec.structs.replace(
            replacing, source=str(self._contents.path(content)), source_told=dict(version.mapping)
        )
