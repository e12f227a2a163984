"""The progress of a job, in the fields of the REST contract and in a sentence."""

from collections.abc import Sequence

from msgspec import Struct

from btmd.domain.units import GIB, format_duration
from btmd.monitoring.facts import JobProgress, TickPoint
from btmd.monitoring.pace import Remaining, estimate_remaining, finish_text
from btmd.monitoring.texts import CALCULATING, STATUS, text

ENDED = ("completed", "failed", "cancelled")
TREND_TICKS = 10
TREND_SHARE = 0.02
MOST_WHILE_UNFINISHED = 99.9
"""A job that still measures or saves is not at 100 %."""


class Progress(Struct, frozen=True):
    """REST.md's Progress; losses in nats, ``memory_usage_gb`` of the GPU when one is used."""

    job_id: str
    model_name: str
    state: str
    status: str
    progress_percentage: float
    current_step: int
    total_steps: int
    current_epoch: int
    total_epochs: int
    elapsed_time: str
    estimated_remaining: str
    current_loss: float | None
    best_loss: float | None
    learning_rate: float | None
    memory_usage_gb: float | None
    gpu_utilization: float | None
    status_message: str
    warnings: tuple[str, ...]
    recommendations: tuple[str, ...]
    held_out_loss: float | None
    tokens_per_second: float | None
    elapsed_s: float
    remaining_s: float | None
    remaining_range: str
    remaining_low_s: float | None
    remaining_high_s: float | None
    held_out_best: float | None
    process_memory_gb: float | None
    """Of the training process, in main memory."""
    gpu_memory_gb: float | None
    disk_free_gb: float | None
    disk_used_gb: float | None
    """By the job's checkpoints."""
    finishes: str
    """The time of day it will be done, in words; empty while unknown."""


def progress(
    job: JobProgress,
    ticks: Sequence[TickPoint],
    *,
    now_us: int,
    utc_offset_s: int = 0,
    recent: Sequence[TickPoint] | None = None,
) -> Progress:
    """What a person sees of a job now. ``ticks`` are those of its running attempt; ``utc_offset_s`` is local - UTC.

    ``recent`` are the newest of them, one after the other, where ``ticks`` leave some out.
    """
    remaining = estimate_remaining(job, ticks, now_us)
    finishes = "" if remaining is None else finish_text(remaining.middle_s, now_us, utc_offset_s)
    memory = job.memory_bytes if job.gpu_memory_bytes is None else job.gpu_memory_bytes
    elapsed = elapsed_s(job, now_us)
    return Progress(
        job_id=job.job_id,
        model_name=model_name(job.model_id),
        state=job.state,
        status=STATUS[job.state],
        progress_percentage=percentage(job),
        current_step=job.step,
        total_steps=job.total_steps,
        current_epoch=max(0, min(job.epoch, job.total_epochs - 1)),
        total_epochs=job.total_epochs,
        elapsed_time=format_duration(elapsed),
        estimated_remaining=_remaining_text(job, remaining),
        current_loss=job.current_loss,
        best_loss=job.best_loss,
        learning_rate=job.learning_rate,
        memory_usage_gb=_gb(memory),
        gpu_utilization=job.gpu_utilization,
        status_message=status_message(job, ticks if recent is None else recent, finishes),
        warnings=job.warnings,
        recommendations=job.recommendations,
        held_out_loss=job.held_out_loss,
        tokens_per_second=job.tokens_per_s if job.state == "training" else None,
        elapsed_s=round(elapsed, 3),
        remaining_s=None if remaining is None else round(remaining.middle_s, 1),
        remaining_range=""
        if remaining is None
        else text("remaining_range", low=format_duration(remaining.low_s), high=format_duration(remaining.high_s)),
        remaining_low_s=None if remaining is None else round(remaining.low_s, 1),
        remaining_high_s=None if remaining is None else round(remaining.high_s, 1),
        held_out_best=job.held_out_best,
        process_memory_gb=_gb(job.memory_bytes),
        gpu_memory_gb=_gb(job.gpu_memory_bytes),
        disk_free_gb=_gb(job.disk_free_bytes),
        disk_used_gb=_gb(job.job_bytes),
        finishes=finishes,
    )


