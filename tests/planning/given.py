"""Machines, models and data to plan with."""

from collections.abc import Mapping
from typing import Any

from btmd.domain.hardware import Cpu, Disk, Gpu, Hardware, Memory
from btmd.domain.model import ModelFacts
from btmd.planning import Plan, PlanRequest, TokenFacts, make_plan
from btmd.planning.plan import Value
from btmd.presets.reading import load_builtin_presets

GB = 1024**3
PRESETS = load_builtin_presets()
SMALL = ModelFacts(
    architecture="LlamaForCausalLM",
    family="llama",
    parameters=134_515_008,
    layers=30,
    hidden_size=576,
    intermediate_size=1536,
    heads=9,
    kv_heads=3,
    vocab_size=49_152,
    context_length=8192,
    tied_embeddings=True,
    dtype="bfloat16",
    size_bytes=269_060_552,
    has_chat_template=True,
    is_chat=True,
    is_code=False,
    fingerprint="f",
    linear_layers=("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"),
)
SEVEN_BILLION = ModelFacts(
    architecture="MistralForCausalLM",
    family="mistral",
    parameters=7_241_732_096,
    layers=32,
    hidden_size=4096,
    intermediate_size=14_336,
    heads=32,
    kv_heads=8,
    vocab_size=32_000,
    context_length=32_768,
    tied_embeddings=False,
    dtype="bfloat16",
    size_bytes=14_483_464_192,
    has_chat_template=True,
    is_chat=True,
    is_code=False,
    fingerprint="g",
)
ROWS = TokenFacts(
    rows=1000, total_tokens=150_000, learned_tokens=80_000, longest_row=250, over_long={64: 950, 128: 600}
)


def cpu_machine(free_gb: float = 22, *, native_bf16: bool = True, cores: int = 2, disk_gb: float = 200) -> Hardware:
    return Hardware(
        Cpu("a processor", cores, cores, cores, (), native_bf16),
        Memory(int(free_gb * GB * 1.1), int(free_gb * GB)),
        Disk(int(disk_gb * GB * 2), int(disk_gb * GB)),
    )


def gpu(free_gb: float, *, index: int = 0, capability: tuple[int, int] = (8, 6)) -> Gpu:
    return Gpu(index, f"GPU {index}", int((free_gb + 1) * GB), int(free_gb * GB), GB, capability)


def gpu_machine(*gpus: Gpu, free_gb: float = 64) -> Hardware:
    machine = cpu_machine(free_gb, cores=8)
    return Hardware(machine.cpu, machine.memory, machine.disk, gpus)


def request(
    preset: str = "quick_test",
    *,
    model: ModelFacts = SMALL,
    tokens: TokenFacts = ROWS,
    hardware: Hardware | None = None,
    settings: Mapping[str, int | float | bool | str] | None = None,
    allow: str = "",
    **overrides: Any,
) -> PlanRequest:
    return PlanRequest(
        PRESETS[preset], model, tokens, hardware or cpu_machine(), settings or {}, overrides, frozenset(allow.split())
    )


def plan(preset: str = "quick_test", **given: Any) -> Plan:
    return make_plan(request(preset, **given))


def value(made: Plan, key: str) -> tuple[Any, str]:
    """A value and where it came from."""
    found: Value = made.values[key]
    return found.value, found.source
