"""What a machine makes of each preset, in words, and which one suits a model and its data."""

import pytest
from msgspec.structs import replace

from btmd.planning import choose_preset, guess_preset, recommend, why_untrainable_by_name
from tests.planning.given import PRESETS, SEVEN_BILLION, SMALL, cpu_machine, gpu, gpu_machine


def test_for_one_model_each_preset_says_how_long_and_how_much() -> None:
    verdicts = {preset.key: verdict for preset, verdict in recommend(PRESETS.values(), cpu_machine(7), SMALL)}
    assert set(verdicts) == set(PRESETS)
    for key in ("quick_test", "handouts", "preference", "chat_fine_tune"):
        assert verdicts[key].startswith("Fits, about ")
        assert "for 1,000 rows" in verdicts[key]
        assert "7.0 GB are free" in verdicts[key]


def test_four_bits_need_a_gpu_and_its_library_and_say_so() -> None:
    on_cpu = dict((preset.key, verdict) for preset, verdict in recommend(PRESETS.values(), cpu_machine(7)))
    assert on_cpu["small_gpu"].startswith("Not on this machine")
    assert "NVIDIA" in on_cpu["small_gpu"]
    machine = gpu_machine(gpu(8))
    without = dict((preset.key, verdict) for preset, verdict in recommend(PRESETS.values(), machine, SMALL))
    assert "btmctl doctor" in without["small_gpu"]


def test_what_does_not_fit_names_what_would_be_used_instead() -> None:
    machine = replace(gpu_machine(gpu(9), free_gb=24), bitsandbytes_version="0.48")
    verdicts = {preset.key: verdict for preset, verdict in recommend(PRESETS.values(), machine, SEVEN_BILLION)}
    assert "9.0 GB are free: with --allow qlora it would use QLoRA" in verdicts["quick_test"]
    assert verdicts["small_gpu"].startswith("Fits")


def test_what_cannot_be_says_why() -> None:
    for preset, verdict in recommend(PRESETS.values(), cpu_machine(2), SEVEN_BILLION):
        assert verdict.startswith("Not on this machine, because"), preset.key


@pytest.mark.parametrize(("kind", "key"), [("text", "handouts"), ("preference", "preference")])
def test_the_data_chooses_its_preset(kind: str, key: str) -> None:
    preset, reason = choose_preset(PRESETS, SMALL, cpu_machine(), kind)
    assert preset.key == key
    assert "data" in reason


def test_a_name_alone_is_a_guess() -> None:
    preset, reason = guess_preset(PRESETS, "org/tiny-coder-135m", cpu_machine())
    assert preset.key == "code_assistant"
    assert reason.startswith("A guess")
    assert guess_preset(PRESETS, "org/thing", cpu_machine())[0].key == "quick_test"
    assert guess_preset(PRESETS, "org/coder-70b", cpu_machine(8))[0].key == "quick_test"


@pytest.mark.parametrize(
    ("model_id", "says"),
    [
        ("FacebookAI/roberta-base", "(roberta) it is an encoder"),
        ("bert-base-uncased", "(bert) it is an encoder"),
        ("FacebookAI/xlm-roberta-large", "(roberta) it is an encoder"),
        ("microsoft/deberta-v3-base", "(deberta) it is an encoder"),
        ("sentence-transformers/all-MiniLM-L6-v2", "(MiniLM) it is an encoder"),
        ("google/flan-t5-small", "(t5) it is a model that reads with an encoder"),
        ("facebook/bart-large-cnn", "(bart) it is a model that reads with an encoder"),
        ("microsoft/DialoGPT-medium", ""),
        ("bert/tiny-llama-135m", ""),
        ("robert-7b", ""),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", ""),
        ("Qwen/Qwen2.5-Coder-1.5B", ""),
    ],
)
def test_a_name_that_says_encoder_is_told_that_it_cannot_be_trained(model_id: str, says: str) -> None:
    told = why_untrainable_by_name(model_id)
    assert says in told
    assert bool(told) == bool(says)
    if says:
        assert "cannot be trained here" in told
