"""What the daemon may ask of an inspection child, and what comes back: JSON lines, one request in, one answer out."""

import msgspec

from btmd.inspection.facts import DatasetFacts
from btmd.reading.folder_files import FolderFile, SkippedFile


class Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="what"):
    """One request; every path is absolute."""

    def outputs(self) -> tuple[str, ...]:
        """The paths that are written if the request succeeds, and do not exist if it does not."""
        return ()


class DatasetRequest(Request, frozen=True, tag="dataset"):
    """Read ``source`` and write its rows to ``rows``. Answer: DatasetFacts."""

    source: str
    name: str
    """What the person called the file."""
    rows: str
    mapping: dict[str, str] | None = None
    folder: tuple[FolderFile, ...] | None = None
    """The files of a folder; ``source`` is the list of them then."""
    skipped: tuple[SkippedFile, ...] = ()
    """Files of the folder that were left out before."""

    def outputs(self) -> tuple[str, ...]:
        return (self.rows, scratch_beside(self.rows))


class MappedRowsRequest(Request, frozen=True, tag="mapped_rows", kw_only=True):
    """Show a few rows of ``source`` as a mapping makes them; nothing is written. Answer: MappedRows."""

    source: str
    name: str
    mapping: dict[str, str] | None = None
    folder: tuple[FolderFile, ...] | None = None
    count: int = 3
    scratch: str
    """What is sorted meanwhile is written aside of this name, which never appears itself."""

    def outputs(self) -> tuple[str, ...]:
        return (self.scratch,)


class DifferenceRequest(Request, frozen=True, tag="difference"):
    """Compare the rows of two versions. Answer: DifferenceFacts."""

    before: str
    after: str


class AnswersRequest(Request, frozen=True, tag="answers"):
    """Open a job's sample answers with a key of the folder ``keys``. Answer: AnswersText."""

    answers: str
    keys: str


class TokensRequest(Request, frozen=True, tag="tokens"):
    """Measure normalised rows with a model's tokenizer. Answer: TokenFacts."""

    rows: str
    model: str
    """The folder the tokenizer is in."""
    max_length: int | None = None


class RowChoice(msgspec.Struct, frozen=True, kw_only=True):
    """``count`` rows from the one with this number (counted from 1) or the one that begins at this line on."""

    row: int | None = None
    line: int | None = None
    count: int = 3


class TrainingShape(msgspec.Struct, frozen=True, kw_only=True):
    """What of a plan says how rows become sequences and micro-batches. Lengths in tokens."""

    training_type: str
    packing: bool
    max_length: int
    batch_size: int
    micro_batch_size: int
    held_out_fraction: float
    held_out_limit: int
    seed: int


class PreviewRequest(Request, frozen=True, tag="preview"):
    """Show a few rows, with a model in its tokens. Answer: Preview, which holds their text."""

    rows: str
    rows_total: int
    choice: RowChoice
    model: str | None = None
    shape: TrainingShape | None = None


class ArrangementRequest(Request, frozen=True, tag="arrangement"):
    """Arrange all rows as a training would. Answer: ArrangementFacts."""

    rows: str
    rows_total: int
    model: str
    shape: TrainingShape


class WordList(msgspec.Struct, frozen=True):
    """Words or groups of words, names say, that are replaced wherever they stand; what they are called."""

    kind: str
    words: tuple[str, ...]


class OwnExpression(msgspec.Struct, frozen=True):
    """A regular expression, and what it finds is called."""

    kind: str
    expression: str


class Replacing(msgspec.Struct, frozen=True, kw_only=True):
    """What is replaced beside the kinds that are found by their form. Kinds are in small letters."""

    lists: tuple[WordList, ...] = ()
    patterns: tuple[OwnExpression, ...] = ()
    columns: dict[str, str] = {}
    """Columns of ``source`` by name, and the kind that their values are of."""
    source: str | None = None
    source_name: str = ""
    source_told: dict[str, str] = {}
    """The mapping with which ``source`` was read: what it says of the file itself."""
    regions: tuple[str, ...] = ()
    """Whose phone numbers without a country code are found in any text: ``DE``, ``GB``."""
    keep: tuple[str, ...] = ()
    """Kinds that stay."""
    exact_case: bool = False
    """Whether listed words are found only as they are written."""


