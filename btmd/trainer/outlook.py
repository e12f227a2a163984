"""The forecast that follows from a trial: the rest of the run, piece by piece, from what was timed."""

import hashlib
import os
import time
from dataclasses import dataclass

from btmd.frames import Spread, TrialDone
from btmd.job_folder import TrialPlan
from btmd.trainer.cost import Sample, fitted
from btmd.trainer.process import seconds_awake
from btmd.trainer.run import Run
from btmd.trainer.workload import Workload

GROWTH_SHARE = 0.01
"""Of the peak: what later phases add to it."""
_WRITTEN_BYTES = 16 * 1024 * 1024
_LAST_S = 0.3
"""Names, hashes and frames at the end."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What a trial has measured. Memory is the device's, ``host_peak_bytes`` that in RAM."""

    samples: tuple[Sample, ...]
    workload: Workload
    optimizer_s: float
    peak_bytes: int
    host_peak_bytes: int
    to_come_bytes: int
    """For lengths that were not tried."""
    shapes: int
    shapes_left: int
    seconds: float


def forecast_after(run: Run, wanted: TrialPlan, tried: Tried, *, idle_bytes: int, at_us: int) -> TrialDone:
    """What is to be expected of the whole run."""
    training_s = trained_seconds(run, tried)
    rest_s = training_s + _on_the_way_s(run) + closing_seconds(run)
    total_s = seconds_awake() + rest_s
    peak = (1 + GROWTH_SHARE) * tried.peak_bytes + tried.to_come_bytes
    on_gpu = run.state.model.device.type == "cuda"
    host = (1 + GROWTH_SHARE) * tried.host_peak_bytes if on_gpu else peak
    return TrialDone(
        at_us,
        memory_bytes=_spread(wanted.memory_factors, host, idle_bytes),
        process_bytes=idle_bytes,
        disk_bytes=Spread(*wanted.disk_bytes),
        step_s=_spread(wanted.time_factors, training_s / run.total_steps),
        total_s=_within_limit(_spread(wanted.time_factors, total_s), run.plan.time_limit_s),
        gpu_memory_bytes=_spread(wanted.gpu_memory_factors, peak) if on_gpu else None,
        seconds=tried.seconds,
        micro_batches=len(tried.samples),
        micro_batch_size=run.plan.micro_batch_size,
        largest_tokens=max(sample.tokens for sample in tried.samples),
        shapes=tried.shapes,
        shapes_left=tried.shapes_left,
        saving_s=saving_seconds(run),
        closing_s=closing_seconds(run),
    )


def _spread(factors: tuple[float, float, float], amount: float, base: float = 0.0) -> Spread:
    above = max(0.0, amount - base)
    low, middle, high = (base + above * factor for factor in factors)
    return Spread(low, middle, high, base + above)


def _within_limit(said: Spread, limit_s: float) -> Spread:
    """A limit of time is kept by taking fewer steps."""
    if limit_s <= 0 or said.high <= limit_s:
        return said
    low, high = 0.9 * limit_s, 1.1 * limit_s
    return Spread(min(said.low, low), min(said.middle, limit_s), min(said.high, high), said.uncalibrated)


def trained_seconds(run: Run, tried: Tried) -> float:
    """What the steps of the run take."""
    share = run.total_steps / run.planned_steps
    return share * tried.workload.seconds(fitted(tried.samples)) + run.total_steps * tried.optimizer_s


def closing_seconds(run: Run) -> float:
    """What comes after the last step: measuring, the way back to the best state, answers, and the result."""
    costs = run.state.progress.costs
    trained, whole = run.state.model.count_parameters()
    result_bytes = 4 * trained if trained < whole else 2 * whole
    measuring_s = costs.measuring_s if run.has_held_out else 0.0
    # Answers may be longer than they were before.
    answering_s = costs.pace * (costs.general_s + costs.answering.longest_s)
    return measuring_s + answering_s + result_bytes / _written_bytes_s(run) + _LAST_S


def saving_seconds(run: Run) -> float:
    """What a checkpoint takes, at the rate at which a piece is written, hashed and synced here."""
    held = run.state.tensors().values()
    checkpoint_bytes = sum(tensor.numel() * tensor.element_size() for part in held for tensor in part.values())
    return checkpoint_bytes / _written_bytes_s(run)


def _on_the_way_s(run: Run) -> float:
    """Measurements and checkpoints between the first step and the last."""
    plan, every = run.plan, run.plan.eval_every
    measurements = (run.total_steps - 1) // every if every > 0 and run.has_held_out else 0
    periodic = (run.total_steps - 1) // plan.save_every if plan.save_every > 0 else 0
    saves = max(periodic, measurements)
    return measurements * run.state.progress.costs.measuring_s + (saves * saving_seconds(run) if saves else 0.0)


def _written_bytes_s(run: Run) -> float:
    costs = run.state.progress.costs
    if not costs.written_bytes_s:
        costs.written_bytes_s = _measured_written_bytes_s(run)
    return costs.written_bytes_s


def _measured_written_bytes_s(run: Run) -> float:
    path, data = run.folder.tmp / "write-rate", os.urandom(_WRITTEN_BYTES)
    began_s = time.monotonic()
    hashlib.sha256(data).digest()
    try:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)
    return _WRITTEN_BYTES / max(1e-6, time.monotonic() - began_s)
