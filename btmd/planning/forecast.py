"""A forecast from a plan: by formula, at once, with ranges from what earlier forecasts were worth."""

import math

from msgspec.structs import replace

from btmd.domain.forecast import DISK, FORMULA, GPU_MEMORY, GUESS, MEMORY, TIME, Forecast, Range
from btmd.domain.hardware import Hardware
from btmd.domain.model import ModelFacts
from btmd.domain.units import MIB
from btmd.planning.calibration import Factors, History, factors, standard_quantile
from btmd.planning.memory import CPU_PROCESS_BYTES, MemoryEstimate, Shape, estimate_memory
from btmd.planning.plan import Plan
from btmd.planning.request import TokenFacts
from btmd.planning.time_estimate import (
    QUESTION_TOKENS,
    SCORED_TOKENS,
    TOGETHER,
    TRIAL_FROM_S,
    MachineRates,
    StepWork,
    Work,
    are_answered_together,
    step_seconds,
    total_seconds,
    usual_rates,
)

TRIAL_LEAST_S = 30.0
TRIAL_SHARE = 0.05
"""Beyond a visit to every length, which is never left out: memory grows with each new one."""
TRIAL_SHARE_OF_LIMIT = 0.1
LIMIT_LOW, LIMIT_HIGH = 0.9, 1.1
"""Between which shares of a limit of time a training ends that would take longer without it."""
GPU_HOST_BYTES = 2500 * MIB
"""Main memory of a trainer whose model is on a GPU: CUDA's own libraries are most of it."""
SPOOL_BYTES = MIB


def forecast_plan(
    plan: Plan,
    model: ModelFacts,
    tokens: TokenFacts,
    hardware: Hardware,
    *,
    rates: MachineRates | None = None,
    history: History | None = None,
) -> Forecast:
    """What the plan takes. ``rates`` are this machine's own for the plan's device, precision and threads, if known."""
    history = history or {}
    device = plan.text("device")
    known = rates or usual_rates(
        hardware, device=device, precision=plan.text("precision"), threads=plan.integer("threads")
    )
    work = work_of(plan, model, tokens)
    memory = _memory(plan, model, tokens)
    time_factors = factors(history, TIME, FORMULA if known.measured else GUESS)
    memory_factors = factors(history, MEMORY, FORMULA)
    if device == "cpu":
        process, peak, gpu = memory.process_bytes, float(memory.peak_bytes), None
    else:
        # The weights pass through main memory on their way to the GPU.
        process, peak = CPU_PROCESS_BYTES, float(GPU_HOST_BYTES + model.size_bytes)
        gpu = factors(history, GPU_MEMORY, FORMULA).applied(memory.total_bytes)
    return Forecast(
        basis=FORMULA,
        memory_bytes=memory_factors.applied(peak, process),
        process_bytes=process,
        disk_bytes=_disk(plan, factors(history, DISK, FORMULA), work),
        step_s=time_factors.applied(step_seconds(work.step, known)),
        total_s=within_limit(time_factors.applied(total_seconds(work, known)), plan.number("time_limit_s")),
        gpu_memory_bytes=gpu,
        rates_known=known.measured,
    )


def within_limit(said: Range, limit_s: float) -> Range:
    """A limit of time (0: none) is kept by taking fewer steps."""
    if limit_s <= 0 or said.high <= limit_s:
        return said
    low, high = LIMIT_LOW * limit_s, LIMIT_HIGH * limit_s
    # A run that ends before its limit is compared with what was computed for the whole of it.
    return Range(min(said.low, low), min(said.middle, limit_s), min(said.high, high), said.uncalibrated)


def trial_seconds(forecast: Forecast, limit_s: float = 0.0) -> float:
    """What real steps before the first one may last; 0 where a trial does not repay itself."""
    expected_s = forecast.total_s.middle
    if expected_s < TRIAL_FROM_S:
        return 0.0
    wanted_s = max(TRIAL_LEAST_S, TRIAL_SHARE * expected_s)
    return min(wanted_s, TRIAL_SHARE_OF_LIMIT * limit_s) if limit_s > 0 else wanted_s


def row_bytes(plan: Plan, model: ModelFacts) -> int:
    """What one more of the longest rows computed at once takes."""
    shape = shape_of(plan)
    two = estimate_memory(model, replace(shape, micro_batch_size=2))
    one = estimate_memory(model, replace(shape, micro_batch_size=1))
    return two.activations_bytes - one.activations_bytes


def shape_of(plan: Plan) -> Shape:
    """The plan's shape, as its memory was estimated for."""
    kind = plan.text("training_type")
    adapter = plan.memory.trained_parameters and "lora_r" in plan.values and kind != "fine_tuning"
    return Shape(
        micro_batch_size=plan.integer("micro_batch_size"),
        max_length=plan.integer("max_length"),
        precision=plan.text("precision"),
        gradient_checkpointing=plan.flag("gradient_checkpointing"),
        lora_r=plan.integer("lora_r") if adapter else 0,
        device=plan.text("device"),
        target_modules=plan.names("target_modules"),
        quantised_base=kind.startswith("qlora"),
    )


