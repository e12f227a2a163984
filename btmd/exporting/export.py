"""One export from beginning to end: written aside, read again, compared, and only then there."""

from __future__ import annotations

import gc
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from msgspec import Struct

from btmd.child.answering import Progress
from btmd.exporting import comparison
from btmd.exporting.comparison import Texts
from btmd.exporting.gguf_file import family_of, write_gguf
from btmd.exporting.gguf_tokenizer import read_as_llama_cpp_does
from btmd.exporting.merged import copy_whole, finish, merge_in_memory, write_merged
from btmd.exporting.ollama import modelfile
from btmd.exporting.requests import Check, ExportedFile, ExportFacts, ExportRequest
from btmd.exporting.weights import TunedWeights
from btmd.inspection.gguf_header import read_gguf_header
from btmd.inspection.gguf_tokenizer import write_tokenizer
from btmd.inspection.requests import aside

_WRITTEN, _READ = 0.35, 0.6
"""Shares of the whole at which the files are written, and at which the model they came from has read its texts."""


class _Paths(Struct, frozen=True):
    base: Path
    adapter: Path | None

    @classmethod
    def of(cls, request: ExportRequest) -> _Paths:
        if request.is_adapter:
            return cls(Path(request.base), Path(request.result))
        return cls(Path(request.result), None)


def export(request: ExportRequest, progress: Progress) -> ExportFacts:
    """Make the folder of the request. Raises ExportDiffers, WrongArchitecture, NotEnoughMemory, ModelDamaged."""
    folder = Path(request.folder)
    part = Path(aside(request.folder))
    with _made_whole(part, folder):
        if request.format == "card":
            check, dtype = None, ""
        elif request.format == "adapter":
            check, dtype = _adapter(request, part, progress)
        elif request.format == "merged":
            check, dtype = _merged(request, part, progress)
        else:
            check, dtype = _gguf(request, part, progress)
        if request.card and request.format != "gguf":
            (part / "README.md").write_text(request.card + _said(check), encoding="utf-8")
        progress(0.97, "Hashing what was written")
        files = tuple(_described(path, part) for path in sorted(part.rglob("*")) if path.is_file())
    return ExportFacts(files=files, check=check, dtype=dtype)


@contextmanager
def _made_whole(part: Path, folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    try:
        yield
        for path in [*(one for one in part.rglob("*") if one.is_file()), part]:
            _sync(path)
        part.replace(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _adapter(request: ExportRequest, part: Path, progress: Progress) -> tuple[Check, str]:
    """peft's two files as the training wrote them, with the base's name in place of its folder."""
    source = Path(request.result)
    config = json.loads((source / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = request.base_name
    (part / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name in ("adapter_model.safetensors", "training.json"):
        if (source / name).is_file():
            shutil.copyfile(source / name, part / name)
    base = Path(request.base)
    dtype, texts, expected = _reference(request, base, progress)
    model = comparison.load_folder(base, dtype, part)
    return _checked(request, "merged", "The adapter", model, (dtype, texts, expected), progress), "float32"


def _merged(request: ExportRequest, part: Path, progress: Progress) -> tuple[Check, str]:
    paths = _Paths.of(request)
    if paths.adapter is None:
        copy_whole(paths.base, part)
        dtype = "bfloat16"
    else:
        with TunedWeights(paths.base, paths.adapter) as weights:
            plain = weights.fits()
            if plain:
                dtype = write_merged(weights, paths.base, part, _scaled(progress, 0.0, _WRITTEN))
        if not plain:
            dtype = merge_in_memory(paths.base, paths.adapter, part)
    finish(part, request.training_type)
    reference = _reference(request, paths.base, progress)
    model = comparison.load_folder(part, reference[0])
    return _checked(request, "merged", "The merged model", model, reference, progress), dtype


def _gguf(request: ExportRequest, part: Path, progress: Progress) -> tuple[Check, str]:
    paths = _Paths.of(request)
    family_of(json.loads((paths.base / "config.json").read_text(encoding="utf-8")))
    file = part / f"{request.name}-{request.quant}.gguf"
    with TunedWeights(paths.base, paths.adapter) as weights:
        dtype = write_gguf(
            weights,
            file,
            quant=request.quant,
            name=request.name,
            license=request.license,
            training_type=request.training_type,
            progress=_scaled(progress, 0.0, _WRITTEN),
        )
    with TemporaryDirectory(dir=part.parent, prefix=f"{part.name}-tokenizer-") as read_again:
        values = read_gguf_header(file).values
        write_tokenizer(values, file, Path(read_again), 0)
        read_as_llama_cpp_does(values, Path(read_again))
        comparison.require_same_tokens(request, paths.base, Path(read_again))
        if request.format == "ollama":
            tokens = values["tokenizer.ggml.tokens"]
            begins = tokens[values["tokenizer.ggml.bos_token_id"]] if values["tokenizer.ggml.add_bos_token"] else ""
            text = modelfile(
                paths.base, file.name, system=request.system, temperature=request.temperature, begins_with=begins
            )
            (part / "Modelfile").write_text(text, encoding="utf-8")
    reference = _reference(request, paths.base, progress)
    model = comparison.load_gguf(file, reference[0])
    return _checked(request, request.quant, "The GGUF file", model, reference, progress), dtype


Reference = tuple[torch.dtype, Texts, list[comparison.Prediction]]


def _reference(request: ExportRequest, folder: Path, progress: Progress) -> Reference:
    """What the job's own result expects of the texts, as transformers and peft put it together."""
    with TunedWeights(folder, None) as weights:
        parameters = sum(torch.Size(shape).numel() for shape in weights.shapes.values())
    dtype = comparison.precision_for(parameters)
    texts = comparison.texts_of(request, folder)
    progress(_WRITTEN, "Loading the model it came from")
    model = comparison.load_folder(folder, dtype, Path(request.result) if request.is_adapter else None)
    told = _scaled(progress, _WRITTEN, _READ)
    expected = comparison.predictions(model, texts.ids, lambda share: told(share, "Asking the model it came from"))
    del model
    gc.collect()
    return dtype, texts, expected


def _checked(
    request: ExportRequest, kind: str, what: str, model: Any, reference: Reference, progress: Progress
) -> Check:
    dtype, texts, expected = reference
    told = _scaled(progress, _READ, 0.95)
    places, agreement, divergence = comparison.compare(
        expected, model, texts.ids, lambda share: told(share, "Comparing the export with it")
    )
    check = Check(
        prompts=len(texts.ids),
        own_rows=texts.own,
        positions=places,
        agreement=round(agreement, 3),
        divergence=round(max(0.0, divergence), 6) if divergence == divergence else math.inf,
        limit=comparison.LIMITS[kind][0],
        precision="fp32" if dtype == torch.float32 else "bf16",
    )
    comparison.require_alike(check, what, kind)
    return check


def _said(check: Check | None) -> str:
    """The check, for the model card."""
    if check is None:
        return ""
    return (
        "\n## Checked\n\nWritten, read again and compared with the model the training made: both find the same next "
        f"token the likeliest at {check.agreement:.2f} % of {check.positions:,} places in {check.prompts} texts "
        f"({check.own_rows} of them rows of the dataset), with a divergence of {check.divergence:.5f} nats.\n"
    )


def _scaled(progress: Progress, begin: float, end: float) -> Progress:
    return lambda share, text: progress(begin + share * (end - begin), text)


def _described(path: Path, folder: Path) -> ExportedFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ExportedFile(str(path.relative_to(folder)), path.stat().st_size, digest)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
