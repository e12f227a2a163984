"""How much memory and disk a training takes, by formula.

In bytes, for a model of N weights of which A are trained:

- weights: 2 N in bf16 or fp16, 4 N in fp32. When everything is trained the fp32 originals take 4 N, and in a 16-bit
  computation a copy of 2 N stands beside them.
- gradients 4 A and AdamW's two moments 8 A, all fp32; adapters also have fp32 originals (4 A) and a cast copy.
- activations, per token and layer, what our Llama block leaves in its workspace for the backward pass: both normalised
  inputs, queries, keys and values before and after they are rotated, the attention's output, the sum after it, gate
  and up, and the block's output (7 hidden, 3 kv width, 2 intermediate); adapters keep their rank-sized products. Layers
  of transformers also keep the gate's activation and the product (2 hidden, 2 intermediate). With gradient
  checkpointing only a block's output is kept, and one block in full. Compare Korthikanti et al., "Reducing Activation
  Recomputation in Large Transformer Models", 2022, section 4.
- logits: of learned tokens only; at most 512 tokens or 64 MB at once in our own head, and a buffer of 8 MB in fp32.
- overhead: the process with its libraries; what a block's backward pass holds for a moment; the gradient of the
  vocabulary before it is added up; and on a CPU with 16-bit products oneDNN's kernels, 0.6 MB for each shape of each
  product, which stay for good (btmd/trainer/model/products.py says how many shapes there are).
"""

from collections.abc import Sequence

from msgspec import Struct

from btmd.domain.model import ModelFacts
from btmd.domain.units import MIB

CPU_PROCESS_BYTES = 235 * MIB
"""Resident set of a trainer that has imported torch and loaded no model yet."""
PLAIN_LIBRARIES_BYTES = 150 * MIB
"""transformers and peft, which layers that are not our own need."""
GPU_CONTEXT_BYTES = 600 * MIB
ALLOCATOR_SHARE = 0.05
LOGITS_CHUNK_TOKENS = 512
LOGITS_CHUNK_BYTES = 64_000_000
LOGITS_WIDE_BYTES = 8_000_000
"""The vocabulary projection of Llama-like models is computed in pieces of at most so much."""
WARM_BYTES = 40 * MIB
"""What libraries keep from their first use on: threads' own heaps, work areas."""
KERNEL_BYTES = 600_000
LORA_PRODUCTS, FULL_PRODUCTS = 28, 13
"""Distinct products over the flat axis of a block, forward and backward."""
ATTENTION_PRODUCTS = 6
FLAT_SHAPES = 17
"""Lengths of a piece of the flat axis: multiples of 32 up to 512, and the whole block."""
QUERY_BLOCK = 512
FUSED_ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")
"""Trained with layers of our own, which keep less for the backward pass."""
QUANTISED_WEIGHT_BYTES = 0.516
"""A weight of 4 bits and its share of a scale of 8 bits for 64 weights."""
GROWTH_RESERVE_SHARE = 0.1
"""Of the free memory, left alone: other programs grow too."""


class MemoryEstimate(Struct, frozen=True):
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
    process_bytes: int = 0
    """Of the overhead: the process with its libraries, before a model is loaded."""
    loading_bytes: int = 0
    """Resident while the model is read: its files are mapped beside what is made of them, and can be given up."""

    @property
    def peak_bytes(self) -> int:
        """The most that will ever be resident."""
        return max(self.total_bytes, self.loading_bytes)


class Shape(Struct, frozen=True):
    """What memory depends on. ``lora_r`` is 0 when all weights are trained; ``device`` is ``cpu`` or ``cuda:N``.

    ``quantised_base``: frozen weights in 4 bits, as in QLoRA. ``rows_an_example`` is 2 for pairs that are compared.
    """

    micro_batch_size: int
    max_length: int
    precision: str
    gradient_checkpointing: bool
    lora_r: int
    device: str
    target_modules: tuple[str, ...] = ()
    quantised_base: bool = False
    rows_an_example: int = 1

    @property
    def tokens(self) -> int:
        """Of a micro-batch whose rows are all of the longest."""
        return self.micro_batch_size * self.rows_an_example * self.max_length


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


def estimate_memory(model: ModelFacts, shape: Shape, *, micro_batches: int | None = None) -> MemoryEstimate:
    """Peak memory of a training on the device's own memory; the formula is the module's docstring.

    ``micro_batches`` is how many will be computed, where that is known: few do not meet every length.
    """
    number_bytes = 4 if shape.precision == "fp32" else 2
    if shape.lora_r:
        trained = adapter_parameters(model, shape.lora_r, shape.target_modules)
        computed = _frozen(model, shape, number_bytes) + number_bytes * trained
        weights = computed + 4 * trained
    else:
        trained = model.parameters
        computed = number_bytes * trained
        weights = 4 * trained + (computed if number_bytes == 2 else 0)
    activations = _activations(model, shape, number_bytes)
    logits = _logits(model, shape, number_bytes)
    process = CPU_PROCESS_BYTES if shape.device == "cpu" else GPU_CONTEXT_BYTES
    passing = _passing(model, shape, number_bytes)
    overhead = process + passing + _kernels(model, shape, micro_batches)
    overhead += int(ALLOCATOR_SHARE * (activations + logits + passing))
    parts = (weights, 4 * trained, 8 * trained, activations, logits, overhead)
    mapped = model.size_bytes if shape.device == "cpu" else 0
    return MemoryEstimate(
        *parts,
        total_bytes=sum(parts),
        trained_parameters=trained,
        process_bytes=process,
        loading_bytes=process + computed + mapped,
    )


