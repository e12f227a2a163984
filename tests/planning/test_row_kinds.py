"""Each training type learns from rows of its own kind, and says which one to use instead."""

import pytest
from msgspec.structs import replace

from btmd.errors import DatasetRefused, InvalidValue, PreferenceData
from btmd.planning.row_kinds import count_blocks, kind_note, packed_tokens, refuse_unfit_rows
from tests.planning.given import PRESETS, ROWS, SMALL, plan, value

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


def test_plans_for_texts_and_pairs_count_blocks_and_both_sides() -> None:
    texts = plan("handouts", tokens=TEXT, model=replace(SMALL, has_chat_template=False))
    assert value(texts, "packing") == (True, "data")
    assert value(texts, "max_length") == (512, "preset")
    assert texts.left_out_rows == 0
    assert 230 <= texts.train_rows + texts.held_out_rows <= 300
    assert not any("chat format" in note for note in texts.notes)
    pairs, answers = plan("preference", tokens=PAIRS), plan("preference", tokens=ROWS, training_type="lora_adaptation")
    assert pairs.memory.activations_bytes == 2 * answers.memory.activations_bytes
    whole = plan("preference", tokens=PAIRS, lora_r=0)
    assert whole.memory.trained_parameters == SMALL.parameters
    assert whole.number("learning_rate") == pytest.approx(pairs.number("learning_rate") / 10)


def test_a_preset_for_answers_learns_pairs_far_more_slowly() -> None:
    made = plan("quick_test", tokens=PAIRS, training_type="preference_tuning", dpo_beta=0.3)
    assert value(made, "learning_rate")[0] == pytest.approx(3e-4 / 20)
    assert value(made, "dpo_beta") == (0.3, "user")
    with pytest.raises(InvalidValue, match="no effect"):
        plan("quick_test", dpo_beta=0.3)


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
