"""Resident memory of bf16 training on the CPU levels off once every shape has been seen.

oneDNN keeps a kernel for every shape of a product, and freed memory comes back in holes. This program first trains on
micro-batches that together have every shape, the longest first, then on rows as they come; it watches the resident
memory after every step and the peak within the steps.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.results import Figure, Topic, record
from benchmarks.training_speed import LEARNING_RATE, RANK, demo_model, tokenise
from btmd.trainer.process import peak_resident_bytes, resident_bytes, share_processors

if TYPE_CHECKING:
    from btmd.trainer.model import Batch


def main() -> None:
    options = _options()
    share_processors()
    import torch

    from btmd.trainer.model import LoraSettings, load_trainable
    from btmd.trainer.optimizer import AdamW
    from btmd.trainer.step import optimizer_step

    torch.set_num_threads(options.threads)
    model_folder = options.model or demo_model()
    batches = _batches(model_folder, options)
    model = load_trainable(
        model_folder, training_type="lora_adaptation", precision="bf16", lora=LoraSettings(r=RANK, alpha=2 * RANK),
        gradient_checkpointing=False, seed=0, device=torch.device("cpu"),
    )  # fmt: skip
    optimizer = AdamW(model.trainable_parameters(), weight_decay=0.0)

    def step(batch: Batch) -> float:
        optimizer_step(
            model, optimizer, [batch], divisor=batch.count_learned(),
            learning_rate=LEARNING_RATE, max_gradient_norm=1.0,
        )  # fmt: skip
        return resident_bytes() / 1e6

    _forget_peak()
    warm = _all_shapes(batches)
    for batch in warm:
        level_mb = step(batch)
    first_peak_mb = peak_resident_bytes() / 1e6
    print(f"{len(warm)} steps for every shape: {level_mb:.0f} MB, peak {first_peak_mb:.0f} MB", flush=True)
    _forget_peak()
    resident_mb: list[float] = []
    began_s = time.monotonic()
    for number, batch in enumerate(batches, start=1):
        resident_mb.append(step(batch))
        if number % 25 == 0 or number == len(batches):
            grown, peak_grown = _growth(resident_mb[-1], level_mb), _growth(peak_resident_bytes() / 1e6, first_peak_mb)
            seconds = time.monotonic() - began_s
            print(f"step {number}: {grown:+.1f} %, peak {peak_grown:+.1f} %, {seconds:.0f} s", flush=True)
    _report(level_mb, first_peak_mb, resident_mb, len(warm), options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="JSONL with question and answer; default: made-up rows")
    parser.add_argument("--model", type=Path, help="a Hugging Face folder with safetensors; default: the demo model")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rows", type=int, default=4, help="rows a step, as they come, as one micro-batch")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def _batches(model_folder: Path, options: argparse.Namespace) -> list[Batch]:
    import torch

    from btmd.trainer.model import Batch

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "rows.json"
        tokenise(options.data, model_folder, options.steps * options.rows, path)
        rows = json.loads(path.read_text())
    ids = [torch.tensor(row["input_ids"]) for row in rows]
    learned = [torch.tensor(row["labels"]) != -100 for row in rows]
    parts = [slice(first, first + options.rows) for first in range(0, len(rows), options.rows)]
    return [Batch(ids[part], learned[part]) for part in parts]


def _all_shapes(batches: list[Batch]) -> list[Batch]:
    """The first batches, from the one with the most tokens down, that together have every shape of all batches."""
    chosen: list[Batch] = []
    seen: set[tuple[str, int]] = set()
    for batch in sorted(batches, key=lambda batch: batch.count_tokens(), reverse=True):
        if not (shapes := set(_shapes(batch))) <= seen:
            seen |= shapes
            chosen.append(batch)
    return chosen


def _shapes(batch: Batch) -> Iterator[tuple[str, int]]:
    """Lengths of the products that the fused model makes for a batch."""
    import torch

    from btmd.trainer.model.layout import bucket, lay_out
    from btmd.trainer.model.products import BLOCK

    layout = lay_out(batch, torch.device("cpu"))
    for kind, length in (("flat", layout.ids.numel()), ("head", layout.predicting.numel())):
        edges = [*range(0, length, BLOCK), length]
        yield from ((kind, end - start) for start, end in itertools.pairwise(edges))
    yield from (("row", bucket(end - start)) for start, end in layout.rows)


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _growth(now_mb: float, before_mb: float) -> float:
    return 100 * (now_mb / before_mb - 1)


def _report(
    level_mb: float, first_peak_mb: float, resident_mb: list[float], warm: int, options: argparse.Namespace
) -> None:
    peak_mb = peak_resident_bytes() / 1e6
    record(
        Topic(
            "Memory levels off",
            f"make proof-memory{' DATA=rows.jsonl' if options.data else ''}",
            [
                Figure("growth at the end", [_growth(resident_mb[-1], level_mb)], "%", "< 5"),
                Figure("growth after a step, at most", [_growth(max(resident_mb), level_mb)], "%", "< 5"),
                Figure("growth of the peak within the steps", [_growth(peak_mb, first_peak_mb)], "%", "< 5"),
                Figure("resident after every shape was seen", [level_mb], "MB", digits=0),
                Figure("peak until then", [first_peak_mb], "MB", digits=0),
            ],
            packages=("torch",),
            notes=(
                f"{len(resident_mb)} steps of {options.rows} rows as they come after {warm} steps for the shapes, "
                f"LoRA r={RANK}, bf16, {options.threads} threads.",
            ),
        )
    )


if __name__ == "__main__":
    main()
