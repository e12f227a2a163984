"""A preset as text: what is written is read again, and a person's comments and order stay."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from btmd.domain.preset import DIFFICULTIES, TRAINING_TYPES, Preset
from btmd.domain.preset_definition import values_of
from btmd.presets.reading import load_builtin_presets, parse_preset, preset_of
from btmd.presets.text import rendered, written

QUICK = load_builtin_presets()["quick_test"]
BY_HAND = """\
# mine, for letters
hyperparameters = { num_epochs = 2, learning_rate = 1e-4, batch_size = 8, max_length = 512, warmup_ratio = 0.1 }
key = "mine"
name = 'Mine'
description = "x"
difficulty = "beginner"
training_type = "lora_adaptation"
estimated_time = "an hour"
memory_requirements_gb = 3.5 # about
"""
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30).filter(str.strip)
PRESETS = st.builds(
    Preset,
    key=st.just("mine"),
    name=TEXTS.map(str.strip),
    description=TEXTS.map(str.strip),
    difficulty=st.sampled_from(DIFFICULTIES),
    training_type=st.sampled_from(TRAINING_TYPES),
    num_epochs=st.integers(1, 1000),
    learning_rate=st.floats(1e-8, 0.1),
    batch_size=st.integers(1, 4096),
    max_length=st.integers(16, 1_048_576),
    warmup_ratio=st.floats(0, 0.9),
    recommended_for=st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=3).map(tuple),
    estimated_time=TEXTS.map(str.strip),
    memory_requirements_gb=st.floats(0.001, 10_000),
    use_mixed_precision=st.booleans(),
    gradient_checkpointing=st.booleans(),
    lora_r=st.integers(1, 1024),
    lora_dropout=st.floats(0, 0.9),
    target_modules=st.lists(st.sampled_from(["q_proj", "v_proj"]), max_size=2, unique=True).map(tuple),
    lr_scheduler=st.sampled_from(["cosine", "linear", "constant"]),
)


@given(PRESETS, PRESETS)
@settings(max_examples=60)
def test_what_is_written_is_read_again(first: Preset, second: Preset) -> None:
    text = rendered(first)
    assert parse_preset(text, "mine.toml") == first
    assert parse_preset(written(text, second, "mine.toml"), "mine.toml") == second
    assert parse_preset(written(BY_HAND, second, "mine.toml"), "mine.toml") == second
    assert written(text, first, "mine.toml") == text


def test_comments_and_order_stay() -> None:
    before = parse_preset(BY_HAND, "mine.toml")
    text = written(BY_HAND, replace(before, num_epochs=9, memory_requirements_gb=4.0, lora_r=8), "mine.toml")
    assert text.startswith("# mine, for letters\nhyperparameters = {")
    for part in ("num_epochs = 9", "memory_requirements_gb = 4.0 # about", "name = 'Mine'", "lora_r = 8"):
        assert part in text


@pytest.mark.parametrize("changed", [{"num_epochs": 3}, {"recommended_for": "letters, poems"}])
def test_a_preset_is_made_of_values_as_of_a_file(changed: dict[str, object]) -> None:
    values = {**values_of(QUICK), **changed}
    made = preset_of(values)
    assert parse_preset(rendered(made), "f.toml") == made
    assert made != QUICK
