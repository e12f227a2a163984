"""What an inspection finds out. Counts, names and line numbers only, never the text of a row.

The daemon decodes these from a child's answer and keeps them in events, so fields are added, never renamed.
"""

import msgspec

from btmd.data.rows import Row
from btmd.reading.folder_files import FolderPart, SkippedFile


class BrokenRow(msgspec.Struct, frozen=True):
    """A row that cannot be used. ``line`` is where it begins in the source, counted from 1."""

    line: int
    reason: str


class MappedRows(msgspec.Struct, frozen=True):
    """A few rows as a mapping makes them. Texts are in it: it is shown and not kept."""

    rows: tuple[Row, ...]
    layout: str


class DatasetFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset as read. ``rows_total`` = ``rows_kept`` + ``rows_broken`` + ``rows_empty``."""

    format: str
    """``jsonl``, ``json``, ``csv``, ``parquet``, ``text``, ``html``, ``docx``, ``odt``, ``pdf`` or ``folder``."""
    encoding: str
    """``utf-8``, ``utf-16``, ``windows-1252``, ``windows-1250`` or another one."""
    separator: str | None
    """Between a CSV file's columns."""
    layout: str
    """``messages``, ``conversations``, ``instruction``, ``prompt_completion``, ``question_answer``, ``preference``,
    ``text``, ``transcript``, ``grouped_messages``, ``message_tree`` or ``mapped``."""
    columns: tuple[str, ...]
    columns_used: tuple[str, ...]
    rows_total: int
    rows_kept: int
    rows_broken: int
    rows_empty: int
    duplicates: int
    """Rows that repeat an earlier row exactly; they are kept."""
    damaged_characters: int
    """Rows with the mark that stands for an unreadable character; they are kept."""
    broken: tuple[BrokenRow, ...]
    """The first hundred."""
    broken_reasons: dict[str, int]
    empty_lines: tuple[int, ...]
    """Where the first hundred empty rows begin."""
    has_split: bool
    rows_held_out: int
    """Rows the source itself sets aside."""
    unknown_splits: int
    """Rows whose split column says something else."""
    turns_total: int
    average_chars: float
    longest_chars: int
    sha256: str
    """Of the source file."""
    size_bytes: int
    rows_sha256: str
    rows_size_bytes: int
    kind: str = ""
    """Of the rows: ``conversation``, ``text`` or ``preference``; not told by facts of an earlier release."""

    byte_order_mark: bool = False
    columns_as: dict[str, str] = {}
    """The columns by what they are for, in the words of a mapping: ``prompt``, ``completion``, ``conversation``, ..."""
    unit: str = "line"
    """What the numbers called lines count in the source: ``line``, ``paragraph``, ``page`` or ``row``."""
    files: tuple[FolderPart, ...] = ()
    """Of a folder, those that were read: the first thousand."""
    skipped: tuple[SkippedFile, ...] = ()
    """Of a folder, those that were left out: the first thousand."""
    skipped_total: int = 0
    guessed_rows: int = 0
    """Rows with letters that another encoding would make others of, where nothing says which it is."""
    guessed_lines: tuple[int, ...] = ()
    """The first hundred."""

    def place(self, line: int) -> tuple[str, int]:
        """The file of a folder and the line, page or row in it; the name is empty for a dataset of one file."""
        part = self._part(line)
        return ("", line) if part is None else (part.name, line - part.first_line + 1)

    def unit_at(self, line: int) -> str:
        """What is counted there: ``line``, ``paragraph``, ``page`` or ``row``."""
        part = self._part(line)
        return self.unit if part is None else part.unit

    def _part(self, line: int) -> FolderPart | None:
        return next((part for part in reversed(self.files) if part.first_line <= line), None)

    @property
    def row_kind(self) -> str:
        """``kind``, for facts of an earlier release too."""
        if self.kind:
            return self.kind
        columns = [column for column in self.columns_used if column.strip().lower() != "split"]
        return "text" if self.layout == "text" or (self.layout == "mapped" and len(columns) == 1) else "conversation"


class DifferenceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is different between the rows of two versions. Lines are those of the first hundred, in their sources."""

    rows_added: int
    rows_removed: int
    rows_unchanged: int
    added_lines: tuple[int, ...]
    """In the newer source."""
    removed_lines: tuple[int, ...]
    """In the older one."""


class LengthCount(msgspec.Struct, frozen=True):
    """How many rows are longer than ``max_length`` tokens."""

    max_length: int
    rows_over: int


class TokenFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset seen through one model's tokenizer. Lengths are tokens of whole rows, marks included.

    Of a pair of answers the longer side is its length; its tokens are those of both sides.
    """

    rows: int
    tokens_total: int
    learned_tokens: int
    rows_nothing_learned: int
    nothing_learned_lines: tuple[int, ...]
    rows_refused: int
    """Rows the chat template does not take."""
    refused_lines: tuple[int, ...]
    refused_reason: str | None
    shortest: int
    mean: float
    p50: int
    p90: int
    p95: int
    p99: int
    longest: int
    histogram: dict[int, int]
    """Rows by length, rounded up to a multiple of 64 (of 1,024 above 8,192)."""
    over: tuple[LengthCount, ...]
    longest_rows: tuple[tuple[int, int], ...] = ()
    """Tokens and line of the hundred longest rows, the longest first."""
    template: str
    """``model`` or ``plain``."""
    warnings: tuple[str, ...]


