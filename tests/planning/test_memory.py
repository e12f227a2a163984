"""The formula for memory against figures known from elsewhere."""

import pytest
from msgspec.structs import replace

from btmd.domain.model import ModelFacts
from btmd.planning.memory import Shape, adapter_parameters, checkpoint_bytes, estimate_memory
from tests.planning.given import GB, SEVEN_BILLION, SMALL

SHAPE = Shape(4, 256, "bf16", False, 16, "cpu")


def test_adapters_have_as_many_parameters_as_peft_gives_them() -> None:
    # Counted with peft on SmolLM2-135M, r=16, all linear layers.
    assert adapter_parameters(SMALL, 16) == 4_884_480
    assert adapter_parameters(SMALL, 16, ("q_proj", "v_proj")) == 16 * 30 * (576 + 576 + 576 + 192)


def test_full_training_takes_sixteen_bytes_a_weight_and_more() -> None:
    full = estimate_memory(SMALL, replace(SHAPE, lora_r=0, precision="fp32"))
    fixed = full.weights_bytes + full.gradients_bytes + full.optimizer_bytes
    assert fixed == 16 * SMALL.parameters
    assert full.total_bytes > fixed
    assert estimate_memory(SEVEN_BILLION, replace(SHAPE, lora_r=0, device="cuda:0")).total_bytes > 110 * GB


# Sizes of a model with 31 million weights, 12 blocks.
TINY = replace(
    SMALL, parameters=31_467_648, layers=12, hidden_size=384, intermediate_size=1024, heads=6, kv_heads=2,
    vocab_size=32_768, size_bytes=62_935_296,
)  # fmt: skip


@pytest.mark.parametrize(
    ("model", "lora_r", "micro_batch_size", "max_length", "checkpointing", "micro_batches", "measured_mb"),
    [
        (TINY, 16, 4, 128, False, 12, 411),
        (TINY, 16, 2, 384, True, 24, 472),
        (TINY, 16, 1, 1024, False, 24, 596),
        (TINY, 0, 2, 128, True, 24, 858),
        (TINY, 0, 1, 384, False, 24, 984),
        (TINY, 0, 2, 1024, False, 12, 1305),
        (SMALL, 16, 1, 128, False, 8, 516),
        (SMALL, 16, 4, 384, True, 4, 695),
        (SMALL, 16, 2, 1024, False, 8, 1645),
        (SMALL, 0, 4, 128, True, 4, 2784),
    ],
)
def test_the_formula_is_near_what_was_measured_above_the_idle_process(
    model: ModelFacts,
    lora_r: int,
    micro_batch_size: int,
    max_length: int,
    checkpointing: bool,
    micro_batches: int,
    measured_mb: int,
) -> None:
    shape = Shape(micro_batch_size, max_length, "bf16", checkpointing, lora_r, "cpu")
    estimate = estimate_memory(model, shape, micro_batches=micro_batches)
    above_mb = (estimate.peak_bytes - estimate.process_bytes) / 1024**2
    assert abs(above_mb / measured_mb - 1) < 0.12


def test_a_base_in_four_bits_takes_a_quarter_of_its_blocks() -> None:
    whole = estimate_memory(SEVEN_BILLION, replace(SHAPE, device="cuda:0"))
    small = estimate_memory(SEVEN_BILLION, replace(SHAPE, device="cuda:0", quantised_base=True))
    assert 0.25 < small.weights_bytes / whole.weights_bytes < 0.32


def test_reading_the_files_can_be_the_peak() -> None:
    # Half-precision weights from a file in full precision, for a tiny batch.
    stored_wide = replace(SMALL, size_bytes=4 * SMALL.parameters)
    estimate = estimate_memory(stored_wide, Shape(1, 64, "bf16", True, 4, "cpu"), micro_batches=1)
    assert estimate.peak_bytes == estimate.loading_bytes > estimate.total_bytes


def test_each_part_grows_with_what_it_depends_on() -> None:
    base = estimate_memory(SMALL, SHAPE)
    assert estimate_memory(SMALL, replace(SHAPE, micro_batch_size=8)).activations_bytes == 2 * base.activations_bytes
    assert (
        estimate_memory(SMALL, replace(SHAPE, gradient_checkpointing=True)).activations_bytes
        < base.activations_bytes / 3
    )
    assert estimate_memory(SMALL, replace(SHAPE, precision="fp32")).weights_bytes > 1.9 * base.weights_bytes - GB / 8
    assert estimate_memory(SMALL, replace(SHAPE, lora_r=64)).optimizer_bytes == 4 * base.optimizer_bytes


def test_the_head_is_computed_in_pieces_where_the_model_allows() -> None:
    long = replace(SHAPE, max_length=4096)
    other = replace(SMALL, architecture="GPTNeoXForCausalLM")
    assert estimate_memory(SMALL, long).logits_bytes < estimate_memory(other, long).logits_bytes


def test_a_checkpoint_holds_weights_moments_and_open_gradients() -> None:
    assert checkpoint_bytes(1_000_000) >= 16_000_000
