"""Resident memory of bf16 training on the CPU levels off once every length bucket has been seen.

oneDNN keeps kernels for every shape of a product. Lengths are padded to a short series for that reason; this program
first trains on one row of each length bucket, then on rows as they come, and watches the resident memory.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.results import Figure, Topic, record
from benchmarks.training_speed import RANK, ROOT, demo_model, tokenise
from btmd.trainer.model import Batch, LoraSettings, load_trainable
from btmd.trainer.model.layout import bucket
from btmd.trainer.optimizer import AdamW
from btmd.trainer.step import optimizer_step

LEARNING_RATE = 2e-4


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    model_folder = options.model or demo_model()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "rows.json"
        tokenise(options.data, model_folder, options.steps, path)
        batches = [_batch(row) for row in json.loads(path.read_text())]
    model = load_trainable(
        model_folder, training_type="lora_adaptation", precision="bf16", lora=LoraSettings(r=RANK, alpha=2 * RANK),
        gradient_checkpointing=False, seed=0, device=torch.device("cpu"),
    )  # fmt: skip
    optimizer = AdamW(model.trainable_parameters(), weight_decay=0.0)

    def step(batch: Batch) -> float:
        optimizer_step(
            model, optimizer, [batch], learned_tokens=batch.count_learned(),
            learning_rate=LEARNING_RATE, max_gradient_norm=1.0,
        )  # fmt: skip
        return resident_mb()

    warm = _one_of_each_bucket(batches)
    for batch in warm:
        level = step(batch)
    print(f"{len(warm)} steps for every bucket: {level:.0f} MB", flush=True)
    resident = []
    for number, batch in enumerate(batches, start=1):
        resident.append(step(batch))
        if number % 25 == 0:
            print(f"step {number}: {resident[-1]:.0f} MB, {100 * (resident[-1] / level - 1):+.1f} %", flush=True)
    _report(level, resident, len(warm), options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=ROOT / "benchmarks" / "data" / "rows.jsonl")
    parser.add_argument("--model", type=Path, help="a Hugging Face folder with safetensors; default: the demo model")
    parser.add_argument("--steps", type=int, default=300, help="rows as they come, one a step")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def _batch(row: dict[str, Any]) -> Batch:
    return Batch([torch.tensor(row["input_ids"])], [torch.tensor(row["labels"]) != -100])


def _one_of_each_bucket(batches: list[Batch]) -> list[Batch]:
    """Rows that together have every bucket of length and every bucket of learned tokens, longest first."""
    chosen: list[Batch] = []
    seen: set[tuple[str, int]] = set()
    for batch in sorted(batches, key=Batch.count_tokens, reverse=True):
        shapes = {("length", bucket(batch.count_tokens())), ("learned", bucket(batch.count_learned()))}
        if not shapes <= seen:
            seen |= shapes
            chosen.append(batch)
    return chosen


def resident_mb() -> float:
    """Resident memory of this process in megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _report(level: float, resident: list[float], warm: int, options: argparse.Namespace) -> None:
    record(
        Topic(
            "Memory levels off",
            "make proof-memory ARGS='--data rows.jsonl --model FOLDER'",
            [
                Figure("growth at the end", [100 * (resident[-1] / level - 1)], "%", "< 5"),
                Figure("growth at most", [100 * (max(resident) / level - 1)], "%", "< 5"),
                Figure("resident after every bucket was seen", [level], "MB", digits=0),
            ],
            packages=("torch",),
            notes=(
                f"{len(resident)} steps of one row as it comes after {warm} steps for the buckets, "
                f"LoRA r={RANK}, bf16, {options.threads} threads.",
            ),
        )
    )


if __name__ == "__main__":
    main()
