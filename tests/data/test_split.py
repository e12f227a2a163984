"""What is held out is never trained on in another dress: prompts, duplicates and near-duplicates stay on one side."""

import random
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from btmd.data.rows import row_key
from btmd.data.split import leaking_rows, split_rows
from tests.data.planted import plant
from tests.data.test_near_duplicates import groups


@given(
    prompts=st.lists(st.integers(0, 20), min_size=1, max_size=60),
    draws=st.randoms(use_true_random=False),
    fraction=st.floats(0.01, 0.9),
    seed=st.integers(-(2**63), 2**63),
)
@settings(max_examples=60, deadline=None)
def test_neither_a_prompt_nor_a_group_is_on_both_sides(
    prompts: list[int], draws: random.Random, fraction: float, seed: int
) -> None:
    keys = [str(prompt).encode() for prompt in prompts]
    labels = [min(index, draws.randrange(len(keys))) for index in range(len(keys))]
    labels = [labels[label] for label in labels]
    split = split_rows(keys, [None] * len(keys), fraction=fraction, seed=seed, groups=labels)
    assert not any(leaking_rows(keys, split.held_out, labels))
    assert not all(split.held_out)


def test_planted_near_duplicates_leak_nothing_and_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    planted = plant(seed, 600)
    keys = [row_key(row) for row in planted.rows]
    labels = groups(planted.rows, tmp_path).labels().tolist()
    split = split_rows(keys, [None] * len(keys), fraction=0.1, seed=5, groups=labels)
    on_both_sides = [
        number for number, of in enumerate(planted.same_as) if split.held_out[number] != split.held_out[of]
    ]
    assert not on_both_sides, f"seed {seed}"
    share = sum(split.held_out) / len(keys)
    assert 0.06 < share < 0.14, f"seed {seed}"
    order = random.Random(1).sample(range(len(keys)), len(keys))
    mixed = groups([planted.rows[number] for number in order], tmp_path).labels().tolist()
    again = split_rows([keys[number] for number in order], [None] * len(keys), fraction=0.1, seed=5, groups=mixed)
    assert [split.held_out[number] for number in order] == again.held_out, f"seed {seed}"


def test_rows_that_are_alone_stand_where_they_stood_without_groups() -> None:
    keys = [str(number).encode() for number in range(400)]
    by_prompt = split_rows(keys, [None] * 400, fraction=0.1, seed=3)
    assert split_rows(keys, [None] * 400, fraction=0.1, seed=3, groups=range(400)).held_out == by_prompt.held_out


def test_a_crowd_of_like_rows_is_never_held_out() -> None:
    keys = [str(number).encode() for number in range(100)]
    labels = [0] * 60 + list(range(60, 100))
    for seed in range(50):
        split = split_rows(keys, [None] * 100, fraction=0.1, seed=seed, groups=labels)
        assert any(split.held_out)
        assert not any(split.held_out[:60])


def test_where_every_group_is_large_one_of_the_smallest_is_held_out() -> None:
    keys = [str(number).encode() for number in range(20)]
    labels = [number - number % 5 for number in range(20)]
    split = split_rows(keys, [None] * 20, fraction=0.05, seed=1, groups=labels)
    assert sum(split.held_out) == 5


def test_leaks_of_a_split_made_by_the_source_are_counted_by_prompt_and_by_likeness() -> None:
    keys = [b"a", b"b", b"a", b"c", b"d"]
    sides = ["train", "train", "held_out", "held_out", "held_out"]
    split = split_rows(keys, sides, fraction=0.5, seed=0, groups=[0, 1, 2, 1, 4])  # type: ignore[arg-type]
    assert split.explicit
    assert split.leaked == 2
