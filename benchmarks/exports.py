"""What is taken away answers like what was trained: an adapter on the demo model, in every form, read by every reader.

``--keep`` trains only where nothing was trained yet; ``--dry`` records nothing.
"""

import argparse
import hashlib
import importlib.util
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.results import Figure, Topic, record
from benchmarks.training_speed import demo_model
from btmd.demo import dataset
from btmd.exporting.requests import ExportFacts, ExportRequest
from btmd.hardware.cpu import read_cpu
from btmd.job_folder import JobFolder, LoraPlan, TrainerPlan

WORK = Path(__file__).parents[1] / ".proof" / "exports"
PROMPTS = 50


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exports")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--keep", action="store_true", help="use the adapter of an earlier run")
    parser.add_argument("--dry", action="store_true", help="print the figures and record none")
    given = parser.parse_args()
    model = demo_model()
    folder = JobFolder(WORK / "job")
    if not (given.keep and folder.result.is_dir()):
        _train(folder, model, given.epochs)
    found = {name: _export(folder, model, name, given.prompts) for name in ("merged", "f16", "q8_0")}
    figures = [_figure(name, facts, seconds) for name, (facts, seconds) in found.items()]
    figures += [_transformers(folder, model, quant, given.prompts) for quant in ("f16", "q8_0")]
    figures += _llama_cpp(given.prompts)
    if given.dry:
        for one in figures:
            print(f"{one.name}: {one.median:.4f} {one.unit} ({one.target})")
    else:
        _record(figures, found["merged"][0])
    return 0 if all(one.met is not False for one in figures) else 1


