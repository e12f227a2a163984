"""Each training type learns from rows of its own kind, and says which one to use instead."""

from dataclasses import replace

import pytest

from btmd.errors import DatasetRefused, PreferenceData
from btmd.planning.row_kinds import count_blocks, kind_note, packed_tokens, refuse_unfit_rows
from tests.planning.given import PRESETS, ROWS

TEXT = replace(ROWS, kind="text")
PAIRS = replace(ROWS, kind="preference")


@pytest.mark.parametrize("training_type", ["lora_adaptation", "fine_tuning", "qlora_adaptation"])
def test_answers_and_texts_are_learned_and_pairs_are_not(training_type: str) -> None:
    refuse_unfit_rows(ROWS, training_type)
    refuse_unfit_rows(TEXT, training_type)
    with pytest.raises(PreferenceData) as refused:
        refuse_unfit_rows(PAIRS, training_type)
    assert "--preset preference" in refused.value.hint


def test_preference_tuning_needs_pairs_and_says_what_fits_otherwise() -> None:
    refuse_unfit_rows(PAIRS, "preference_tuning")
    for tokens, instead in ((ROWS, "lora_adaptation"), (TEXT, "handouts")):
        with pytest.raises(DatasetRefused) as refused:
            refuse_unfit_rows(tokens, "preference_tuning")
        assert instead in refused.value.hint


def test_continued_pretraining_needs_text() -> None:
    refuse_unfit_rows(TEXT, "continued_pretraining")
    with pytest.raises(DatasetRefused, match="only the answers"):
        refuse_unfit_rows(ROWS, "continued_pretraining")
    with pytest.raises(PreferenceData):
        refuse_unfit_rows(PAIRS, "continued_pretraining")


def test_text_trained_as_answers_is_told() -> None:
    assert "handouts" in kind_note(TEXT, "lora_adaptation")[0]
    assert kind_note(TEXT, "continued_pretraining") == []
    assert kind_note(ROWS, "lora_adaptation") == []


def test_a_long_text_asks_for_no_longer_block_and_is_left_out_of_none() -> None:
    long = replace(TEXT, longest_row=100_000, over_long={64: 1000, 8192: 900})
    packed = packed_tokens(long, PRESETS["domain_expert"])
    assert packed.longest_row == 512
    assert packed.left_out_rows(64) == 0
    assert count_blocks(long, 1000, 512) == -(-150_000 // 512)
    assert count_blocks(long, 0, 512) == 0
