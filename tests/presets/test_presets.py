"""The built-in presets are the catalogue's, and any preset file is checked key by key."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btmd.domain.preset import Preset
from btmd.errors import UnknownPreset
from btmd.presets.reading import PresetRefused, find_preset, load_builtin_presets, parse_preset

CATALOGUE: dict[str, tuple[Any, ...]] = {
    "quick_test": (
        "Quick Test",
        "beginner",
        "lora_adaptation",
        1,
        3e-4,
        4,
        256,
        0.10,
        2,
        "15-30 minutes",
        ("learning", "testing", "quick experiments"),
    ),
    "support_chat": (
        "Support Chat",
        "beginner",
        "lora_adaptation",
        3,
        2e-4,
        8,
        768,
        0.05,
        4,
        "1-3 hours",
        ("customer support", "help desks", "conversations of several turns"),
    ),
    "handouts": (
        "Handouts",
        "intermediate",
        "continued_pretraining",
        2,
        2e-4,
        8,
        512,
        0.05,
        4,
        "1-4 hours",
        ("plain text", "the language of a field", "handouts and manuals"),
    ),
    "chat_fine_tune": (
        "Chat Fine-tuning",
        "intermediate",
        "fine_tuning",
        3,
        2e-5,
        8,
        512,
        0.10,
        6,
        "2-6 hours",
        ("chat applications", "customer support"),
    ),
    "small_gpu": (
        "Small GPU",
        "intermediate",
        "qlora_adaptation",
        3,
        2e-4,
        8,
        512,
        0.05,
        6,
        "2-6 hours",
        ("GPUs of 6 to 12 GB", "models that do not fit otherwise"),
    ),
    "code_assistant": (
        "Code Assistant",
        "intermediate",
        "lora_adaptation",
        5,
        1e-4,
        4,
        1024,
        0.05,
        8,
        "3-8 hours",
        ("programming assistance", "technical documentation"),
    ),
    "preference": (
        "Preference",
        "advanced",
        "preference_tuning",
        2,
        2e-5,
        8,
        512,
        0.10,
        6,
        "1-4 hours",
        ("pairs of chosen and rejected answers", "tone and manners", "fewer unwanted answers"),
    ),
    "domain_expert": (
        "Domain Expert",
        "advanced",
        "fine_tuning",
        10,
        1e-5,
        16,
        512,
        0.20,
        12,
        "8-24 hours",
        ("professional applications", "specialised knowledge"),
    ),
}
GOOD = """
key = "mine"
name = "Mine"
description = "For my own texts."
difficulty = "beginner"
training_type = "lora_adaptation"
recommended_for = ["letters"]
estimated_time = "an hour"
memory_requirements_gb = 3.5

[hyperparameters]
num_epochs = 2
learning_rate = 1e-4
batch_size = 8
max_length = 512
warmup_ratio = 0.1
lora_r = 8
"""


def test_the_built_in_presets_are_the_catalogues() -> None:
    presets = load_builtin_presets()
    assert list(presets) == list(CATALOGUE)
    for key, expected in CATALOGUE.items():
        preset = presets[key]
        assert (
            preset.name,
            preset.difficulty,
            preset.training_type,
            preset.num_epochs,
            preset.learning_rate,
            preset.batch_size,
            preset.max_length,
            preset.warmup_ratio,
            preset.memory_requirements_gb,
            preset.estimated_time,
            preset.recommended_for,
        ) == expected
        assert preset.key == key
        assert preset.description
        assert preset.use_mixed_precision
        assert preset.gradient_checkpointing


@pytest.mark.parametrize("wanted", ["quick_test", "Quick Test", "QUICK TEST", " quick  test ", "Quick_Test"])
def test_a_preset_is_found_by_key_or_name_in_any_case(wanted: str) -> None:
    assert find_preset(load_builtin_presets(), wanted).key == "quick_test"


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UnknownPreset) as refused:
        find_preset(load_builtin_presets(), "qick_test")
    assert refused.value.hint == "Did you mean quick_test?"
    with pytest.raises(UnknownPreset, match="zzz") as refused:
        find_preset(load_builtin_presets(), "zzz")
    assert "domain_expert" in refused.value.hint


def test_a_good_file_is_read() -> None:
    preset = parse_preset(GOOD, "mine.toml")
    assert (preset.key, preset.lora_r, preset.lora_alpha, preset.memory_requirements_gb) == ("mine", 8, 32, 3.5)


@pytest.mark.parametrize(
    ("old", "new", "key", "line"),
    [
        ("num_epochs = 2", "num_epochs = 0", "num_epochs", 12),
        ("num_epochs = 2", 'num_epochs = "2"', "num_epochs", 12),
        ("num_epochs = 2", "num_epoch = 2", "num_epoch", 12),
        ("learning_rate = 1e-4", "learning_rate = nan", "learning_rate", 13),
        ("learning_rate = 1e-4\n", "", "learning_rate", 0),
        ('difficulty = "beginner"', 'difficulty = "easy"', "difficulty", 5),
        ('training_type = "lora_adaptation"', 'training_type = "lora"', "training_type", 6),
        ('name = "Mine"', "name = 7", "name", 3),
        ('key = "mine"', 'key = "../mine"', "key", 2),
        ("memory_requirements_gb = 3.5", "memory_requirements_gb = true", "memory_requirements_gb", 9),
        ('recommended_for = ["letters"]', "recommended_for = [1]", "recommended_for", 7),
        ("[hyperparameters]", "[parameters]", "hyperparameters", 0),
        ("batch_size = 8", "batch_size = = 8", "", 14),
        ("batch_size = 8", "batch_size = 8\nuse_mixed_precision = 1", "use_mixed_precision", 15),
        ("batch_size = 8", "batch_size = 8\nseed = 1", "seed", 15),
    ],
)
def test_a_bad_file_is_refused_with_line_key_and_reason(old: str, new: str, key: str, line: int) -> None:
    assert old in GOOD
    with pytest.raises(PresetRefused) as refused:
        parse_preset(GOOD.replace(old, new), "mine.toml")
    assert (refused.value.key, refused.value.line) == (key, line)
    assert "mine.toml" in refused.value.detail
    assert refused.value.reason
    if line:
        assert f"line {line}" in refused.value.detail


def test_a_misspelt_key_names_the_nearest() -> None:
    with pytest.raises(PresetRefused, match="did you mean learning_rate"):
        parse_preset(GOOD.replace("learning_rate", "learning_rat"), "mine.toml")


@given(st.data())
@settings(max_examples=150)
def test_no_text_does_worse_than_a_refusal(data: st.DataObject) -> None:
    lines = GOOD.splitlines()
    text = data.draw(st.text(max_size=60) | st.sampled_from([*lines, "x = [[[", "a.b.c = 1", "[[hyperparameters]]"]))
    position = data.draw(st.integers(0, len(lines)))
    removed = data.draw(st.integers(0, 3))
    mutated = "\n".join([*lines[:position], text, *lines[position + removed :]])
    try:
        assert isinstance(parse_preset(mutated, "f.toml"), Preset)
    except PresetRefused as refused:
        sentence = refused.detail
        assert sentence.startswith("f.toml")


def test_a_huge_or_deep_file_is_refused() -> None:
    with pytest.raises(PresetRefused, match="larger"):
        parse_preset("#" * 100_000, "f.toml")
    with pytest.raises(PresetRefused):
        parse_preset("x = " + "[" * 30_000, "f.toml")