def _train(folder: JobFolder, model: Path, epochs: int) -> None:
    from tests.trainer.job import log_of, run_to_end

    shutil.rmtree(folder.path, ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    rows = WORK / "rows.jsonl"
    rows.write_bytes(_rows())
    folder.create(_plan(rows, model, epochs))
    if run_to_end(folder, timeout_s=7200) != 0:
        raise SystemExit(log_of(folder))


def _rows() -> bytes:
    """The demo's facts as a version of a dataset has them."""
    from importlib.resources import as_file

    lines = []
    with as_file(dataset()) as path:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            row = msgspec.json.decode(line)
            turns = [
                {"role": "user", "content": row["question"]},
                {"role": "assistant", "content": row["answer"]},
            ]
            lines.append(msgspec.json.encode({"line": number, "messages": turns, "split": row["split"]}))
    return b"".join(line + b"\n" for line in lines)


def _plan(rows: Path, model: Path, epochs: int) -> TrainerPlan:
    return TrainerPlan(
        job_id="proof",
        store_id="proof",
        epoch=1,
        model_folder=str(model),
        rows_path=str(rows),
        rows_sha256=hashlib.sha256(rows.read_bytes()).hexdigest(),
        training_type="lora_adaptation",
        num_epochs=epochs,
        learning_rate=1e-3,
        batch_size=8,
        micro_batch_size=8,
        max_length=256,
        warmup_ratio=0.1,
        lr_scheduler="cosine",
        weight_decay=0.0,
        max_gradient_norm=1.0,
        # As a plan would have it: without instructions for bf16 a step takes many times as long in it.
        precision="bf16" if read_cpu().native_bf16 else "fp32",
        gradient_checkpointing=False,
        compile=False,
        packing=False,
        held_out_fraction=0.1,
        eval_every=0,
        save_every=0,
        patience=0,
        seed=7,
        threads=2,
        device="cpu",
        lora=LoraPlan(r=16, alpha=32, dropout=0.0),
        sample_answers=0,
        submitted_us=1_700_000_000_000_000,
    )


def _request(folder: JobFolder, model: Path, name: str, prompts: int) -> ExportRequest:
    return ExportRequest(
        format="merged" if name == "merged" else "gguf",
        quant="f16" if name == "f16" else "q8_0",
        folder=str(WORK / name),
        base=str(model),
        result=str(folder.result),
        is_adapter=True,
        base_name="SmolLM2-135M-Instruct",
        name="demo",
        training_type="lora_adaptation",
        max_length=256,
        submitted_us=1_700_000_000_000_000,
        rows=str(WORK / "rows.jsonl"),
        prompts=prompts,
    )


def _export(folder: JobFolder, model: Path, name: str, prompts: int) -> tuple[ExportFacts, float]:
    from btmd.exporting.export import export

    shutil.rmtree(WORK / name, ignore_errors=True)
    began_s = time.monotonic()
    facts = export(_request(folder, model, name, prompts), lambda _share, _text: None)
    print(name, facts.check, flush=True)
    return facts, time.monotonic() - began_s


def _figure(name: str, facts: ExportFacts, seconds: float) -> Figure:
    assert facts.check is not None
    target = {"merged": ">= 99.5", "f16": ">= 99.5", "q8_0": ">= 98"}[name]
    label = "merged safetensors" if name == "merged" else f"GGUF {name.upper()}"
    check = facts.check
    return Figure(
        f"{label}: top-1 agreement with the adapter at {check.positions:,} places of {check.prompts} texts "
        f"(divergence {check.divergence:.5f} nats; written and checked in {seconds:.0f} s)",
        [check.agreement],
        "%",
        target,
    )


def _transformers(folder: JobFolder, model: Path, quant: str, prompts: int) -> Figure:
    """The same file read by transformers' own GGUF reader, which shares nothing with ours."""
    import torch
    from transformers import AutoModelForCausalLM

    from btmd.exporting.comparison import compare, load_folder, predictions, texts_of

    texts = texts_of(_request(folder, model, quant, prompts), model)
    expected = predictions(load_folder(model, torch.float32, folder.result), texts.ids)
    reader: Any = AutoModelForCausalLM
    read = reader.from_pretrained(WORK / quant, gguf_file=f"demo-{quant}.gguf", dtype=torch.float32)
    _, agreement, _ = compare(expected, read.eval(), texts.ids)
    target = ">= 99.5" if quant == "f16" else ">= 98"
    return Figure(f"GGUF {quant.upper()} as transformers' own reader reads it", [agreement], "%", target)


def _llama_cpp(prompts: int) -> list[Figure]:
    """As llama.cpp reads it, where its Python package is installed (extra ``export``)."""
    if importlib.util.find_spec("llama_cpp") is None:
        return []
    import numpy as np
    import torch
    from llama_cpp import Llama

    from btmd.exporting.comparison import load_folder, predictions, texts_of

    folder, model = JobFolder(WORK / "job"), demo_model()
    texts = texts_of(_request(folder, model, "q8_0", prompts), model)
    expected = predictions(load_folder(model, torch.float32, folder.result), texts.ids)
    figures = []
    for quant, target in (("f16", ">= 99.5"), ("q8_0", ">= 98")):
        loaded: Any = Llama(str(WORK / quant / f"demo-{quant}.gguf"), n_ctx=512, logits_all=True, verbose=False)
        agreed = places = 0
        for one, ids in zip(expected, texts.ids, strict=True):
            loaded.reset()
            loaded.eval(ids)
            found = np.asarray(loaded.scores[: len(ids) - 1]).argmax(axis=-1)
            agreed += int((torch.from_numpy(found) == one.tokens[:, 0]).sum())
            places += len(ids) - 1
        figures.append(Figure(f"GGUF {quant.upper()} as llama.cpp reads it", [100 * agreed / places], "%", target))
    return figures


def _record(figures: list[Figure], merged: ExportFacts) -> None:
    check = merged.check
    assert check is not None
    llama = "read by llama.cpp too" if importlib.util.find_spec("llama_cpp") else "llama.cpp was not installed here"
    record(
        Topic(
            "Exports of a trained adapter",
            "make proof-exports",
            figures,
            packages=("torch", "transformers", "peft", "safetensors", "gguf"),
            notes=(
                "SmolLM2-135M-Instruct with a LoRA adapter (rank 16) trained on the demo's facts. Both sides read the "
                f"same tokens in {check.precision}, {check.own_rows} of the texts are rows of the dataset, the others "
                "everyday questions; compared is what each finds the likeliest next at every place.",
                f"The adapter's side is put together by transformers and peft. GGUF: {llama}.",
            ),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
