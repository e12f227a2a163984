"""What the daemon may ask of an inspection child, and what comes back: JSON lines, one request in, one answer out."""

import msgspec


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

    def outputs(self) -> tuple[str, ...]:
        return (self.rows, scratch_beside(self.rows))


class DifferenceRequest(Request, frozen=True, tag="difference"):
    """Compare the rows of two versions. Answer: DifferenceFacts."""

    before: str
    after: str


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
    | DatasetRequest
    | DifferenceRequest
    | TokensRequest
    | PreviewRequest
    | ArrangementRequest
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