def _memory(plan: Plan, model: ModelFacts, tokens: TokenFacts) -> MemoryEstimate:
    """The plan's own estimate, for the lengths that so many micro-batches of these rows will meet."""
    micro = plan.integer("micro_batch_size")
    count = plan.total_steps * -(-plan.integer("batch_size") // micro)
    shape = shape_of(plan)
    anew = estimate_memory(model, shape)
    if anew.total_bytes != plan.memory.total_bytes:
        # Estimated for something this module does not know of: the plan's figure holds.
        return plan.memory
    met = replace(shape, max_length=math.ceil(_largest_mean_length(plan, tokens)))
    return estimate_memory(model, met, micro_batches=max(1, count))


def _largest_mean_length(plan: Plan, tokens: TokenFacts) -> float:
    """Mean length of the rows of the largest micro-batch, as if lengths were spread evenly round their mean.

    The rows of a step are sorted, so its first micro-batch has the longest ``micro`` of ``batch``; the largest of all
    is so many standard deviations above the average of these as the number of steps makes likely.
    """
    longest = min(tokens.longest_row, plan.integer("max_length"))
    mean = min(tokens.mean_length, longest)
    micro, batch = plan.integer("micro_batch_size"), plan.integer("batch_size")
    half = longest - mean
    first = mean - half + 2 * half * (1 - (micro + 1) / (2 * (batch + 1)))
    deviation = half / math.sqrt(3 * micro) * (1.0 if micro == batch else 0.6)
    above = standard_quantile(1 - 1 / (plan.total_steps + 2))
    return max(1.0, min(longest, max(mean, first) + above * deviation))


def work_of(plan: Plan, model: ModelFacts, tokens: TokenFacts) -> Work:
    """What the trainer will do."""
    every = plan.integer("eval_every")
    during = (plan.total_steps - 1) // every if every > 0 and plan.held_out_rows else 0
    save_every = plan.integer("save_every")
    saves = max(during, (plan.total_steps - 1) // save_every if save_every > 0 else 0)
    limit = plan.integer("held_out_limit")
    measured = min(plan.held_out_rows, limit) if limit else plan.held_out_rows
    trained = plan.memory.trained_parameters
    rows_a_step = min(plan.integer("batch_size"), max(1, plan.train_rows))
    return Work(
        StepWork(
            model=model,
            trained=trained,
            precision=plan.text("precision"),
            gradient_checkpointing=plan.flag("gradient_checkpointing"),
            batch_size=rows_a_step,
            mean_length=max(1.0, min(tokens.mean_length, plan.integer("max_length"))),
            learned_share=min(1.0, tokens.learned_tokens / max(1, tokens.total_tokens)),
            micro_batches=-(-rows_a_step // plan.integer("micro_batch_size")),
        ),
        total_steps=plan.total_steps,
        rows=tokens.rows,
        measured_rows=measured,
        evaluations=during + 2 if measured else 0,
        saves=saves,
        checkpoint_bytes=12 * trained + MIB,
        result_bytes=plan.disk.result_bytes,
        generated_tokens=2 * _generated_tokens(plan, model) if measured else 0,
        question_tokens=2 * plan.integer("general_questions") * QUESTION_TOKENS,
        longest_row=min(tokens.longest_row, plan.integer("max_length")),
    )


def _generated_tokens(plan: Plan, model: ModelFacts) -> int:
    """Tokens generated one after the other, each answer as long as it may be."""
    shown, scored = plan.integer("sample_answers"), plan.integer("scored_answers")
    longest = plan.integer("sample_tokens")
    short = min(longest, SCORED_TOKENS)
    others = max(0, scored - shown)
    if not are_answered_together(model, plan.text("training_type"), plan.text("precision")):
        return shown * longest + others * short
    parts = -(-(shown + others) // TOGETHER)
    with_shown = min(parts, shown)
    return with_shown * longest + (parts - with_shown) * short


def _disk(plan: Plan, spread: Factors, work: Work) -> Range:
    """The folder at the end: checkpoints kept, the best among them or beside them, and the result."""
    kept = min(work.saves, plan.integer("keep_checkpoints") + (1 if work.evaluations > 2 else 0))
    middle = kept * work.checkpoint_bytes + _result_bytes(work) + SPOOL_BYTES
    said = spread.applied(middle)
    least = kept - 1 if kept > 1 and work.evaluations > 2 else kept
    low = spread.low * (least * work.checkpoint_bytes + _result_bytes(work) + SPOOL_BYTES)
    high = max(said.middle, min(said.high, plan.disk.total_bytes))
    return Range(min(said.low, low), said.middle, high, said.uncalibrated)


def _result_bytes(work: Work) -> int:
    return (4 if work.step.adapter else 2) * work.step.trained
