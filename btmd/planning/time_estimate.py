"""How long a training takes, by formula, from this machine's rates for products and for copying.

Floating point operations per token: 2 for each weight of the blocks forward, 2 for the gradient of the input, 2 for
the weight's own where it is trained, 2 more where activations are computed twice; attention adds 4 for each pair of a
token with one before it and unit of width forward, and two and a half times that backward. Only learned tokens go
through the vocabulary. Everything else - norms, rotations, activations - is bound by memory: PASSES over what a block
works on. The optimizer reads and writes OPTIMIZER_BYTES a trained weight. A trial visits every length first.
"""

import math

from msgspec import Struct

from btmd.domain.hardware import Hardware
from btmd.domain.model import ModelFacts
from btmd.planning.memory import kv_width

CPU_FLOPS_A_CORE = {"bf16": 200e9, "fp32": 65e9, "fp16": 20e9}
"""Matrix products of one AVX-512 core; measured 408 (bf16) and 134 (fp32) GFLOP/s on two."""
SLOW_BF16_FLOPS_A_CORE = 20e9
CPU_COPIED_BYTES_S = 8e9
GPU_FLOPS = {"bf16": 120e12, "fp16": 80e12, "fp32": 20e12}
GPU_COPIED_BYTES_S = 800e9
PASSES = 16
"""How often a training reads or writes what a block keeps of a token."""
CPU_LAYER_S, GPU_LAYER_S = 0.008, 0.0005
"""What a layer takes of each micro-batch however short it is: starting some 150 small pieces of work, forward and
backward, and waiting for the threads that share them. Measured 8 to 11 ms on two cores."""
START_S = 3.0
"""From the start of the process to the libraries' being imported."""
READ_BYTES_S = 1e9
TOKENISED_S = 200_000
SAVED_BYTES_S = 400e6
"""Written, synced and hashed."""
ANSWER_LAYER_S = 0.0004
"""What a layer costs besides its weights when one token is generated."""
QUESTION_TOKENS = 45
"""Of an everyday question with its answer."""
SCORED_TOKENS = 40
"""Longest answer that is compared with the data's word by word."""
TOGETHER = 16
"""Prompts answered at once where the implementation can: each weight is read once for all of them."""
TOGETHER_ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")
SUSTAINED_PRODUCTS, SUSTAINED_COPIES = 0.58, 0.24
"""What a training keeps up of the rates that the trial measures at their best: large products, and a copy that fits in
the cache. Fitted to 43 trainings of 30 to 360 million parameters on two cores, median error 16 %."""
TRIAL_FROM_S = 20.0
"""A training that is expected to take less than this is over before a trial would have told anything."""
TRIAL_WARM_S = 6.0
TRIAL_VISITS, TRIAL_VISITS_ROOT = 6.0, 0.65
"""Micro-batches that a trial computes before it times any: some, and more the more lengths there are to visit, which
grow with the root of the longest row; where the run has few, most of them, and two on top."""
TRIAL_SHARE_OF_RUN, TRIAL_ON_TOP = 0.75, 2
OPTIMIZER_BYTES = 26
"""Read and written for each trained weight, as if at the rate of the rest."""


class MachineRates(Struct, frozen=True):
    """``flops`` a second in matrix products, ``copied_bytes_s`` between two places of memory."""

    flops: float
    copied_bytes_s: float
    measured: bool = False
    layer_s: float = 0.0
    """For each layer and micro-batch."""


class StepWork(Struct, frozen=True):
    """What one optimizer step computes: ``batch_size`` rows of ``mean_length`` tokens, a share of them learned.

    ``trained`` weights of ``model``; 0 for an adapter whose size is not known yet, which is small beside the model.
    """

    model: ModelFacts
    trained: int
    precision: str
    gradient_checkpointing: bool
    batch_size: int
    mean_length: float
    learned_share: float = 1.0
    micro_batches: int = 0
    """In which the rows are computed; 0: as if all at once."""

    @property
    def adapter(self) -> bool:
        return self.trained < self.model.parameters

    @property
    def number_bytes(self) -> int:
        return 4 if self.precision == "fp32" else 2


class Work(Struct, frozen=True):
    """What a training does: its steps, and the rest in counts of rows, files and tokens."""

    step: StepWork
    total_steps: int
    rows: int
    measured_rows: int
    evaluations: int
    saves: int
    checkpoint_bytes: int
    result_bytes: int
    generated_tokens: int
    """One after the other: of prompts that are answered together, those of the longest answer."""
    longest_row: int = 0
    """Tokens; 0: without a trial."""
    question_tokens: int = 0
    """Of everyday questions, measured before and after."""


