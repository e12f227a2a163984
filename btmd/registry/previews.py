"""A look into a dataset: a few rows as they were understood, and as a training would learn them."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from btmd.files.durable import write_atomically
from btmd.inspection.facts import ArrangementFacts
from btmd.inspection.requests import ArrangementRequest, PreviewRequest, RowChoice, TrainingShape
from btmd.inspection.shown import Preview
from btmd.planning import Plan
from btmd.projections.dataset import DatasetVersionRow
from btmd.projections.model import ModelRow
from btmd.registry.datasets import DatasetAdding
from btmd.registry.inspector import Inspector

OnProgress = Callable[[float, str], None]


class DatasetPreviews:
    """Asks children for rows. Their text goes to whoever asked and nowhere else; only counts and lines are kept."""

    def __init__(self, inspector: Inspector, datasets: DatasetAdding, cache_dir: Path) -> None:
        self._inspector, self._datasets = inspector, datasets
        self._cache_dir = cache_dir

    async def rows(self, version: DatasetVersionRow, choice: RowChoice) -> Preview:
        """A few rows. Raises InvalidValue for one that is not there, FileMissing when the contents are gone."""
        rows = self._datasets.rows_path(version)
        return await self._inspector.preview(PreviewRequest(rows=str(rows), rows_total=version.rows, choice=choice))

    async def tokens(
        self, version: DatasetVersionRow, choice: RowChoice, model: ModelRow, shape: TrainingShape
    ) -> Preview:
        """A few rows in the model's tokens. Raises as `rows` does, and DatasetRefused, ModelRefused."""
        request = PreviewRequest(
            rows=str(self._datasets.rows_path(version)),
            rows_total=version.rows,
            choice=choice,
            model=model.folder,
            shape=shape,
        )
        return await self._inspector.preview(request)

    async def arrangement(
        self, version: DatasetVersionRow, model: ModelRow, shape: TrainingShape, on_progress: OnProgress
    ) -> ArrangementFacts:
        """All rows as a training of this shape would arrange them; found out once, then remembered."""
        rows = self._datasets.rows_path(version)
        known = self.known_arrangement(version, model, shape)
        if known is not None:
            return known
        request = ArrangementRequest(rows=str(rows), rows_total=version.rows, model=model.folder, shape=shape)
        facts = await self._inspector.arrangement(request, on_progress)
        write_atomically(self._arrangement_kept(version, model, shape), msgspec.json.encode(facts))
        return facts

    def known_arrangement(
        self, version: DatasetVersionRow, model: ModelRow, shape: TrainingShape
    ) -> ArrangementFacts | None:
        """What `arrangement` answers, where that was found out before."""
        try:
            kept = self._arrangement_kept(version, model, shape).read_bytes()
            return msgspec.json.decode(kept, type=ArrangementFacts)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _arrangement_kept(self, version: DatasetVersionRow, model: ModelRow, shape: TrainingShape) -> Path:
        digest = hashlib.sha256(msgspec.json.encode([version.rows_sha256, model.facts.fingerprint, shape])).hexdigest()
        return self._cache_dir / f"arrangement-{version.version_id}-{digest[:32]}.json"


def planned_shape(plan: Plan) -> TrainingShape:
    """What a plan says of rows."""
    return TrainingShape(
        training_type=plan.text("training_type"),
        packing=plan.flag("packing"),
        max_length=plan.integer("max_length"),
        batch_size=plan.integer("batch_size"),
        micro_batch_size=plan.integer("micro_batch_size"),
        held_out_fraction=plan.number("held_out_fraction"),
        held_out_limit=plan.integer("held_out_limit"),
        seed=plan.integer("seed"),
    )
