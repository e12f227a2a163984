"""A training job: from submitted to completed, failed or cancelled.

A job waits (``queued``), is worked on by one trainer process at a time (an *attempt*), and ends. What a person asks
is recorded at once (``PauseRequested``) and again when it is done (``JobPaused``), so that a daemon that dies
between the two knows what was asked.
"""

from dataclasses import dataclass, replace
from typing import Any

from btmd.domain.event import Event
from btmd.domain.forecast import Forecast, ForecastMade, ForecastRevised, ForecastScored, score
from btmd.domain.job_events import (
    AttemptLost,
    AttemptStarted,
    CancelRequested,
    CheckpointSaved,
    JobCancelled,
    JobCompleted,
    JobConsentWithdrawn,
    JobFailed,
    JobPaused,
    JobSubmitted,
    PauseRequested,
    ResumeRequested,
    StopRequested,
    TrainingStageEntered,
)
from btmd.errors import Conflict, JobEnded, JobNotFound

STAGES = ("validating", "preparing", "training", "evaluating")
WORKING = (*STAGES, "recovering")
ENDED = ("completed", "failed", "cancelled")
STATES = ("queued", *STAGES, "paused", "recovering", "needs_attention", *ENDED)


# --- commands ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SubmitJob:
    submitted: JobSubmitted
    forecast: Forecast | None = None

    @property
    def job_id(self) -> str:
        return self.submitted.job_id


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """A trainer is about to be started in this boot of the machine."""

    job_id: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class RecordFrames:
    """What a trainer reported: observed events in the order of their frames, ticks among them."""

    job_id: str
    attempt: int
    observed: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class RecordEnd:
    """The last word of a trainer: it ``finished``, ``stopped`` or ``failed``; ``end`` is the frame as values."""

    job_id: str
    attempt: int
    kind: str
    end: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RecordTrainerGone:
    """A trainer ended without a last word. ``boot_id`` is the machine's present boot."""

    job_id: str
    attempt: int
    boot_id: str
    crash_resumes: int
    """How many crashes are put right by themselves."""
    text: str = ""


@dataclass(frozen=True, slots=True)
class FailJob:
    """A job cannot go on for a reason found outside the trainer (its data is gone, say)."""

    job_id: str
    reason: str
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class PauseJob:
    job_id: str


@dataclass(frozen=True, slots=True)
class ResumeJob:
    job_id: str


@dataclass(frozen=True, slots=True)
class StopJob:
    job_id: str


@dataclass(frozen=True, slots=True)
class CancelJob:
    job_id: str


@dataclass(frozen=True, slots=True)
class WithdrawConsent:
    """The job's data may not be used any more; what was made until now stays, and nothing goes on."""

    job_id: str


JobCommand = (
    SubmitJob
    | StartAttempt
    | RecordFrames
    | RecordEnd
    | RecordTrainerGone
    | FailJob
    | PauseJob
    | ResumeJob
    | StopJob
    | CancelJob
    | WithdrawConsent
)


# --- state ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobState:
    """``asked`` is what was asked of the running attempt and is not done yet: pause, stop, cancel, consent or nothing.

    ``consent``: that it ends with a checkpoint, as its data may not be used any more.
    """

    job_id: str
    state: str
    attempt: int = 0
    boot_id: str = ""
    crashes: int = 0
    """Trainers lost by a crash since the last checkpoint that went further than the one before."""
    asked: str = ""
    next_why: str = "first"
    best_step: int | None = None
    """Step of the newest whole checkpoint; None while there is none."""
    last_number: int = 0
    """Number of the newest frame of this attempt in this stream (ticks are counted elsewhere)."""
    forecasts: tuple[Forecast, ...] = ()
    """The one by formula, and the one after real steps."""

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def running(self) -> bool:
        """Whether a trainer process belongs to it."""
        return self.state in STAGES


def stream_name(job_id: str) -> str:
    return f"job-{job_id}"


def stream(command: JobCommand) -> str:
    return stream_name(command.job_id)


# --- decide -----------------------------------------------------------------------------------------


