"""Whether an export answers like the model it came from: both read the same texts; what each expects next is compared.

The model it came from is put together by transformers and peft, so that a mistake in our own writing cannot hide in our
own reading.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from msgspec import Struct
from torch import Tensor

from btmd.data.encoding import Encoder
from btmd.data.general_knowledge import general_questions
from btmd.data.rows import Row, read_rows
from btmd.data.sequences import encode_rows
from btmd.errors import BtmdError, Damaged, DatasetRefused, FileMissing, NotEnoughMemory, TemplateMismatch
from btmd.exporting.requests import Check, ExportDiffers, ExportRequest
from btmd.hardware.memory import read_memory
from btmd.trainer.data import prompt_date

LONGEST: Final = 256
"""Tokens of a text that are compared."""
LIKELIEST: Final = 32
"""So many of the next tokens are compared by how likely they are; the others count together."""
SPARE_BYTES: Final = 512 * 1024 * 1024
LIMITS: Final = {"merged": (99.0, 0.002), "f16": (99.0, 0.002), "q8_0": (97.0, 0.02)}
"""Least agreement in percent, and the largest divergence in nats with which fewer is still right: where several tokens
are all but equally likely, the smallest difference changes which is first."""

Told = Callable[[float], None]


class Texts(Struct, frozen=True):
    """What is read, as tokens. ``own`` of the texts are rows of the job's dataset."""

    ids: list[list[int]]
    own: int


class Prediction(Struct, frozen=True):
    """What a model expects behind each token of one text: the likeliest tokens and the logarithms of their shares."""

    tokens: Tensor
    shares: Tensor


def texts_of(request: ExportRequest, folder: Path) -> Texts:
    """Half rows of the dataset, where they can be read, the rest everyday questions, with the model's own template."""
    encoder = Encoder.load(folder, now=prompt_date(request.submitted_us))
    own = _own_rows(request, encoder)
    ids = own + _general(encoder, request.prompts - len(own))
    return Texts([one[:LONGEST] for one in ids if len(one) > 1], len(own))


def _own_rows(request: ExportRequest, encoder: Encoder) -> list[list[int]]:
    if not request.rows:
        return []
    try:
        rows = list(itertools.islice(read_rows(Path(request.rows)), request.prompts // 2))
        found = encode_rows(encoder, rows, request.training_type, request.max_length)
    except (Damaged, FileMissing, DatasetRefused):
        # The data may be gone since; the questions are enough to see whether the export is the same model.
        return []
    whole = [one for one in found if not isinstance(one, TemplateMismatch)]
    return [list(one[0].input_ids) for one in whole if one and len(one[0].input_ids) > 1]


def _general(encoder: Encoder, count: int) -> list[list[int]]:
    rows = general_questions()[:count]
    if encoder.template_kind == "plain":
        rows = [Row(line=row["line"], text=" ".join(turn["content"] for turn in row["messages"])) for row in rows]
    return [list(one.input_ids) for one in encoder.encode_many(rows) if not isinstance(one, TemplateMismatch)]


def precision_for(parameters: int) -> torch.dtype:
    """fp32 where a model of so many weights fits into memory, else bf16. Raises NotEnoughMemory."""
    available = read_memory().available_bytes - SPARE_BYTES
    for dtype, size in ((torch.float32, 4), (torch.bfloat16, 2)):
        if 1.25 * size * parameters <= available:
            return dtype
    raise NotEnoughMemory(
        f"To check the export, the model has to be loaded: that takes {2.5 * parameters / 1e9:.1f} GB, and "
        f"{max(0, available) / 1e9:.1f} GB are free.",
        hint="Close other programs, or wait until a training has ended; --format adapter needs none.",
    )


def load_folder(folder: Path, dtype: torch.dtype, adapter: Path | None = None) -> Any:
    """A model as transformers, and peft where there is an adapter, read it."""
    from transformers import AutoModelForCausalLM

    _quiet()
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False
    )
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter, autocast_adapter_dtype=False)
    return model.eval()


def load_gguf(file: Path, dtype: torch.dtype) -> Any:
    """A GGUF file's weights as they are stored, in transformers' model of its family."""
    import transformers

    from btmd.inspection.gguf import read_configuration, read_tensors

    _quiet()
    settings = read_configuration(file)
    kinds: Any = transformers
    model: Any = kinds.AutoModelForCausalLM.from_config(kinds.AutoConfig.for_model(**settings), dtype=dtype)
    own = dict(model.named_parameters())
    lacking = set(own) - {"lm_head.weight"} if settings["tie_word_embeddings"] else set(own)
    with torch.no_grad():
        for name, values in read_tensors(file):
            own[name].copy_(torch.from_numpy(values.copy()))
            lacking.discard(name)
    if lacking:
        raise ExportDiffers(f"{len(lacking)} weights are not in the GGUF file.", hint="Please report it.")
    return model.eval()


