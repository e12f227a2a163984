"""Rows become tokens once, are split by content, and come in an order that depends on seed and epoch alone."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btmd.data.encoding import Encoder
from btmd.data.rows import Row, row_key
from btmd.data.sequences import Dataset, count_steps, order_of_epoch, rows_of_step
from btmd.data.split import split_rows
from btmd.trainer.data import load_dataset, read_row_at
from btmd.trainer.failures import TrainingFailed
from tests.data.planted import plant
from tests.fixtures.tiny_model import make_tokenizer
from tests.trainer.job import write_rows


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(folder)
    (folder / "config.json").write_text("{}")
    return Encoder.load(folder)


def load(path: Path, encoder: Encoder, sha256: str, **changes: Any) -> Dataset:
    values: dict[str, Any] = {
        "max_length": 512,
        "held_out_fraction": 0.2,
        "held_out_limit": 0,
        "seed": 3,
        "between_rows": lambda: None,
    }
    return load_dataset(path, encoder, sha256=sha256, **(values | changes))


def test_rows_come_out_as_the_encoder_made_them(tmp_path: Path, encoder: Encoder) -> None:
    path = tmp_path / "rows.jsonl"
    dataset = load(path, encoder, write_rows(path, count=20))
    assert (len(dataset.train), len(dataset.held_out)) == (16, 4)
    for rows in (dataset.train, dataset.held_out):
        for index in range(len(rows)):
            encoded = encoder.encode(read_row_at(path, int(rows.places[index])))
            tokens, learned = rows.row(index)
            assert tokens.tolist() == encoded.input_ids
            assert learned.tolist() == encoded.learned
            assert rows.learned_counts[index] == sum(encoded.learned)


def test_over_long_rows_are_left_out_whole_and_counted(tmp_path: Path, encoder: Encoder) -> None:
    path = tmp_path / "rows.jsonl"
    sha256 = write_rows(path, count=20)
    whole = load(path, encoder, sha256)
    limit = int(np.median(whole.train.lengths))
    dataset = load(path, encoder, sha256, max_length=limit)
    assert dataset.over_long_rows > 0
    assert dataset.over_long_rows + len(dataset.train) + len(dataset.held_out) == 20
    assert dataset.train.lengths.max() <= limit
    kept = set(whole.train.lengths[whole.train.lengths <= limit].tolist())
    assert set(dataset.train.lengths.tolist()) == kept


def test_the_length_limit_moves_no_row_to_the_other_side(tmp_path: Path, encoder: Encoder) -> None:
    path = tmp_path / "rows.jsonl"
    sha256 = write_rows(path, count=60, held_out_every=0)
    whole = load(path, encoder, sha256)
    limit = int(np.median(whole.train.lengths))
    shorter = load(path, encoder, sha256, max_length=limit)
    assert set(shorter.train.places.tolist()) <= set(whole.train.places.tolist())
    assert set(shorter.held_out.places.tolist()) <= set(whole.held_out.places.tolist())


def test_another_file_than_the_submitted_one_is_refused(tmp_path: Path, encoder: Encoder) -> None:
    path = tmp_path / "rows.jsonl"
    sha256 = write_rows(path, count=8)
    with path.open("a") as file:
        file.write(json.dumps({"line": 9, "text": "more"}) + "\n")
    with pytest.raises(TrainingFailed) as failed:
        load(path, encoder, sha256)
    assert failed.value.reason == "data"


def test_nothing_left_to_train_on_is_refused_with_the_counts(tmp_path: Path, encoder: Encoder) -> None:
    path = tmp_path / "rows.jsonl"
    with pytest.raises(TrainingFailed, match="7 are longer than 5 tokens"):
        load(path, encoder, write_rows(path, count=7), max_length=5)


def test_rows_with_nothing_to_learn_are_counted(tmp_path: Path, encoder: Encoder) -> None:

    path = tmp_path / "rows.jsonl"
    rows = [
        {"line": 1, "messages": [{"role": "user", "content": "Nobody answers."}]},
        {"line": 2, "text": "All of this is learned."},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = load(path, encoder, hashlib.sha256(path.read_bytes()).hexdigest())
    assert (len(dataset.train), dataset.unlearned_rows) == (1, 1)


def test_a_limit_takes_the_same_held_out_rows_each_time(tmp_path: Path, encoder: Encoder) -> None:
    path = tmp_path / "rows.jsonl"
    sha256 = write_rows(path, count=60, held_out_every=2)
    first = load(path, encoder, sha256, held_out_limit=5)
    again = load(path, encoder, sha256, held_out_limit=5)
    assert first.held_out.places.tolist() == again.held_out.places.tolist()
    assert (len(first.held_out), first.held_out_total) == (5, 30)


def test_the_order_of_an_epoch_never_changes_between_versions() -> None:
    assert order_of_epoch(8, 42, 0).tolist() == [7, 1, 6, 4, 3, 5, 0, 2]
    assert order_of_epoch(8, 42, 1).tolist() != order_of_epoch(8, 42, 0).tolist()
    assert order_of_epoch(8, 43, 0).tolist() != order_of_epoch(8, 42, 0).tolist()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Dataset:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    return load(path, encoder, write_rows(path, count=24))


@settings(max_examples=50)
@given(batch_size=st.integers(1, 25), seed=st.integers(0, 2**63), epoch=st.integers(0, 5))
def test_each_epoch_sees_every_row_once_whatever_the_batch_size(
    dataset: Dataset, batch_size: int, seed: int, epoch: int
) -> None:
    steps = count_steps(len(dataset.train), batch_size)
    batches = [
        rows_of_step(dataset.train, step=epoch * steps + step, batch_size=batch_size, seed=seed)
        for step in range(steps)
    ]
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(dataset.train)))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    for batch in batches:
        lengths = dataset.train.lengths[batch].tolist()
        assert lengths == sorted(lengths, reverse=True)


def test_near_duplicates_stay_on_one_side_and_a_job_of_an_earlier_release_keeps_its_split(
    tmp_path: Path, encoder: Encoder
) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [one for row in plant(11, 60).rows for one in (row, spoken_loudly(row))]
    path.write_bytes(b"".join(json.dumps(row | {"line": line}).encode() + b"\n" for line, row in enumerate(rows, 1)))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()

    def held_out(split_rule: int) -> set[int]:
        dataset = load(path, encoder, sha256, max_length=4096, split_rule=split_rule)
        return {read_row_at(path, place)["line"] for place in dataset.held_out.places.tolist()}

    alike = held_out(1)
    assert alike
    assert {line for line in range(1, len(rows), 2) if (line in alike) != (line + 1 in alike)} == set()
    by_prompt = [row_key(row) for row in rows]
    split = split_rows(by_prompt, [None] * len(rows), fraction=0.2, seed=3)
    assert held_out(0) == {line for line, out in enumerate(split.held_out, 1) if out}


def spoken_loudly(row: Row) -> Row:
    return {
        "line": row["line"],
        "messages": [{"role": turn["role"], "content": turn["content"].upper() + "!"} for turn in row["messages"]],
    }