def decide(command: JobCommand, state: JobState | None) -> list[Event]:
    """Raises JobNotFound, JobEnded, Conflict."""
    if isinstance(command, SubmitJob):
        if state is not None:
            raise Conflict(f"There is a job {command.job_id} already.")
        if command.forecast is None:
            return [command.submitted]
        return [command.submitted, ForecastMade(command.job_id, command.forecast)]
    if state is None:
        raise JobNotFound(f"There is no job {command.job_id}.", hint="`btmctl jobs list` shows those there are.")
    match command:
        case StartAttempt():
            return _start(command, state)
        case RecordFrames():
            return _observe(command, state)
        case RecordEnd():
            return _end(command, state)
        case RecordTrainerGone():
            return _gone(command, state)
        case FailJob():
            return _fail(command, state)
        case WithdrawConsent():
            return _withdraw(state)
    return _ask(command, state)


def _start(command: StartAttempt, state: JobState) -> list[Event]:
    if state.state not in ("queued", "recovering"):
        raise Conflict(f"Job {state.job_id} is {state.state}; a training cannot be started for it.")
    return [AttemptStarted(state.job_id, state.attempt + 1, command.boot_id, state.next_why)]


def _observe(command: RecordFrames, state: JobState) -> list[Event]:
    if state.ended or command.attempt != state.attempt:
        return []
    return [seen for seen in command.observed if seen.IS_TICK or getattr(seen, "number", 0) > state.last_number]


def _end(command: RecordEnd, state: JobState) -> list[Event]:
    if state.ended or command.attempt != state.attempt or not state.running:
        return []
    job_id, end = state.job_id, command.end
    if command.kind == "finished":
        completed = JobCompleted(job_id, state.attempt, str(end["ended_by"]), dict(end))
        return [completed, *_scored(state, end)]
    if state.asked == "consent":
        return [JobCancelled(job_id, "consent")]
    if state.asked == "cancel" or (command.kind == "stopped" and end["reason"] == "cancel"):
        return [JobCancelled(job_id)]
    if command.kind == "stopped":
        paused = JobPaused(job_id, int(end["step"]))
        # Stop-and-keep was asked after the pause had reached the trainer: it has to be started once more to finish.
        return [paused, StopRequested(job_id)] if state.asked == "stop" else [paused]
    if end["reason"] == "model_changed":
        hint = "`btmctl models add` with that folder takes the model as it is now; then train again."
        return [JobFailed(job_id, state.attempt, "model_changed", str(end["text"]), hint)]
    hint = f"`btmctl jobs logs {job_id}` shows what the training wrote last."
    if state.best_step is not None:
        hint += f" Its last checkpoint is kept: `btmctl jobs resume {job_id}` goes on from step {state.best_step}."
    return [JobFailed(job_id, state.attempt, str(end["reason"]), str(end["text"]), hint)]


def _scored(state: JobState, end: dict[str, Any]) -> list[Event]:
    """How the forecasts turned out; a job that was interrupted or ended early says nothing of their times."""
    whole = state.attempt == 1 and end["ended_by"] == "finished"
    scores = score(state.forecasts, end, whole=whole)
    if not scores:
        return []
    device = "cpu" if state.forecasts[0].gpu_memory_bytes is None else "cuda"
    return [ForecastScored(state.job_id, device, scores)]


def _gone(command: RecordTrainerGone, state: JobState) -> list[Event]:
    if state.ended or command.attempt != state.attempt or not state.running:
        return []
    if state.asked in ("cancel", "consent"):
        return [JobCancelled(state.job_id, "consent" if state.asked == "consent" else "asked")]
    rebooted = bool(state.boot_id) and command.boot_id != state.boot_id
    cause = "reboot" if rebooted else "crash"
    text = command.text or (
        "The machine was restarted while this job was training."
        if rebooted
        else "The training process ended without a word."
    )
    lost = AttemptLost(state.job_id, state.attempt, cause, text)
    if state.asked == "pause":
        return [lost, JobPaused(state.job_id, state.best_step or 0)]
    if cause == "crash" and state.crashes >= command.crash_resumes:
        return [
            lost,
            JobFailed(
                state.job_id,
                state.attempt,
                "crash_limit",
                f"The training process ended unexpectedly {state.crashes + 1} times; it is not tried again by itself.",
                f"`btmctl jobs logs {state.job_id}` shows what it wrote last; "
                f"`btmctl jobs resume {state.job_id}` tries again from the last checkpoint.",
            ),
        ]
    return [lost]