def _quiet() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]


@torch.no_grad()
def predictions(model: Any, texts: Sequence[Sequence[int]], told: Told = lambda _share: None) -> list[Prediction]:
    """The likeliest next tokens at every place of every text."""
    found = []
    for done, ids in enumerate(texts):
        told(done / len(texts))
        logits = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0, :-1].float()
        shares = torch.log_softmax(logits, dim=-1)
        top = shares.topk(min(LIKELIEST, shares.shape[-1]), dim=-1)
        found.append(Prediction(top.indices, top.values))
    return found


@torch.no_grad()
def compare(
    reference: Sequence[Prediction], model: Any, texts: Sequence[Sequence[int]], told: Told = lambda _share: None
) -> tuple[int, float, float]:
    """Places compared, agreement in percent and mean divergence in nats of ``model`` from ``reference``."""
    agreed, places, divergence = 0, 0, 0.0
    for done, (expected, ids) in enumerate(zip(reference, texts, strict=True)):
        told(done / len(texts))
        logits = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0, :-1].float()
        shares = torch.log_softmax(logits, dim=-1)
        agreed += int((shares.argmax(dim=-1) == expected.tokens[:, 0]).sum())
        places += len(ids) - 1
        divergence += float(_divergence(expected, shares.gather(1, expected.tokens)).sum())
    return places, 100 * agreed / places, divergence / places


def _divergence(expected: Prediction, shares: Tensor) -> Tensor:
    ours, theirs = expected.shares.double(), shares.double()
    known = (ours.exp() * (ours - theirs)).sum(dim=-1)
    rest = (1 - ours.exp().sum(dim=-1)).clamp_min(1e-12)
    their_rest = (1 - theirs.exp().sum(dim=-1)).clamp_min(1e-12)
    return known + rest * (rest.log() - their_rest.log())


def require_alike(check: Check, what: str, kind: str) -> None:
    """Raises ExportDiffers where the export is not the model it came from."""
    least, divergence = LIMITS[kind]
    # What is no number is not below anything.
    if math.isfinite(check.divergence) and (check.agreement >= least or check.divergence <= divergence):
        return
    raise ExportDiffers(
        f"{what} agrees with the model it came from at {check.agreement:.2f} % of {check.positions} places, fewer than "
        f"{least:g} % (divergence {check.divergence:.4f}). Nothing was kept.",
        hint="Please report it with the model's name; --format adapter writes what the training made as it is.",
    )


def require_same_tokens(request: ExportRequest, ours: Path, written: Path) -> None:
    """Raises ExportDiffers unless both tokenizers with their templates make the same tokens of everyday questions."""
    moment = prompt_date(request.submitted_us)
    try:
        pairs = zip(_tokens(ours, moment), _tokens(written, moment), strict=True)
        differing = sum(one != other for one, other in pairs)
    except BtmdError as error:
        raise ExportDiffers(
            f"The GGUF file's tokenizer cannot be read again: {error.detail}", hint=error.hint
        ) from error
    if differing:
        raise ExportDiffers(
            f"The GGUF file's tokenizer makes other tokens of {differing} texts than the model's. Nothing was kept.",
            hint="Please report it with the model's name; --format merged keeps the tokenizer as it is.",
        )


def _tokens(folder: Path, moment: Any) -> Iterator[list[int]]:
    encoder = Encoder.load(folder, now=moment)
    texts = [*_SAMPLES, *(turn["content"] for row in general_questions() for turn in row["messages"])]
    for text in texts:
        yield list(encoder.encode(Row(line=1, text=text)).input_ids)
    # Where the model has no template, headings are used, and the file names them.
    for row in general_questions()[:10]:
        yield list(encoder.encode(row).input_ids)


_SAMPLES: Final = (
    "Numbers: 7, 42, 1234567, 3.14159 and -0.5e10.",
    "  two blanks, a\ttab,\nlines\n\n and   more   blanks  ",
    "Größe, naïve, déjà vu, smørrebrød; Ελληνικά, русский, 中文字, 日本語, العربية, हिन्दी",
    "def answer(x: int) -> str:\n    return f'{x!r}' if x != 42 else \"\\n\"",
    "It's we'll I'D YOU'RE they've 'tis ... --- *** ### <|im_start|> [INST] 🙂👍🏽",
)
