"""From frames in a spool to events in the log."""

from typing import Any

from msgspec import Struct

from btmd.domain.event import Event
from btmd.domain.forecast import TRIAL, Forecast, ForecastRevised, MachineRateMeasured, Range
from btmd.domain.job_events import (
    CheckpointRejected,
    CheckpointSaved,
    HeldOutLossMeasured,
    TrainerNoticed,
    TrainingProgressed,
    TrainingShapeKnown,
    TrainingStageEntered,
)
from btmd.frames import (
    AnyFrame,
    Failed,
    Finished,
    FoundFrame,
    HeldOutEvaluated,
    MachineRate,
    Notice,
    Spread,
    StageEntered,
    Stopped,
    Tick,
    TrainingShape,
    TrialDone,
    as_data,
)
from btmd.frames import CheckpointRejected as CheckpointRejectedFrame
from btmd.frames import CheckpointSaved as CheckpointSavedFrame


class LastWord(Struct, frozen=True):
    """How an attempt ended by its own account: ``finished``, ``stopped`` or ``failed``."""

    kind: str
    end: dict[str, Any]


def event_id(job_id: str, attempt: int, number: int) -> str:
    """The same frame always becomes the event with the same id, so that it can never be recorded twice."""
    return f"{job_id}:{attempt}:{number}"


def observe(job_id: str, attempt: int, found: FoundFrame) -> Event | LastWord:
    """What a frame means."""
    number, frame = found.number, found.frame
    match frame:
        case StageEntered():
            return TrainingStageEntered(job_id, attempt, number, frame.stage, frame.text)
        case TrainingShape():
            return TrainingShapeKnown(job_id, attempt, number, _values(frame))
        case Tick():
            return _progressed(job_id, attempt, number, frame)
        case HeldOutEvaluated():
            return HeldOutLossMeasured(
                job_id,
                attempt,
                number,
                frame.step,
                frame.loss,
                frame.tokens,
                frame.when,
                frame.seconds,
                frame.margin,
                frame.accuracy,
            )
        case CheckpointSavedFrame():
            return CheckpointSaved(
                job_id,
                attempt,
                number,
                frame.step,
                frame.name,
                frame.size_bytes,
                frame.held_out_loss,
                frame.best,
                frame.pruned,
            )
        case CheckpointRejectedFrame():
            return CheckpointRejected(job_id, attempt, number, frame.name, frame.reason, frame.used_instead)
        case MachineRate():
            return MachineRateMeasured(
                job_id,
                attempt,
                number,
                frame.device,
                frame.precision,
                frame.threads,
                frame.flops,
                frame.copied_bytes_s,
            )
        case TrialDone():
            return _revised(job_id, attempt, number, frame)
        case Notice():
            return TrainerNoticed(job_id, attempt, number, frame.code, frame.text)
        case Finished():
            return LastWord("finished", _values(frame))
        case Stopped():
            return LastWord("stopped", _values(frame))
        case Failed():
            return LastWord("failed", _values(frame))


def _values(frame: AnyFrame) -> dict[str, Any]:
    """The frame's fields, those with their default value too; without its time, which the event has."""
    values = {name: getattr(frame, name) for name in frame.__struct_fields__ if name != "at_us"}
    return values | {name: value for name, value in as_data(frame).items() if name != "at_us"}


def _revised(job_id: str, attempt: int, number: int, frame: TrialDone) -> ForecastRevised:
    forecast = Forecast(
        basis=TRIAL,
        memory_bytes=_range(frame.memory_bytes),
        process_bytes=frame.process_bytes,
        disk_bytes=_range(frame.disk_bytes),
        step_s=_range(frame.step_s),
        total_s=_range(frame.total_s),
        gpu_memory_bytes=None if frame.gpu_memory_bytes is None else _range(frame.gpu_memory_bytes),
    )
    told = ("seconds", "micro_batches", "micro_batch_size", "largest_tokens", "shapes", "shapes_left")
    costs = ("saving_s", "closing_s")
    return ForecastRevised(job_id, attempt, number, forecast, {name: getattr(frame, name) for name in (*told, *costs)})


def _range(spread: Spread) -> Range:
    return Range(spread.low, spread.middle, spread.high, spread.uncalibrated)


def _progressed(job_id: str, attempt: int, number: int, tick: Tick) -> TrainingProgressed:
    return TrainingProgressed(
        job_id,
        attempt,
        number,
        step=tick.step,
        total_steps=tick.total_steps,
        epoch=tick.epoch,
        loss=tick.losses[-1],
        learning_rate=tick.learning_rate,
        tokens_per_s=tick.tokens_per_s,
        elapsed_s=tick.elapsed_s,
        memory_bytes=tick.memory_bytes,
        steps=tick.steps,
        losses=tick.losses,
        gpu_memory_bytes=tick.gpu_memory_bytes,
        gpu_utilization=tick.gpu_utilization,
        gradient_norm=tick.gradient_norm,
    )