def sustained_rates(flops: float, copied_bytes_s: float, *, device: str) -> MachineRates:
    """What a training keeps up on a machine that was measured."""
    layer_s = CPU_LAYER_S if device == "cpu" else GPU_LAYER_S
    return MachineRates(SUSTAINED_PRODUCTS * flops, SUSTAINED_COPIES * copied_bytes_s, measured=True, layer_s=layer_s)


def usual_rates(hardware: Hardware, *, device: str, precision: str, threads: int) -> MachineRates:
    """What a machine of this kind usually reaches, until it has been measured."""
    if device != "cpu":
        return MachineRates(GPU_FLOPS[precision], GPU_COPIED_BYTES_S, layer_s=GPU_LAYER_S)
    slow = precision == "bf16" and not hardware.cpu.native_bf16
    a_core = SLOW_BF16_FLOPS_A_CORE if slow else CPU_FLOPS_A_CORE[precision]
    return MachineRates(a_core * max(1, threads), CPU_COPIED_BYTES_S, layer_s=CPU_LAYER_S)


def step_seconds(work: StepWork, rates: MachineRates) -> float:
    """Seconds of one optimizer step."""
    each = _token_seconds(work, rates, training=True)
    optimizer = OPTIMIZER_BYTES * work.trained / rates.copied_bytes_s
    layers = work.micro_batches * work.model.layers * rates.layer_s
    return work.batch_size * work.mean_length * each + layers + optimizer


def usual_step_seconds(work: StepWork, hardware: Hardware, *, device: str, threads: int) -> float:
    """Seconds of one optimizer step on a machine of this kind, within a factor of about three."""
    return step_seconds(work, usual_rates(hardware, device=device, precision=work.precision, threads=threads))


def total_seconds(work: Work, rates: MachineRates) -> float:
    """Seconds from the start of the trainer to its result."""
    step, model = work.step, work.step.model
    a_step_s = step_seconds(step, rates)
    question_token_s = _token_seconds(step, rates, training=False)
    measuring = work.measured_rows * step.mean_length * question_token_s
    expected_s = (
        START_S
        + model.size_bytes / READ_BYTES_S
        + work.rows * step.mean_length / TOKENISED_S
        + work.total_steps * a_step_s
        + work.evaluations * measuring
        + (work.saves * work.checkpoint_bytes + work.result_bytes) / SAVED_BYTES_S
        + work.generated_tokens * answer_token_seconds(model, step.number_bytes, rates)
        + work.question_tokens * question_token_s
    )
    if not work.longest_row or expected_s < TRIAL_FROM_S:
        return expected_s
    return expected_s + _trial_seconds(work, a_step_s)


def answer_token_seconds(model: ModelFacts, number_bytes: int, rates: MachineRates) -> float:
    """Seconds to generate one token: every weight is read."""
    return number_bytes * model.parameters / rates.copied_bytes_s + model.layers * ANSWER_LAYER_S


def are_answered_together(model: ModelFacts, training_type: str, precision: str) -> bool:
    """Whether the trainer's own implementation computes this model, which answers many prompts at once."""
    own = model.architecture in TOGETHER_ARCHITECTURES
    return own and precision != "fp16" and not training_type.startswith("qlora")


def _trial_seconds(work: Work, a_step_s: float) -> float:
    """What the steps before the first one take: a visit to every length, and some timed again."""
    of_step = max(1, work.step.micro_batches)
    wanted = TRIAL_VISITS + TRIAL_VISITS_ROOT * math.sqrt(work.longest_row)
    visits = min(wanted, TRIAL_SHARE_OF_RUN * work.total_steps * of_step + TRIAL_ON_TOP)
    return visits * a_step_s / of_step + max(TRIAL_WARM_S, 2 * a_step_s / of_step)


def _token_seconds(work: StepWork, rates: MachineRates, *, training: bool) -> float:
    model = work.model
    vocabulary = model.vocab_size * model.hidden_size
    blocks = max(0, model.parameters - (1 if model.tied_embeddings else 2) * vocabulary)
    forward, backward = 1, (1 if work.adapter else 2) if training else 0
    again = 1 if training and work.gradient_checkpointing else 0
    products = 2 * blocks * (forward + backward + again)
    products += int(2 * vocabulary * work.learned_share * (forward + backward))
    products += 2 * 3 * work.trained if training and work.adapter else 0
    pairs = 4 * model.layers * model.hidden_size * work.mean_length / 2
    attention = pairs * (1 + (2.5 if training else 0) + again)
    kept = 7 * model.hidden_size + 3 * kv_width(model) + 2 * model.intermediate_size
    passes = PASSES * (1.0 if training else 0.3) + 4 * again
    touched = passes * work.number_bytes * model.layers * kept
    return (products + attention) / rates.flops + touched / rates.copied_bytes_s
