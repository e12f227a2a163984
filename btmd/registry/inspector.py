"""The daemon's side of inspection: a child for each request; what it had begun is cleared away if it fails."""

import shutil
from pathlib import Path

import anyio
import anyio.to_thread

from btmd.child.caller import OnProgress, Result, ask_child, ignore_progress
from btmd.data.row_chunks import chunks_folder
from btmd.errors import ChildFailed
from btmd.fair_turns import FairTurns
from btmd.inspection.anonymising_facts import AnonymisedRows
from btmd.inspection.facts import (
    ArrangementFacts,
    ConversionFacts,
    DatasetFacts,
    DifferenceFacts,
    FileHashes,
    MappedRows,
    ModelFacts,
    PersonalData,
    PickleConversionFacts,
    TokenFacts,
)
from btmd.inspection.quality_facts import CleanFacts, QualityFacts
from btmd.inspection.requests import (
    AnonymiseRequest,
    AnonymisingPreviewRequest,
    AnswersRequest,
    AnyRequest,
    ArrangementRequest,
    CleanRequest,
    ConvertGgufRequest,
    ConvertPickledRequest,
    DatasetRequest,
    DifferenceRequest,
    HashRequest,
    MappedRowsRequest,
    ModelRequest,
    PersonalDataRequest,
    PreviewRequest,
    QualityRequest,
    TokensRequest,
    aside,
)
from btmd.inspection.shown import AnonymisingPreview, AnswersText, Preview


class Inspector:
    """Runs inspections, at most ``at_once`` children at a time, of another user than the daemon's own one.

    Each is killed ``deadline_s`` after its start.
    A request that is refused, cancelled or past its deadline leaves none of its outputs behind.
    """

    def __init__(self, *, at_once: int = 2, deadline_s: float = 3600.0) -> None:
        self._turns = FairTurns(at_once)
        self._deadline_s = deadline_s

    async def dataset(self, request: DatasetRequest, on_progress: OnProgress = ignore_progress) -> DatasetFacts:
        """Read a dataset into normalised rows. Raises DatasetRefused, FileMissing, InvalidValue or ChildFailed."""
        try:
            return await self._run(request, DatasetFacts, on_progress)
        except ChildFailed as error:
            raise ChildFailed(f"While '{request.name}' was read: {error.detail}", hint=error.hint) from error

    async def difference(
        self, request: DifferenceRequest, on_progress: OnProgress = ignore_progress
    ) -> DifferenceFacts:
        """Compare the rows of two versions. Raises FileMissing, Damaged or ChildFailed."""
        return await self._run(request, DifferenceFacts, on_progress)

    async def mapped_rows(self, request: MappedRowsRequest) -> MappedRows:
        """A few rows as a mapping makes them, for showing only. Raises DatasetRefused, InvalidValue or ChildFailed."""
        return await self._run(request, MappedRows, ignore_progress)

    async def answers(self, request: AnswersRequest) -> AnswersText:
        """A job's sample answers, to be passed on and not kept. Raises PartMissing, Damaged, Tampered, ChildFailed."""
        return await self._run(request, AnswersText, ignore_progress)

    async def tokens(self, request: TokensRequest, on_progress: OnProgress = ignore_progress) -> TokenFacts:
        """Measure rows with a tokenizer. Raises NothingToLearn, ModelRefused or ChildFailed."""
        return await self._run(request, TokenFacts, on_progress)

    async def preview(self, request: PreviewRequest) -> Preview:
        """A few rows with their text: to be passed on and not kept. Raises InvalidValue, ModelRefused, ChildFailed."""
        return await self._run(request, Preview, ignore_progress)

    async def arrangement(
        self, request: ArrangementRequest, on_progress: OnProgress = ignore_progress
    ) -> ArrangementFacts:
        """All rows as a training would arrange them. Raises DatasetRefused, ModelRefused or ChildFailed."""
        return await self._run(request, ArrangementFacts, on_progress)

    async def personal_data(
        self, request: PersonalDataRequest, on_progress: OnProgress = ignore_progress
    ) -> PersonalData:
        """Count personal data by kind. Raises FileMissing, Damaged or ChildFailed."""
        return await self._run(request, PersonalData, on_progress)

    async def anonymise(self, request: AnonymiseRequest, on_progress: OnProgress = ignore_progress) -> AnonymisedRows:
        """Write rows with placeholders. Raises InvalidValue, DatasetRefused, FileMissing, Damaged or ChildFailed."""
        return await self._run(request, AnonymisedRows, on_progress)

    async def anonymising_preview(
        self, request: AnonymisingPreviewRequest, on_progress: OnProgress = ignore_progress
    ) -> AnonymisingPreview:
        """What would be replaced, with its text: to be passed on and not kept. Raises as `anonymise` does."""
        return await self._run(request, AnonymisingPreview, on_progress)

    async def quality(self, request: QualityRequest, on_progress: OnProgress = ignore_progress) -> QualityFacts:
        """Look for what is wrong with rows. Raises FileMissing, Damaged or ChildFailed."""
        return await self._run(request, QualityFacts, on_progress)

    async def clean(self, request: CleanRequest, on_progress: OnProgress = ignore_progress) -> CleanFacts:
        """Write rows without those of some kinds. Raises NothingToLearn, ModelRefused, FileMissing or ChildFailed."""
        return await self._run(request, CleanFacts, on_progress)

    async def model(self, request: ModelRequest, on_progress: OnProgress = ignore_progress) -> ModelFacts:
        """Read a model folder's facts. Raises ModelRefused, FileMissing or ChildFailed."""
        return await self._run(request, ModelFacts, on_progress)

    async def convert_gguf(
        self, request: ConvertGgufRequest, on_progress: OnProgress = ignore_progress
    ) -> ConversionFacts:
        """Convert a GGUF file into a folder. Raises ModelRefused, NotEnoughDisk, FileMissing or ChildFailed."""
        return await self._run(request, ConversionFacts, on_progress)

    async def convert_pickled(
        self, request: ConvertPickledRequest, on_progress: OnProgress = ignore_progress
    ) -> PickleConversionFacts:
        """Convert pickled weights. Raises ModelRefused, NotEnoughDisk, FileMissing or ChildFailed."""
        return await self._run(request, PickleConversionFacts, on_progress)

    async def hashes(self, request: HashRequest, on_progress: OnProgress = ignore_progress) -> FileHashes:
        """Hash a model folder's files. Raises FileMissing, NotAModel or ChildFailed."""
        return await self._run(request, FileHashes, on_progress)

    async def _run(self, request: AnyRequest, kind: type[Result], on_progress: OnProgress) -> Result:
        async with self._turns.turn():
            succeeded = False
            try:
                facts = await ask_child("btmd.inspection", request, kind, on_progress, deadline_s=self._deadline_s)
                succeeded = True
                return facts
            finally:
                if not succeeded:
                    with anyio.CancelScope(shield=True):
                        await anyio.to_thread.run_sync(_clear, request)


def _clear(request: AnyRequest) -> None:
    for output in request.outputs():
        left_over = Path(aside(output))
        if left_over.is_dir():
            shutil.rmtree(left_over, ignore_errors=True)
        else:
            left_over.unlink(missing_ok=True)
        shutil.rmtree(chunks_folder(Path(output)), ignore_errors=True)
