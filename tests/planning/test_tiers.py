"""What a GPU of 24, 16, 8 and 4 GB, and a machine without one, get: each tier by itself."""

from typing import Any

import pytest
from msgspec.structs import replace

from btmd.domain.hardware import Hardware
from btmd.errors import NotEnoughMemory
from btmd.planning.usual_models import USUAL_MODELS
from tests.planning.given import PRESETS, ROWS, SMALL, cpu_machine, gpu, gpu_machine, plan, value

DRIVER_GB = 1
"""What a desktop and the driver hold of each GPU."""
LONG_ROWS = replace(ROWS, longest_row=1000, over_long={64: 950, 128: 600, 256: 400, 512: 10})
ONE, TWO, THREE, EIGHT = (USUAL_MODELS[place] for place in (2, 3, 4, 5))


def tier(size_gb: float) -> Hardware:
    return replace(gpu_machine(gpu(size_gb - DRIVER_GB)), bitsandbytes_version="0.48.2")


@pytest.mark.parametrize("size_gb", [24, 48, 80, 192])
@pytest.mark.parametrize("model", [SMALL, ONE, TWO, THREE], ids=lambda model: f"{model.parameters / 1e9:g}B")
def test_24_gb_and_more_get_the_preset_in_full(size_gb: float, model: Any) -> None:
    preset = PRESETS["code_assistant"]
    made = plan("code_assistant", model=model, hardware=tier(size_gb), tokens=LONG_ROWS)
    assert made.text("training_type") == preset.training_type
    assert made.integer("max_length") == preset.max_length
    assert made.integer("micro_batch_size") == made.integer("batch_size") == preset.batch_size
    assert made.flag("gradient_checkpointing") is False
    assert made.number("learning_rate") == preset.learning_rate


def test_24_gb_train_eight_billion_weights_with_an_adapter() -> None:
    made = plan("code_assistant", model=EIGHT, hardware=tier(24), tokens=LONG_ROWS)
    assert (made.text("training_type"), made.integer("max_length")) == ("lora_adaptation", 1024)
    assert made.fixed["gradient_accumulation"].value == 4


def test_16_gb_take_smaller_batches_and_lengths_from_the_data() -> None:
    made = plan("code_assistant", model=THREE, hardware=tier(16), tokens=LONG_ROWS)
    assert 1 <= made.integer("micro_batch_size") < made.integer("batch_size") == 4
    assert (made.text("training_type"), made.integer("max_length")) == ("lora_adaptation", 1024)
    short = plan("code_assistant", model=THREE, hardware=tier(16))
    assert value(short, "max_length") == (256, "data")
    assert short.integer("micro_batch_size") > made.integer("micro_batch_size")


def test_8_gb_take_small_batches_and_checkpointing_where_memory_asks_for_it() -> None:
    made = plan("code_assistant", model=TWO, hardware=tier(8), tokens=LONG_ROWS)
    assert made.integer("micro_batch_size") <= 2
    assert made.fixed["gradient_accumulation"].value == 4 // made.integer("micro_batch_size")
    longer = replace(LONG_ROWS, longest_row=2000, over_long={512: 800, 1024: 500, 2048: 0})
    tight = plan("code_assistant", model=TWO, hardware=tier(8), tokens=longer)
    assert tight.integer("max_length") == 2048
    assert value(tight, "gradient_checkpointing") == (True, "hardware")
    assert "would not fit" in tight.values["gradient_checkpointing"].reason


def test_8_gb_ask_before_they_train_on_four_bits() -> None:
    with pytest.raises(NotEnoughMemory) as refused:
        plan("code_assistant", model=THREE, hardware=tier(8), tokens=LONG_ROWS)
    assert refused.value.allow == ("qlora",)
    made = plan("code_assistant", model=THREE, hardware=tier(8), tokens=LONG_ROWS, allow="qlora")
    assert made.text("training_type") == "qlora_adaptation"
    assert made.text("device") == "cuda:0"


def test_4_gb_get_the_minimum_or_the_cpu() -> None:
    small = plan("code_assistant", model=SMALL, hardware=tier(4), tokens=LONG_ROWS)
    assert small.text("device") == "cuda:0"
    assert small.integer("batch_size") == 4
    with pytest.raises(NotEnoughMemory) as refused:
        plan("code_assistant", model=EIGHT, hardware=tier(4), tokens=LONG_ROWS)
    assert refused.value.allow == ("cpu",)
    made = plan("code_assistant", model=EIGHT, hardware=tier(4), tokens=LONG_ROWS, allow="cpu")
    assert made.text("device") == "cpu"
    assert any("very long" in note for note in made.notes)


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp32")])
def test_without_a_gpu_a_few_rows_at_once_and_what_the_processor_multiplies(native: bool, precision: str) -> None:
    made = plan("domain_expert", hardware=cpu_machine(22, native_bf16=native))
    assert value(made, "precision") == (precision, "hardware")
    assert made.integer("micro_batch_size") == 4
    assert made.integer("batch_size") == 16
    with pytest.raises(NotEnoughMemory):
        plan("domain_expert", hardware=cpu_machine(2, native_bf16=native))


def test_without_a_gpu_it_is_said_when_one_would_be_worth_it() -> None:
    made = plan("code_assistant", model=ONE, hardware=cpu_machine(60))
    assert any("A GPU is worth it" in note for note in made.notes)
    assert not any("A GPU is worth it" in note for note in plan("code_assistant").notes)
