"""How much memory and disk a training takes, by formula.

In bytes, for a model of N weights of which A are trained:

- weights: 2 N in bf16 or fp16, 4 N in fp32. When everything is trained the fp32 originals take 4 N, and in a 16-bit
  computation a copy of 2 N stands beside them.
- gradients 4 A and AdamW's two moments 8 A, all fp32; adapters also have fp32 originals (4 A) and a cast copy.
- activations, per token and layer, what a Llama block keeps for its backward pass: its input, queries, attention
  output and the sum after it (4 hidden), keys and values (2 kv width), gate and up (2 intermediate). Layers of
  transformers also keep the two normalised inputs, the gate's activation and the product (2 hidden, 2 intermediate).
  Attention works row by row without keeping its scores. Adapters keep their rank-sized products. With gradient
  checkpointing only a block's input is kept, and one block in full. Compare Korthikanti et al., "Reducing Activation
  Recomputation in Large Transformer Models", 2022, section 4.
- logits: fp32 logits and their gradient for the tokens computed at once.
- overhead: interpreter and libraries, and a share of everything above for what allocators keep.

Measured on two cores with a model of 135 million weights, bf16, four rows at once, in MB, formula beside outcome:
adapter with rows up to 256 tokens 1663 and 1598, up to 512 tokens 2053 and 1892.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from btmd.domain.model import ModelFacts
from btmd.domain.units import MIB

CPU_PROCESS_BYTES = 500 * MIB
"""Resident set of an interpreter with torch loaded and a bf16 kernel cache warmed up."""
GPU_CONTEXT_BYTES = 600 * MIB
ALLOCATOR_SHARE = 0.12
LOGITS_CHUNK_TOKENS = 1024
"""The vocabulary projection of Llama-like models is computed in pieces of at most so many tokens."""
FUSED_ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")
"""Trained with layers of our own, which keep less for the backward pass."""
GROWTH_RESERVE_SHARE = 0.1
"""Of the free memory, left alone: other programs grow too."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Peak memory of the training, in bytes, by its parts."""

    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    logits_bytes: int
    overhead_bytes: int
    total_bytes: int
    """The sum of the parts."""
    trained_parameters: int


@dataclass(frozen=True, slots=True)
class Shape:
    """What memory depends on. ``lora_r`` is 0 when all weights are trained; ``device`` is ``cpu`` or ``cuda:N``."""

    micro_batch_size: int
    max_length: int
    precision: str
    gradient_checkpointing: bool
    lora_r: int
    device: str
    target_modules: tuple[str, ...] = ()


def usable_bytes(available_bytes: int) -> int:
    """What of the free memory a plan may take."""
    return int(available_bytes * (1 - GROWTH_RESERVE_SHARE))


def linear_layers(model: ModelFacts) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of one block's linear layers, by their usual names."""
    hidden, wide = model.hidden_size, model.intermediate_size
    kv = kv_width(model)
    return {
        "q_proj": (hidden, hidden),
        "k_proj": (hidden, kv),
        "v_proj": (hidden, kv),
        "o_proj": (hidden, hidden),
        "gate_proj": (hidden, wide),
        "up_proj": (hidden, wide),
        "down_proj": (wide, hidden),
    }


def kv_width(model: ModelFacts) -> int:
    return model.hidden_size * max(1, model.kv_heads) // max(1, model.heads)


def adapter_parameters(model: ModelFacts, lora_r: int, target_modules: Sequence[str] = ()) -> int:
    """Weights of a LoRA adapter: r (inputs + outputs) of each linear layer it is put on.

    Names that are not a Llama block's are counted like the widest layer, so that the estimate is not too low.
    """
    layers = linear_layers(model)
    widest = max(sum(sides) for sides in layers.values())
    sides = [sum(layers[name]) if name in layers else widest for name in (target_modules or layers)]
    return lora_r * sum(sides) * model.layers


def estimate_memory(model: ModelFacts, shape: Shape) -> MemoryEstimate:
    """Peak memory of a training on the device's own memory; the formula is the module's docstring."""
    number_bytes = 4 if shape.precision == "fp32" else 2
    if shape.lora_r:
        trained = adapter_parameters(model, shape.lora_r, shape.target_modules)
        weights = number_bytes * (model.parameters + trained) + 4 * trained
    else:
        trained = model.parameters
        weights = 4 * trained + (number_bytes * trained if number_bytes == 2 else 0)
    activations = _activations(model, shape, number_bytes)
    logits = _logits(model, shape)
    base = CPU_PROCESS_BYTES if shape.device == "cpu" else GPU_CONTEXT_BYTES
    overhead = base + int(ALLOCATOR_SHARE * (activations + logits + 4 * trained))
    parts = (weights, 4 * trained, 8 * trained, activations, logits, overhead)
    return MemoryEstimate(*parts, total_bytes=sum(parts), trained_parameters=trained)


def _activations(model: ModelFacts, shape: Shape, number_bytes: int) -> int:
    tokens = shape.micro_batch_size * shape.max_length
    block = 4 * model.hidden_size + 2 * kv_width(model) + 2 * model.intermediate_size + 7 * shape.lora_r
    if model.architecture not in FUSED_ARCHITECTURES:
        block += 2 * model.hidden_size + 2 * model.intermediate_size
    kept = model.layers * model.hidden_size + block if shape.gradient_checkpointing else model.layers * block
    return number_bytes * tokens * (kept + 4 * model.hidden_size)


def _logits(model: ModelFacts, shape: Shape) -> int:
    tokens = shape.micro_batch_size * shape.max_length
    if model.architecture in FUSED_ARCHITECTURES:
        tokens = min(tokens, LOGITS_CHUNK_TOKENS)
    return 2 * 4 * tokens * model.vocab_size


def checkpoint_bytes(trained_parameters: int) -> int:
    """Size of a checkpoint: fp32 weights, two moments, and gradients when it falls inside an accumulation."""
    return 16 * trained_parameters + MIB


def result_bytes(model: ModelFacts, trained_parameters: int, *, adapter: bool) -> int:
    """Size of the result: the adapter in fp32, or the whole model in 16 bits; written aside before it is renamed."""
    return (4 if adapter else 2) * trained_parameters + 16 * MIB
