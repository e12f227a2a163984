"""Continued pre-training: every token of a text is learned once, nothing is lost, and held-out text gets likelier."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from btmd.data.encoding import Encoder
from btmd.data.sequences import Dataset, cut_text
from btmd.frames import HeldOutEvaluated, TrainingShape
from btmd.job_folder import JobFolder, LoraPlan
from btmd.trainer.data import load_dataset
from btmd.trainer.step import make_batch
from tests.fixtures.tiny_model import make_tiny_llama
from tests.trainer.here import crash_here, only, train_here
from tests.trainer.job import frames_of, losses_of, make_plan
from tests.trainer.model.models import fused

KINDS: dict[str, dict[str, Any]] = {
    "adapter": {"lora": LoraPlan(r=4, alpha=8, dropout=0.0), "learning_rate": 1e-2},
    "all weights": {"lora": None, "learning_rate": 3e-3},
}


def text(index: int) -> str:
    return f"The daemon number {index} keeps a log of every event and answers over a socket. " * (1 + index % 6)


def write_texts(path: Path, count: int = 24) -> str:
    rows = [
        {"line": index + 1, "text": text(index), "split": "held_out" if index % 4 == 0 else "train"}
        for index in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_text_job(root: Path, name: str = "job", **changes: Any) -> JobFolder:
    plan = make_plan(root)
    values: dict[str, Any] = {
        "rows_sha256": write_texts(root / "rows.jsonl"),
        "training_type": "continued_pretraining",
        "packing": True,
        "max_length": 64,
        "batch_size": 4,
        **KINDS["adapter"],
        **changes,
    }
    folder = JobFolder(root / name)
    folder.create(msgspec.structs.replace(plan, **values))
    return folder


def read(folder: Path, *, packing: bool = True, max_length: int = 64) -> tuple[Dataset, Encoder]:
    encoder = Encoder.load(make_tiny_llama(folder / "model"))
    sha256 = write_texts(folder / "rows.jsonl")
    dataset = load_dataset(
        folder / "rows.jsonl",
        encoder,
        sha256=sha256,
        training_type="continued_pretraining",
        packing=packing,
        max_length=max_length,
        held_out_fraction=0.0,
        held_out_limit=0,
        seed=0,
        between_rows=lambda: None,
    )
    return dataset, encoder


def test_every_token_but_the_first_of_each_text_is_learned_exactly_once(tmp_path: Path) -> None:
    dataset, encoder = read(tmp_path)
    whole = [encoder.encode({"line": 1, "text": text(index)}).input_ids for index in range(24) if index % 4]
    assert max(map(len, whole)) > 64
    rows = dataset.train
    assert rows.tokens[rows.learned].tolist() == [token for ids in whole for token in ids[1:]]
    assert dataset.over_long_rows == 0
    assert int(rows.learned_counts.sum()) == sum(len(ids) - 1 for ids in whole)
    assert dataset.held_out_total == 6


def test_blocks_hold_whole_pieces_up_to_the_length(tmp_path: Path) -> None:
    dataset, _ = read(tmp_path, max_length=128)
    rows = dataset.train
    assert rows.lengths.max() <= 128
    assert len(rows) < len(rows.offsets) - 1
    # No two neighbours would have fitted into one block.
    firsts = np.diff(rows.offsets)[rows.firsts[1:-1]]
    assert (rows.lengths[:-1] + firsts > 128).all()
    single = read(tmp_path, max_length=128, packing=False)[0].train
    assert len(single) == len(single.offsets) - 1
    assert single.tokens.tolist() == rows.tokens.tolist()


def test_a_text_is_cut_without_losing_a_token() -> None:
    from btmd.data.encoding import Encoded

    ids = list(range(10))
    for length in (2, 3, 4, 9, 10, 11):
        pieces = cut_text(Encoded(ids, [False] + [True] * 9), length)
        assert all(2 <= len(piece.input_ids) <= length for piece in pieces)
        assert [token for piece in pieces for token in piece.input_ids[1:]] == ids[1:]


def test_texts_of_one_block_do_not_see_each_other(tmp_path: Path) -> None:
    dataset, _ = read(tmp_path, max_length=256)
    model = fused(tmp_path / "model")
    rows = dataset.train
    block = next(index for index in range(len(rows)) if len(rows.sequences(index)) > 1)
    batch = make_batch(rows, [block])
    assert batch.count_rows() == 1
    together = model.evaluate_sequence_losses(batch).tolist()
    alone = read(tmp_path, packing=False, max_length=256)[0].train
    apart = [model.evaluate_loss_sum(make_batch(alone, [number]))[0] for number in rows.sequences(block)]
    assert together == pytest.approx(apart, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_perplexity_falls_and_a_crash_changes_nothing(kind: str, tmp_path: Path) -> None:
    folder = make_text_job(tmp_path, num_epochs=5, **KINDS[kind])
    train_here(folder)
    before, *_, after = [math.exp(one.loss) for one in only(HeldOutEvaluated, frames_of(folder))]
    assert after < 0.7 * before
    [shape] = only(TrainingShape, frames_of(folder))
    assert shape.left_out_rows == 0
    assert (folder.result / "training.json").is_file()

    again = JobFolder(tmp_path / "again")
    again.create(folder.read_plan())
    crash_here(again, 1, step=6, looks=2)
    train_here(again, 2)
    assert losses_of(again, [1, 2]) == losses_of(folder)


def test_a_step_may_be_cut_into_any_micro_batches(tmp_path: Path) -> None:
    found = []
    for size in (1, 2, 4):
        folder = make_text_job(tmp_path, f"of-{size}", micro_batch_size=size, max_steps=3)
        train_here(folder)
        found.append(losses_of(folder))
    for other in found[1:]:
        assert all(other[step] == pytest.approx(found[0][step], abs=1e-5) for step in found[0])
