"""The forecast that follows from a trial: the rest of the run, piece by piece, from what was timed."""

import hashlib
import os
import time
from dataclasses import dataclass

import torch

from btmd.frames import Spread, TrialDone
from btmd.job_folder import TrialPlan
from btmd.trainer.cost import Sample, fitted
from btmd.trainer.process import seconds_since_start
from btmd.trainer.run import Run
from btmd.trainer.workload import Workload

GROWTH_SHARE = 0.01
"""Of the peak: what later phases add to it."""
_WRITTEN_BYTES = 16 * 1024 * 1024
_TOKENS = 4
_PROMPT_TOKENS = 64
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
    training_s = _training_s(run, tried)
    rest_s = training_s + _measuring_s(run) + _saving_s(run) + _answering_s(run) + _LAST_S
    total_s = seconds_since_start() + rest_s
    peak = (1 + GROWTH_SHARE) * tried.peak_bytes + tried.to_come_bytes
    on_gpu = run.state.model.device.type == "cuda"
    host = (1 + GROWTH_SHARE) * tried.host_peak_bytes if on_gpu else peak
    return TrialDone(
        at_us,
        memory_bytes=_spread(wanted.memory_factors, host, idle_bytes),
        process_bytes=idle_bytes,
        disk_bytes=Spread(*wanted.disk_bytes),
        step_s=_spread(wanted.time_factors, training_s / run.total_steps),
        total_s=_spread(wanted.time_factors, total_s),
        gpu_memory_bytes=_spread(wanted.gpu_memory_factors, peak) if on_gpu else None,
        seconds=tried.seconds,
        micro_batches=len(tried.samples),
        micro_batch_size=run.plan.micro_batch_size,
        largest_tokens=max(sample.tokens for sample in tried.samples),
        shapes=tried.shapes,
        shapes_left=tried.shapes_left,
    )


def _spread(factors: tuple[float, float, float], amount: float, base: float = 0.0) -> Spread:
    low, middle, high = (base + max(0.0, amount - base) * factor for factor in factors)
    return Spread(low, middle, high)


def _training_s(run: Run, tried: Tried) -> float:
    return tried.workload.seconds(fitted(tried.samples)) + run.total_steps * tried.optimizer_s


def _measurements(run: Run) -> int:
    """Held-out measurements still to come, the one at the end included."""
    if not run.has_held_out:
        return 0
    every = run.plan.eval_every
    return ((run.total_steps - 1) // every if every > 0 else 0) + 1


def _measuring_s(run: Run) -> float:
    return _measurements(run) * run.measuring_s


def _saving_s(run: Run) -> float:
    """Checkpoints and the result, at the rate at which a piece is written, hashed and synced here."""
    plan = run.plan
    periodic = (run.total_steps - 1) // plan.save_every if plan.save_every > 0 else 0
    saves = max(periodic, _measurements(run) - 1)
    trained, whole = run.state.model.count_parameters()
    result_bytes = 4 * trained if trained < whole else 2 * whole
    checkpoint_bytes = sum(
        tensor.numel() * tensor.element_size() for held in run.state.tensors().values() for tensor in held.values()
    )
    return (saves * checkpoint_bytes + result_bytes) / _written_bytes_s(run)


def _written_bytes_s(run: Run) -> float:
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


@torch.no_grad()
def _answering_s(run: Run) -> float:
    """Sample answers at the end, each as long as it may be, from a few tokens generated now."""
    plan = run.plan
    answers = min(plan.sample_answers, len(run.material.dataset.held_out))
    if not answers or plan.sample_tokens < 1:
        return 0.0
    prompt = run.material.dataset.held_out.row(0)[0][:_PROMPT_TOKENS].tolist()
    times = [time.monotonic()]
    for _ in run.state.model.generate(prompt, max_new_tokens=_TOKENS + 1, eos_ids=set()):
        times.append(time.monotonic())
    first_s = times[1] - times[0]
    token_s = (times[-1] - times[1]) / max(1, len(times) - 2)
    each_s = first_s + plan.sample_tokens * token_s
    return answers * each_s * (2 if plan.trains_adapter else 1)