class PlacedSequence(msgspec.Struct, frozen=True):
    """A sequence in a micro-batch: the number of its block there, its row, the row's line, and its tokens."""

    block: int
    row: int
    line: int
    tokens: int
    learned_tokens: int


class ComputedTogether(msgspec.Struct, frozen=True, kw_only=True):
    """One micro-batch."""

    sequences: tuple[PlacedSequence, ...]
    tokens: int


class ArrangementFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How a training would arrange a version's rows."""

    rows: int
    train_rows: int
    held_out_rows: int
    blocks: int
    """What is trained on: rows, or blocks of packed texts."""
    tokens_an_epoch: int
    learned_tokens_an_epoch: int
    steps_an_epoch: int
    left_out: dict[str, int]
    """Rows by ``over_long``, ``nothing_learned`` or ``untemplated``."""
    left_out_lines: dict[str, tuple[int, ...]]
    """The first hundred of each."""
    held_out: bytes
    """A bit for each row, the first row's highest."""
    first_step: tuple[ComputedTogether, ...]
    """Its micro-batches, as many as have a thousand sequences together."""

    def is_held_out(self, row: int) -> bool:
        """Whether the row with this number, counted from 1, is held out."""
        index = row - 1
        return bool(self.held_out[index // 8] & (0x80 >> index % 8))


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A model folder as its files describe it; no weight was loaded."""

    architecture: str
    """``LlamaForCausalLM``, say."""
    family: str
    """``llama``, ``qwen2``, ...: config.json's model_type."""
    parameters: int
    dtype: str
    """Of most of the weights: ``bfloat16``, ``float16``, ``float32``, ..."""
    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_size: int
    vocab_size: int
    context_length: int
    tied_embeddings: bool
    size_bytes: int
    """Of the weights."""
    weight_files: int
    tokenizer: str
    """``fast`` (tokenizer.json) or ``slow`` (to be converted once)."""
    has_chat_template: bool
    is_chat: bool
    is_code: bool
    fingerprint: str
    """SHA-256 over configuration, tokenizer and the headers and sizes of the weights."""
    license: str | None
    quantised: str | None
    """How the weights were quantised before they came here, ``Q4_1`` say; None if they were not."""
    linear_layers: tuple[str, ...]
    """Last parts of the names of a block's matrices, sorted; empty where blocks are named in an unusual way."""
    warnings: tuple[str, ...]
    template_problem: str = ""
    """Why the chat template cannot be learned from; empty when it can."""


class FileHashes(msgspec.Struct, frozen=True, kw_only=True):
    """SHA-256 of each file of a model folder by its name, and how many bytes were read."""

    files: dict[str, str]
    size_bytes: int


class ConversionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A finished conversion to a folder of bf16 safetensors."""

    folder: str
    source_sha256: str
    source_size_bytes: int
    quantised: str | None
    tensors: int
    model: ModelFacts


class PickleConversionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A finished conversion of pickled weights to a folder of safetensors."""

    folder: str
    files: int
    tensors: int
    model: ModelFacts


class Surveyed(msgspec.Struct, frozen=True, kw_only=True):
    """One of many models: its facts, or the code and the sentence of the refusal."""

    path: str
    facts: ModelFacts | None = None
    code: str = ""
    problem: str = ""


class SurveyFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Models in the order they were asked for."""

    models: tuple[Surveyed, ...]


class PersonalKind(msgspec.Struct, frozen=True, kw_only=True):
    """Personal data of one kind: how often, in how many rows, and the first hundred of their lines."""

    kind: str
    """``email``, ``phone``, ``card``, ``iban``, ``ip``, ``key``, ``name``, or what somebody called an own pattern."""
    rows: int
    findings: int
    lines: tuple[int, ...]


class PersonalData(msgspec.Struct, frozen=True, kw_only=True):
    """Personal data found in a version, the most frequent kind first. ``rows``: looked at; nothing found: no kinds."""

    rows: int
    rows_affected: int
    kinds: tuple[PersonalKind, ...] = ()
    names_looked_for: bool = False
    """Whether a recogniser of names was installed."""
