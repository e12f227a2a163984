"""What the exporting child is asked, and what it tells. Nothing here needs torch."""

from typing import Literal

import msgspec

from btmd.errors import Damaged

Format = Literal["adapter", "merged", "gguf", "ollama", "card"]
Quant = Literal["f16", "q8_0"]
FORMATS: tuple[Format, ...] = ("adapter", "merged", "gguf", "ollama", "card")
QUANTS: tuple[Quant, ...] = ("q8_0", "f16")

PROMPTS = 50
"""Texts that the export and the model it came from read side by side."""


class ExportDiffers(Damaged):
    code, title = "export_differs", "The export does not answer like the model it came from"


class ExportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Write a job's result into ``folder``, which appears whole and checked or not at all. Answer: ExportFacts."""

    format: Format
    folder: str
    base: str
    """The folder of the model that was trained."""
    result: str
    """The adapter's folder, or a whole tuned model's."""
    is_adapter: bool
    base_name: str
    """What is written into the adapter as its base."""
    name: str
    """The beginning of the names of single files."""
    training_type: str
    max_length: int
    submitted_us: int
    """When the job was submitted: chat templates that write a date see this one."""
    rows: str = ""
    """The dataset's rows, where they may be read: the comparison then also uses some of them."""
    card: str = ""
    """The model card's text, which goes along."""
    quant: Quant = "q8_0"
    license: str = ""
    system: str = ""
    """Of an Ollama model: what it is told before each conversation."""
    temperature: float = 0.0
    prompts: int = PROMPTS


class ExportedFile(msgspec.Struct, frozen=True):
    """One file of an export by its path in the folder."""

    path: str
    size_bytes: int
    sha256: str


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """How an export answered beside the model it came from, both reading the same texts.

    ``agreement`` is the share of positions at which both find the same next token the likeliest, in percent;
    ``divergence`` the mean Kullback-Leibler divergence in nats; ``base_agreement`` that of the model before training.
    """

    prompts: int
    own_rows: int
    """How many of the texts are rows of the job's own dataset."""
    positions: int
    agreement: float
    divergence: float
    limit: float
    base_agreement: float | None = None
    precision: str = "fp32"


class ExportFacts(msgspec.Struct, frozen=True, kw_only=True):
    files: tuple[ExportedFile, ...]
    check: Check | None = None
    dtype: str = ""
    """Of the weights written."""
