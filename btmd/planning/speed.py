"""A rough pace of a training, good enough to space checkpoints by; it is no forecast."""

from btmd.domain.hardware import Hardware
from btmd.domain.model import ModelFacts

CPU_FLOPS_PER_CORE = {"bf16": 200e9, "fp32": 65e9, "fp16": 20e9}
"""Matrix products of one AVX-512 core; measured 408 (bf16) and 134 (fp32) GFLOP/s on two."""
GPU_FLOPS = {"bf16": 60e12, "fp16": 40e12, "fp32": 15e12}
EFFICIENCY = 0.4
"""Share of the matrix product's rate that a training reaches."""


def seconds_per_step(
    model: ModelFacts,
    hardware: Hardware,
    *,
    device: str,
    precision: str,
    adapter: bool,
    threads: int,
    batch_size: int,
    mean_length: float,
    gradient_checkpointing: bool,
) -> float:
    """Seconds an optimizer step takes, within a factor of about three.

    Floating point operations per token: 6 per weight when all are trained (2 forward, 4 backward), 4 when the frozen
    weights need no gradient of their own, and 2 more when activations are computed twice.
    """
    per_weight = (4 if adapter else 6) + (2 if gradient_checkpointing else 0)
    work = per_weight * model.parameters * batch_size * max(1.0, mean_length)
    if device == "cpu":
        slow = precision == "bf16" and not hardware.cpu.native_bf16
        rate = CPU_FLOPS_PER_CORE["fp16" if slow else precision] * max(1, threads)
    else:
        rate = GPU_FLOPS[precision]
    return work / (rate * EFFICIENCY)
