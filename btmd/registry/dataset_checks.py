"""How good a version of a dataset is: examined once, told as a report, and cleaned into a version of its own."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from btmd.command_handler import Handled, Respond
from btmd.domain.event import Actor
from btmd.errors import InvalidValue
from btmd.files.durable import write_atomically
from btmd.inspection.facts import DatasetFacts, TokenFacts
from btmd.inspection.findings import DROPPABLE, NEEDS_MODEL, Known, Report, report_on
from btmd.inspection.quality_facts import CleanFacts, QualityFacts
from btmd.inspection.requests import CleanRequest, QualityRequest
from btmd.projections.dataset import DatasetRow, DatasetVersionRow
from btmd.projections.model import ModelRow
from btmd.registry.anonymising import Anonymising
from btmd.registry.datasets import DatasetAdding
from btmd.registry.inspector import Inspector
from btmd.registry.versions import DatasetVersions, Derived
from btmd.store.event_log import IdempotencyKey

OnProgress = Callable[[float, str], None]

USUAL_MAX_LENGTH: Final = 1024
"""Tokens with which rows are compared where nothing else is asked for: the longest of the presets."""
RULES: Final = 1
"""Raised when what is found would be different, so that what is remembered of old rules is found out anew."""


class Checked(Struct, frozen=True):
    """A version's report, and what it was made from."""

    report: Report
    quality: QualityFacts
    tokens: TokenFacts | None
    max_length: int


class DatasetChecks:
    """Asks children how good rows are. Counts and lines are remembered by version, and which rows say the same."""

    def __init__(
        self,
        inspector: Inspector,
        datasets: DatasetAdding,
        versions: DatasetVersions,
        anonymising: Anonymising,
        cache_dir: Path,
    ) -> None:
        self._inspector, self._datasets, self._versions = inspector, datasets, versions
        self._anonymising, self._cache_dir = anonymising, cache_dir

    async def check(
        self,
        row: DatasetRow,
        version: DatasetVersionRow,
        model: ModelRow | None,
        max_length: int | None,
        on_progress: OnProgress,
    ) -> Checked:
        """The report on a version; with a model, also what its tokenizer says.

        Raises FileMissing when the contents are gone, NothingToLearn, ModelRefused, ChildFailed.
        """
        share = 1.0 if model is None else 0.4
        quality = await self.quality(version, lambda done, text: on_progress(done * share / 2, text))
        personal = await self._anonymising.personal_data(
            version, lambda done, text: on_progress((1 + done) * share / 2, text)
        )
        tokens, longest = None, 0
        if model is not None:
            longest = max_length or min(USUAL_MAX_LENGTH, model.facts.context_length)
            tokens = await self._datasets.measure(
                version, model, lambda done, text: on_progress(share + done * (1 - share), text)
            )
        known = Known(
            dataset_id=row.dataset_id,
            facts=msgspec.convert(version.facts, DatasetFacts),
            quality=quality,
            tokens=tokens,
            max_length=longest,
            model_id="" if model is None else model.model_id,
            personal=personal,
        )
        return Checked(report_on(known), quality, tokens, longest)

    async def quality(self, version: DatasetVersionRow, on_progress: OnProgress) -> QualityFacts:
        """What is wrong with a version's rows; found out once, then remembered."""
        rows = self._datasets.rows_path(version)
        kept, groups = self._kept(version, "quality", "json"), self._groups(version)
        try:
            if groups.is_file():
                return msgspec.json.decode(kept.read_bytes(), type=QualityFacts)
        except (FileNotFoundError, msgspec.DecodeError):
            pass
        request = QualityRequest(rows=str(rows), rows_total=version.rows, groups=str(groups))
        facts = await self._inspector.quality(request, on_progress)
        write_atomically(kept, msgspec.json.encode(facts))
        return facts

    async def clean(
        self,
        row: DatasetRow,
        base: DatasetVersionRow,
        drop: Sequence[str],
        *,
        model: ModelRow | None,
        max_length: int | None,
        actor: Actor,
        on_progress: OnProgress,
        idempotency: IdempotencyKey | None = None,
        respond: Respond | None = None,
    ) -> tuple[Handled, dict[str, Any]]:
        """Record the version without the rows of some kinds; with it what was dropped. No such rows: no version.

        Raises InvalidValue for a kind that is not known or needs a model, NothingToLearn, and as `check` does.
        """
        _require_droppable(drop, model)
        quality = await self.quality(base, lambda done, text: on_progress(done * 0.5, text))
        rows = self._datasets.rows_path(base)
        facts = msgspec.convert(base.facts, DatasetFacts)
        changes: dict[str, Any] = {}

        async def work(rows_out: Path) -> Derived:
            request = CleanRequest(
                rows=str(rows),
                groups=str(self._groups(base)),
                cleaned=str(rows_out),
                facts=facts,
                drop=_judged(drop, quality),
                languages=quality.minor_languages if "other_language" in drop else (),
                model=None if model is None else model.folder,
                max_length=max_length or USUAL_MAX_LENGTH,
            )
            made = await self._inspector.clean(request, lambda done, text: on_progress(0.5 + done / 2, text))
            changes.update(_changes(facts, made, drop))
            return Derived(made.facts, changes)

        handled = await self._versions.derive(
            row,
            base,
            made="clean",
            work=work,
            actor=actor,
            on_progress=on_progress,
            idempotency=idempotency,
            respond=respond,
        )
        return handled, changes

    def _groups(self, version: DatasetVersionRow) -> Path:
        return self._kept(version, "groups", "npz")

    def _kept(self, version: DatasetVersionRow, what: str, ending: str) -> Path:
        return self._cache_dir / f"{what}-{version.version_id}-{RULES}.{ending}"


def _require_droppable(drop: Sequence[str], model: ModelRow | None) -> None:
    unknown = [kind for kind in drop if kind not in DROPPABLE]
    if unknown or not drop:
        said = f"'{unknown[0]}' is no kind of rows that can be dropped." if unknown else "Nothing to drop was named."
        raise InvalidValue(said, hint=f"Kinds: {', '.join(DROPPABLE)}.")
    needing = [kind for kind in drop if kind in NEEDS_MODEL]
    if needing and model is None:
        raise InvalidValue(
            f"Which rows are '{needing[0]}' depends on a model's tokenizer.", hint="Name the model with --model M."
        )


def _judged(drop: Sequence[str], quality: QualityFacts) -> tuple[str, ...]:
    """Without the kinds that depend on what most rows are like, where these rows are as most are."""
    relative = ("cut_off_answers", "short_answers", "other_language")
    return tuple(kind for kind in drop if kind not in relative or kind in quality.found)


def _changes(before: DatasetFacts, made: CleanFacts, drop: Sequence[str]) -> dict[str, Any]:
    """Counts and lines by kind. Rows that were broken or empty were never among the rows; they are told once more."""
    dropped = {kind: {"count": listed.count, "lines": list(listed.lines)} for kind, listed in made.dropped.items()}
    if "broken" in drop and before.rows_broken:
        dropped["broken"] = {"count": before.rows_broken, "lines": [row.line for row in before.broken]}
    if "empty" in drop and before.rows_empty:
        dropped["empty"] = {"count": before.rows_empty, "lines": list(before.empty_lines)}
    return {"rows_before": made.rows_before, "rows": made.facts.rows_kept, "dropped": dropped}
