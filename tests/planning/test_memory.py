"""The formula for memory against figures known from elsewhere."""

from dataclasses import replace

import pytest

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


@pytest.mark.parametrize(("max_length", "measured_mb"), [(256, 1598), (512, 1892)])
def test_the_formula_is_near_what_was_measured_and_not_below(max_length: int, measured_mb: int) -> None:
    estimate = estimate_memory(SMALL, replace(SHAPE, max_length=max_length)).total_bytes / 1024**2
    assert measured_mb <= estimate <= 1.25 * measured_mb


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
