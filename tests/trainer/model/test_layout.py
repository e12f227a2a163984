from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from btmd.trainer.model.layout import bucket, lay_out, round_up
from btmd.trainer.model.products import STEP
from tests.trainer.model.models import CPU, rows


@given(st.integers(1, 100_000))
def test_a_bucket_is_close_above_the_length(length: int) -> None:
    assert length <= bucket(length) <= max(length + 31, length * 9 / 8)
    assert bucket(bucket(length)) == bucket(length)
    assert bucket(length) <= bucket(length + 1)


def test_there_are_few_buckets() -> None:
    assert len({bucket(length) for length in range(1, 4097)}) <= 16 + 8 * 4


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6))
def test_every_row_stands_whole_at_its_place_and_targets_follow_their_predictors(lengths: list[int]) -> None:
    batch = rows(*lengths)
    layout = lay_out(batch, CPU)
    assert len(layout.ids) % STEP == 0
    end = 0
    for (start, stop), tokens in zip(layout.rows, batch.input_ids, strict=True):
        assert start == end
        end = stop
        assert start + bucket(len(tokens)) <= len(layout.ids)
        assert torch.equal(layout.ids[start:stop], tokens)
        assert torch.equal(layout.positions[start : start + len(tokens)], torch.arange(len(tokens)))
    learned = layout.targets.numel()
    assert learned == batch.count_learned()
    assert torch.equal(layout.ids[layout.predicting[:learned] + 1], layout.targets)
    assert len(layout.predicting) == round_up(max(learned, 1), STEP)
