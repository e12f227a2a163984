"""What four bits a weight save: the memory of a training on a quantised base."""

from dataclasses import replace
from typing import Final

from btmd.domain.model import ModelFacts
from btmd.planning.memory import MemoryEstimate, Shape, estimate_memory, linear_layers

QUANTISED_TYPE: Final = "qlora_adaptation"
NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)
"""A weight in NF4 with its share of the doubly quantised constants; Dettmers et al., "QLoRA", 2023, section 3."""


def estimate_quantised(model: ModelFacts, shape: Shape) -> MemoryEstimate:
    """Peak memory with the blocks' linear layers in NF4; embeddings, norms and the head keep the shape's precision.

    A layer is brought back into 16 bits while it is computed, so the largest one is counted in both forms.
    """
    plain = estimate_memory(model, shape)
    number_bytes = 4 if shape.precision == "fp32" else 2
    sizes = [inputs * outputs for inputs, outputs in linear_layers(model).values()]
    quantised = min(model.parameters, sum(sizes) * model.layers)
    weights = plain.weights_bytes - int(quantised * (number_bytes - NF4_BITS / 8)) + number_bytes * max(sizes)
    weights = min(weights, plain.weights_bytes)
    return replace(plain, weights_bytes=weights, total_bytes=plain.total_bytes - plain.weights_bytes + weights)


def estimate_for(training_type: str, model: ModelFacts, shape: Shape) -> MemoryEstimate:
    """Peak memory of a training of this type."""
    return (estimate_quantised if training_type == QUANTISED_TYPE else estimate_memory)(model, shape)
