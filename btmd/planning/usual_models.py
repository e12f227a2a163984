"""Models of the usual sizes, to say in advance what a machine is good for."""

from msgspec import Struct

from btmd.domain.hardware import Hardware
from btmd.domain.model import ModelFacts
from btmd.planning.memory import Shape, estimate_memory, usable_bytes
from btmd.planning.time_estimate import StepWork, usual_step_seconds
from btmd.planning.training_types import FULL, LORA, QLORA

ROWS, ROW_TOKENS, BATCH_ROWS = 1000, 256, 8
REASONABLE_HOURS = 4.0
"""A pass over a thousand rows of 256 tokens that takes no longer than this."""
RANK = 16
_SHAPES = (
    # Billions of weights, layers, hidden, intermediate, heads, key and value heads, vocabulary.
    (0.135, 30, 576, 1536, 9, 3, 49_152),
    (0.36, 32, 960, 2560, 15, 5, 49_152),
    (1.1, 22, 2048, 5632, 32, 4, 32_000),
    (1.7, 24, 2048, 8192, 32, 32, 49_152),
    (3.2, 28, 3072, 8192, 24, 8, 128_256),
    (8.0, 32, 4096, 14_336, 32, 8, 128_256),
    (14.0, 40, 5120, 17_408, 40, 8, 151_936),
    (32.0, 64, 5120, 25_600, 64, 8, 151_936),
    (70.0, 80, 8192, 28_672, 64, 8, 128_256),
)
"""Published shapes of Llama-like models."""


def _model(billions: float, layers: int, hidden: int, wide: int, heads: int, kv: int, vocabulary: int) -> ModelFacts:
    parameters = int(billions * 1e9)
    return ModelFacts(
        architecture="LlamaForCausalLM",
        family="llama",
        parameters=parameters,
        layers=layers,
        hidden_size=hidden,
        intermediate_size=wide,
        heads=heads,
        kv_heads=kv,
        vocab_size=vocabulary,
        context_length=8192,
        tied_embeddings=False,
        dtype="bfloat16",
        size_bytes=2 * parameters,
        has_chat_template=True,
        is_chat=True,
        is_code=False,
        fingerprint="",
    )


USUAL_MODELS = tuple(_model(*shape) for shape in _SHAPES)
TYPES = (LORA, QLORA, FULL)


class LargestModel(Struct, frozen=True):
    """Weights of the largest usual model; 0 where even the smallest is too large."""

    in_reasonable_time: int
    in_memory: int


def largest_models(hardware: Hardware) -> dict[str, LargestModel]:
    """The largest usual model that can be trained here, by training type; quantised ones only on a GPU."""
    return {
        training_type: _largest(hardware, training_type)
        for training_type in TYPES
        if training_type != QLORA or hardware.best_gpu is not None
    }


def _largest(hardware: Hardware, training_type: str) -> LargestModel:
    gpu = hardware.best_gpu
    free = gpu.free_bytes if gpu else hardware.memory.available_bytes
    precision = usual_precision(hardware)
    device = f"cuda:{gpu.index}" if gpu else "cpu"
    adapter = training_type != FULL
    shape = Shape(1, ROW_TOKENS, precision, True, RANK if adapter else 0, device, quantised_base=training_type == QLORA)
    in_memory = in_time = 0
    for model in USUAL_MODELS:
        if estimate_memory(model, shape).total_bytes > usable_bytes(free):
            break
        in_memory = model.parameters
        trained = 0 if adapter else model.parameters
        work = StepWork(model, trained, precision, False, BATCH_ROWS, ROW_TOKENS)
        step_s = usual_step_seconds(work, hardware, device=device, threads=hardware.cpu.usable_cores)
        if step_s * ROWS / BATCH_ROWS <= REASONABLE_HOURS * 3600:
            in_time = model.parameters
    return LargestModel(in_time, in_memory)


def usual_precision(hardware: Hardware) -> str:
    """The number format that this machine computes fastest."""
    gpu = hardware.best_gpu
    if gpu is not None:
        return "bf16" if gpu.native_bf16 else "fp16"
    return "bf16" if hardware.cpu.native_bf16 else "fp32"