class PersonalDataRequest(Request, frozen=True, tag="personal_data"):
    """Count personal data by kind. Answer: PersonalData."""

    rows: str
    rows_total: int


class AnonymiseRequest(Request, frozen=True, tag="anonymise"):
    """Write ``rows`` with placeholders to ``out``, or nothing where nothing is found. Answer: AnonymisedRows."""

    rows: str
    rows_total: int
    out: str
    replacing: Replacing

    def outputs(self) -> tuple[str, ...]:
        return (self.out,)


class AnonymisingPreviewRequest(Request, frozen=True, tag="anonymising_preview"):
    """Show what would be replaced, ``examples`` of each kind. Answer: AnonymisingPreview, which holds their text."""

    rows: str
    rows_total: int
    replacing: Replacing
    examples: int


class QualityRequest(Request, frozen=True, tag="quality"):
    """Look for what is wrong with rows. Answer: QualityFacts; ``groups`` holds the rows that say the same."""

    rows: str
    rows_total: int
    groups: str

    def outputs(self) -> tuple[str, ...]:
        return (self.groups,)


class CleanRequest(Request, frozen=True, tag="clean"):
    """Write ``rows`` without those of some kinds to ``cleaned``. Answer: CleanFacts."""

    rows: str
    groups: str
    cleaned: str
    facts: DatasetFacts
    """Of ``rows``."""
    drop: tuple[str, ...]
    languages: tuple[str, ...] = ()
    """Whose rows are dropped."""
    model: str | None = None
    """The folder of the tokenizer by which too long rows are told, and those with nothing to learn."""
    max_length: int = 0

    def outputs(self) -> tuple[str, ...]:
        return (self.cleaned,)


class ModelRequest(Request, frozen=True, tag="model"):
    """Read a model folder's facts. Answer: ModelFacts."""

    folder: str
    tokenizer_folder: str | None = None
    """Where a converted tokenizer goes, should the model only have an old kind; without it, that is only noted."""

    def outputs(self) -> tuple[str, ...]:
        return (self.tokenizer_folder,) if self.tokenizer_folder is not None else ()


class ConvertGgufRequest(Request, frozen=True, tag="convert_gguf"):
    """Convert a single GGUF file to a folder of bf16 safetensors. Answer: ConversionFacts."""

    source: str
    folder: str

    def outputs(self) -> tuple[str, ...]:
        return (self.folder,)


class HashRequest(Request, frozen=True, tag="hash"):
    """Read every byte of a model folder's files. Answer: FileHashes."""

    folder: str


class ConvertPickledRequest(Request, frozen=True, tag="convert_pickled"):
    """Convert a folder with pickled weights to one with safetensors. Answer: PickleConversionFacts."""

    source: str
    folder: str

    def outputs(self) -> tuple[str, ...]:
        return (self.folder,)


class SurveyRequest(Request, frozen=True, tag="survey"):
    """Facts of many model folders and GGUF files, read from their headers. Answer: SurveyFacts."""

    paths: tuple[str, ...]


AnyRequest = (
    SurveyRequest
    | ConvertPickledRequest
    | HashRequest
    | AnswersRequest
    | DatasetRequest
    | MappedRowsRequest
    | QualityRequest
    | CleanRequest
    | DifferenceRequest
    | TokensRequest
    | PreviewRequest
    | ArrangementRequest
    | PersonalDataRequest
    | AnonymiseRequest
    | AnonymisingPreviewRequest
    | ModelRequest
    | ConvertGgufRequest
)


def scratch_beside(rows: str) -> str:
    """What is sorted while ``rows`` are written; it never appears under this name itself."""
    return f"{rows}.sorting"


def aside(path: str) -> str:
    """The name under which an output is written before it is whole; always the same, so that it can be cleared."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.part"


def decode_request(line: bytes) -> AnyRequest:
    """Raises msgspec.ValidationError for anything but a known request."""
    decoded: AnyRequest = msgspec.json.decode(line, type=AnyRequest)
    return decoded