def _gb(size_bytes: int | None) -> float | None:
    return None if size_bytes is None else round(size_bytes / GIB, 2)


def model_name(model_id: str) -> str:
    """The last part of a model's id."""
    return model_id.rstrip("/").rpartition("/")[2] or model_id


def percentage(job: JobProgress) -> float:
    """0 to 100, one decimal; 100 only when the job is completed."""
    if job.state == "completed":
        return 100.0
    if job.total_steps <= 0:
        return 0.0
    return max(0.0, min(MOST_WHILE_UNFINISHED, round(100 * job.step / job.total_steps, 1)))


def elapsed_s(job: JobProgress, now_us: int) -> float:
    """Time that trainers have worked on the job; pauses and waiting do not count.

    By the time of day, but never less than the steps took: the clock may have been set back meanwhile.
    """
    spans = ((now_us if span.ended_us is None else span.ended_us) - span.started_us for span in job.attempts)
    return max(job.trained_s, sum(max(0, span) for span in spans) / 1e6)


def _remaining_text(job: JobProgress, remaining: Remaining | None) -> str:
    if job.state in ENDED:
        return format_duration(0)
    return CALCULATING if remaining is None else format_duration(remaining.middle_s)


def status_message(job: JobProgress, ticks: Sequence[TickPoint], finishes: str) -> str:
    """What the job is doing now, in a sentence or two without jargon."""
    if job.state in ("validating", "preparing", "training", "evaluating") and job.asked:
        return text(f"asked_{job.asked}")
    match job.state:
        case "queued":
            return job.waits_for or _queued(job.jobs_before)
        case "training":
            return _training(job, ticks, finishes)
        case "paused":
            key = "paused" if job.step else "paused_unstarted"
            return text(key, step=job.step, total=job.total_steps, job=job.job_id)
        case "recovering":
            return f"{job.text or text('recovering')} {job.waits_for}".strip()
        case "completed":
            early = job.ended_by in ("early_stopping", "stopped", "unanswered")
            return text(f"completed_{job.ended_by}" if early else "completed", job=job.job_id)
        case "failed":
            return job.text or text("failed")
        case "needs_attention":
            return f"{job.text} {text('needs_attention', job=job.job_id)}".strip()
        case "validating" | "preparing" | "evaluating":
            return job.stage_text or text(job.state)
    return text(job.state)


def _queued(jobs_before: int) -> str:
    if jobs_before <= 0:
        return text("queued_next")
    return text("queued_behind_one") if jobs_before == 1 else text("queued_behind", count=jobs_before)


def _training(job: JobProgress, ticks: Sequence[TickPoint], finishes: str) -> str:
    if job.step <= job.resumed_from_step:
        return text("training_begins")
    key = "training" if job.total_epochs > 1 else "training_one_pass"
    epoch = max(1, min(job.epoch + 1, job.total_epochs))
    sentences = [text(key, epoch=epoch, epochs=job.total_epochs, step=job.step, total=job.total_steps)]
    if trend := _trend(job, ticks):
        sentences.append(trend)
    if finishes:
        sentences.append(text("finish", when=finishes))
    return " ".join(sentences)


def _trend(job: JobProgress, ticks: Sequence[TickPoint]) -> str:
    """How the loss has moved over the ticks given; empty while single rows still decide it."""
    if len(ticks) < 2 * TREND_TICKS:
        return ""
    first = sum(tick.loss for tick in ticks[:TREND_TICKS]) / TREND_TICKS
    last = sum(tick.loss for tick in ticks[-TREND_TICKS:]) / TREND_TICKS
    if abs(first - last) <= TREND_SHARE * abs(first):
        return text("loss_flat", last=last)
    since = "" if ticks[0].step <= job.resumed_from_step + TREND_TICKS and not job.resumed_from_step else "_lately"
    return text(f"loss_{'falling' if last < first else 'rising'}{since}", first=first, last=last)