def _fail(command: FailJob, state: JobState) -> list[Event]:
    if state.ended:
        return []
    if state.asked in ("cancel", "consent"):
        return [JobCancelled(state.job_id, "consent" if state.asked == "consent" else "asked")]
    return [JobFailed(state.job_id, state.attempt, command.reason, command.text, command.hint)]


def _withdraw(state: JobState) -> list[Event]:
    if state.ended or state.asked in ("cancel", "consent"):
        return []
    return [JobConsentWithdrawn(state.job_id)] if state.running else [JobCancelled(state.job_id, "consent")]


def _ask(command: JobCommand, state: JobState) -> list[Event]:
    job_id = state.job_id
    shown = f"`btmctl jobs show {job_id}` shows how it stands."
    if isinstance(command, ResumeJob):
        if state.state == "paused" or (state.state == "failed" and state.attempt > 0):
            return [ResumeRequested(job_id)]
        if state.ended:
            raise JobEnded(f"Job {job_id} was {state.state}; only a paused or failed one can be resumed.", hint=shown)
        if state.asked == "pause":
            raise Conflict(f"Job {job_id} is being paused.", hint="Wait a moment, then resume it.")
        raise Conflict(f"Job {job_id} is not paused: it is {state.state}.", hint=shown)
    if state.ended:
        raise JobEnded(f"Job {job_id} has ended already: it is {state.state}.", hint=shown)
    if isinstance(command, CancelJob):
        asked: list[Event] = [] if state.asked == "cancel" else [CancelRequested(job_id)]
        return asked if state.running else [*asked, JobCancelled(job_id)]
    if state.asked == "cancel":
        raise Conflict(f"Job {job_id} is being cancelled.", hint=shown)
    if state.asked == "consent":
        raise Conflict(f"Job {job_id} ends, since its data may not be used any more.", hint=shown)
    if isinstance(command, PauseJob):
        if state.asked == "stop":
            raise Conflict(f"Job {job_id} is being stopped; its best checkpoint will be the result.", hint=shown)
        if state.state == "paused" or state.asked == "pause":
            return []
        if state.running:
            return [PauseRequested(job_id)]
        return [PauseRequested(job_id), JobPaused(job_id, state.best_step or 0)]
    if state.asked == "stop":
        return []
    if not state.running and state.best_step is None:
        raise Conflict(
            f"Job {job_id} has not trained yet, so there is nothing to keep.",
            hint=f"`btmctl jobs cancel {job_id}` ends it without a result.",
        )
    return [StopRequested(job_id)]


# --- evolve -----------------------------------------------------------------------------------------


def evolve(state: JobState | None, happened: Event) -> JobState | None:
    if isinstance(happened, JobSubmitted):
        return JobState(happened.job_id, "queued")
    if state is None:
        return None
    number = getattr(happened, "number", None)
    if number is not None:
        state = replace(state, last_number=number)
    match happened:
        case AttemptStarted():
            return replace(
                state,
                state="preparing",
                attempt=happened.attempt,
                boot_id=happened.boot_id,
                last_number=0,
                asked="stop" if state.asked == "stop" else "",
            )
        case ForecastMade():
            return replace(state, forecasts=(happened.forecast,))
        case ForecastRevised():
            return replace(state, forecasts=(*state.forecasts[:1], happened.forecast))
        case TrainingStageEntered():
            return replace(state, state=happened.stage)
        case CheckpointSaved():
            further = state.best_step is None or happened.step > state.best_step
            return replace(state, best_step=happened.step, crashes=0 if further else state.crashes)
        case PauseRequested():
            return replace(state, asked="pause")
        case StopRequested():
            waiting = not state.running
            return replace(state, asked="stop", state="queued" if waiting else state.state, next_why="stop")
        case CancelRequested():
            return replace(state, asked="cancel")
        case JobConsentWithdrawn():
            return replace(state, asked="consent")
        case ResumeRequested():
            return replace(state, state="queued", asked="", next_why="resumed", crashes=0)
        case JobPaused():
            return replace(state, state="paused", asked="")
        case AttemptLost():
            crashes = state.crashes + (happened.cause == "crash")
            return replace(state, state="recovering", crashes=crashes, next_why=happened.cause)
        case JobCancelled():
            return replace(state, state="cancelled", asked="")
        case JobFailed():
            return replace(state, state="failed", asked="")
        case JobCompleted():
            return replace(state, state="completed", asked="")
    return state