def _frozen(model: ModelFacts, shape: Shape, number_bytes: int) -> int:
    """The base's weights; quantised, all but the vocabulary take 4 bits and their scales (Dettmers et al., 2023)."""
    if not shape.quantised_base:
        return number_bytes * model.parameters
    vocabulary = min(model.parameters, (1 if model.tied_embeddings else 2) * model.vocab_size * model.hidden_size)
    return number_bytes * vocabulary + int(QUANTISED_WEIGHT_BYTES * (model.parameters - vocabulary))


def _is_fused(model: ModelFacts) -> bool:
    return model.architecture in FUSED_ARCHITECTURES


def _activations(model: ModelFacts, shape: Shape, number_bytes: int) -> int:
    tokens = shape.tokens
    block = 7 * model.hidden_size + 3 * kv_width(model) + 2 * model.intermediate_size + 7 * shape.lora_r
    if not _is_fused(model):
        block += 2 * model.hidden_size + 2 * model.intermediate_size
    kept = model.layers * model.hidden_size + block if shape.gradient_checkpointing else model.layers * block
    return number_bytes * tokens * (kept + 2 * model.hidden_size)


def _logits(model: ModelFacts, shape: Shape, number_bytes: int) -> int:
    tokens = shape.tokens
    if not _is_fused(model):
        return (number_bytes + 2 * 4) * tokens * model.vocab_size
    row = number_bytes * model.vocab_size
    chunk = min(tokens, LOGITS_CHUNK_TOKENS, max(32, LOGITS_CHUNK_BYTES // row))
    return chunk * row + LOGITS_WIDE_BYTES


def _passing(model: ModelFacts, shape: Shape, number_bytes: int) -> int:
    """What the backward pass of one block holds for a moment, and of the vocabulary's gradient."""
    tokens, hidden = shape.tokens, model.hidden_size
    block = tokens * (number_bytes * (3 * model.intermediate_size + 6 * hidden) + 3 * 4 * hidden)
    scores = 4 * number_bytes * model.heads * min(QUERY_BLOCK, shape.max_length) * shape.max_length
    if shape.lora_r:
        return block + scores
    return block + scores + (3 if model.tied_embeddings else 2) * 4 * model.vocab_size * hidden


def _kernels(model: ModelFacts, shape: Shape, micro_batches: int | None) -> int:
    """What libraries keep once they have been used."""
    if shape.device != "cpu":
        return 0
    libraries = WARM_BYTES if _is_fused(model) else WARM_BYTES + PLAIN_LIBRARIES_BYTES
    if shape.precision == "fp32":
        return libraries
    tokens = shape.tokens
    flat = _met(min(FLAT_SHAPES, max(1, tokens // 32)), micro_batches)
    rows = _met(_row_shapes(shape.max_length), micro_batches and micro_batches * shape.tokens // shape.max_length)
    products = LORA_PRODUCTS if shape.lora_r else FULL_PRODUCTS
    if not _is_fused(model):
        # Rows are padded to multiples of 64, and no product is cut.
        flat, rows = _met(max(1, shape.max_length // 64), micro_batches), 0.0
    return libraries + int(KERNEL_BYTES * (flat * products + rows * ATTENTION_PRODUCTS))


def _row_shapes(length: int) -> int:
    """Lengths at which rows are computed: multiples of 32 up to 512, then eight for each doubling."""
    shapes, limit = min(length, 512) // 32, 512
    while limit < length:
        shapes += 8 * (min(2 * limit, length) - limit) // limit
        limit *= 2
    return max(1, shapes)


def _met(kinds: int, draws: int | None) -> float:
    """How many of so many kinds are met in ``draws`` draws, on average."""
    return float(kinds) if draws is None else kinds * (1.0 - (1.0 - 1.0 / kinds) ** draws)


def checkpoint_bytes(trained_parameters: int) -> int:
    """Size of a checkpoint: fp32 weights, two moments, and gradients when it falls inside an accumulation."""
    return 16 * trained_parameters + MIB


def result_bytes(model: ModelFacts, trained_parameters: int, *, adapter: bool) -> int:
    """Size of the result: the adapter in fp32, or the whole model in 16 bits; written aside before it is renamed."""
    return (4 if adapter else 2) * trained_parameters + 16 * MIB
