"""A training job: from submitted to completed, failed or cancelled.

A job waits (``queued``), is worked on by one trainer process at a time (an *attempt*), and ends. What a person asks
is recorded at once (``PauseRequested``) and again when it is done (``JobPaused``), so that a daemon that dies
between the two knows what was asked. An attempt that fails is recorded (``AttemptFailed``) before it is decided what is
done about it (``RecoveryPlanned``, ``AnswerAsked`` or ``JobFailed``), for the same reason.
"""

from typing import Any

from msgspec.structs import replace

from btmd.domain import job_housekeeping, queue
from btmd.domain.event import Event
from btmd.domain.forecast import ForecastMade, ForecastRevised, ForecastScored, score
from btmd.domain.job_commands import (
    AnswerJob,
    AskPerson,
    CancelJob,
    ExpireQuestion,
    FailJob,
    GiveUpJob,
    JobCommand,
    MarkDue,
    PauseJob,
    PlanRecovery,
    RecordEnd,
    RecordFrames,
    RecordIntervention,
    RecordTrainerGone,
    ResumeJob,
    StartAttempt,
    StopJob,
    SubmitJob,
    WithdrawConsent,
)
from btmd.domain.job_events import (
    AnswerAsked,
    AttemptFailed,
    AttemptLost,
    AttemptStarted,
    CancelRequested,
    CheckpointSaved,
    JobAnswered,
    JobCancelled,
    JobCompleted,
    JobConsentWithdrawn,
    JobFailed,
    JobPaused,
    JobSubmitted,
    JobUnanswered,
    PauseRequested,
    RecoveryDue,
    RecoveryPlanned,
    ResumeRequested,
    StopRequested,
    TrainingShapeKnown,
    TrainingStageEntered,
)
from btmd.domain.job_recovery import (
    ask_person,
    failed,
    gone,
    intervened,
    mark_due,
    plan_recovery,
    take_answer,
    undecided,
)
from btmd.domain.job_state import CRASHES, ENDED, STAGES, STATES, WORKING, JobState, Question, Trouble
from btmd.errors import Conflict, JobEnded, JobNotFound

__all__ = [
    "CRASHES",
    "ENDED",
    "STAGES",
    "STATES",
    "WORKING",
    "AnswerJob",
    "AskPerson",
    "CancelJob",
    "ExpireQuestion",
    "FailJob",
    "GiveUpJob",
    "JobCommand",
    "JobState",
    "MarkDue",
    "PauseJob",
    "PlanRecovery",
    "Question",
    "RecordEnd",
    "RecordFrames",
    "RecordIntervention",
    "RecordTrainerGone",
    "ResumeJob",
    "StartAttempt",
    "StopJob",
    "SubmitJob",
    "Trouble",
    "WithdrawConsent",
    "decide",
    "evolve",
    "stream",
    "stream_name",
]


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
    if isinstance(command, job_housekeeping.HousekeepingCommand):
        return job_housekeeping.decide(command, state)
    job_housekeeping.require_there(state)
    if isinstance(command, queue.QueueCommand):
        return queue.decide(command, state)
    match command:
        case StartAttempt():
            return _start(command, state)
        case RecordFrames():
            return _observe(command, state)
        case RecordEnd():
            return _end(command, state)
        case RecordTrainerGone():
            return gone(command, state)
        case RecordIntervention():
            return intervened(command, state)
        case PlanRecovery():
            return plan_recovery(command, state)
        case MarkDue():
            return mark_due(command, state)
        case AskPerson():
            return ask_person(command, state)
        case GiveUpJob():
            return [] if not undecided(state, command.attempt) else _fail(command, state)
        case AnswerJob() | ExpireQuestion():
            return take_answer(command, state)
        case FailJob():
            return _fail(command, state)
        case WithdrawConsent():
            return _withdraw(state)
    return _ask(command, state)


def _start(command: StartAttempt, state: JobState) -> list[Event]:
    if state.state not in ("queued", "recovering"):
        raise Conflict(f"Job {state.job_id} is {state.state}; a training cannot be started for it.")
    if state.undecided or state.not_before_us:
        raise Conflict(f"Job {state.job_id} waits before it is tried again.")
    if state.held:
        raise Conflict(
            f"Job {state.job_id} is held back.", hint=f"`btmctl queue release {state.job_id}` lets it go on."
        )
    return [AttemptStarted(state.job_id, state.attempt + 1, command.boot_id, state.next_why, command.device)]


def _observe(command: RecordFrames, state: JobState) -> list[Event]:
    # Of an attempt whose end is known nothing more is told: it would be taken for one at work.
    if not state.running or command.attempt != state.attempt:
        return []
    return [seen for seen in command.observed if seen.IS_TICK or getattr(seen, "number", 0) > state.last_number]


def _end(command: RecordEnd, state: JobState) -> list[Event]:
    if state.ended or command.attempt != state.attempt or not state.running:
        return []
    job_id, end = state.job_id, command.end
    if command.kind == "finished":
        ended_by = "unanswered" if state.unanswered else str(end["ended_by"])
        completed = JobCompleted(job_id, state.attempt, ended_by, dict(end))
        return [completed, *_scored(state, end)]
    if state.asked == "consent":
        return [JobCancelled(job_id, "consent")]
    if state.asked == "cancel" or (command.kind == "stopped" and end["reason"] == "cancel"):
        return [JobCancelled(job_id)]
    if command.kind == "stopped" and end["reason"] == "leave":
        # Whoever ended it is gone, and with it what it had found: it is found again if it still holds.
        text = "The training was ended because something was wrong with it."
        return failed(state, AttemptFailed(job_id, state.attempt, "interrupted", text, int(end["step"])))
    if command.kind == "stopped" and state.asked == "yield":
        return [queue.JobYielded(job_id, int(end["step"]))]
    if command.kind == "stopped":
        paused = JobPaused(job_id, int(end["step"]))
        # Stop-and-keep was asked after the pause had reached the trainer: it has to be started once more to finish.
        return [paused, StopRequested(job_id)] if state.asked == "stop" else [paused]
    reason, text, step = str(end["reason"]), str(end["text"]), int(end.get("step") or 0)
    rows = tuple(int(row) for row in end.get("rows") or ())
    return failed(
        state, AttemptFailed(job_id, state.attempt, reason, text, step, rows, dict(end.get("evidence") or {}))
    )


def _scored(state: JobState, end: dict[str, Any]) -> list[Event]:
    """How the forecasts turned out; a job that was interrupted or ended early says nothing of their times."""
    whole = state.attempt == 1 and end["ended_by"] == "finished"
    scores = score(state.forecasts, end, whole=whole)
    if not scores:
        return []
    device = "cpu" if state.forecasts[0].gpu_memory_bytes is None else "cuda"
    return [ForecastScored(state.job_id, device, scores)]


def _fail(command: FailJob | GiveUpJob, state: JobState) -> list[Event]:
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
        if state.state == "failed":
            raise JobEnded(
                f"Job {job_id} failed before it had begun; there is nothing to go on from.",
                hint=f"`btmctl jobs rerun {job_id}` trains the same anew.",
            )
        if state.ended:
            raise JobEnded(f"Job {job_id} is {state.state}; only a paused or failed one can be resumed.", hint=shown)
        if state.asked == "pause":
            raise Conflict(f"Job {job_id} is being paused.", hint="Wait a moment, then resume it.")
        if state.question is not None:
            raise Conflict(f"Job {job_id} waits for an answer.", hint=f"`btmctl jobs answer {job_id} yes` or `no`.")
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
        return JobState(happened.job_id, "queued", allow=happened.allow, priority=happened.priority)
    if state is None:
        return None
    number = getattr(happened, "number", None)
    if number is not None:
        state = replace(state, last_number=number)
    if isinstance(happened, queue.QUEUE_EVENTS):
        return queue.evolve(state, happened)
    if isinstance(happened, job_housekeeping.HOUSEKEEPING_EVENTS):
        return job_housekeeping.evolve(state, happened)
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
            state = replace(state, best_step=happened.step)
            if happened.step <= state.furthest_step:
                return state
            return replace(state, furthest_step=happened.step, crashes=0, troubles=())
        case TrainingShapeKnown():
            # Checkpoints further on than where an attempt begins are damaged, gone or set aside.
            began = int(happened.shape.get("resumed_from_step", 0))
            newest = state.best_step if state.best_step is None else min(state.best_step, began)
            return replace(state, best_step=newest or None)
        case PauseRequested():
            return replace(state, asked="pause")
        case StopRequested():
            if state.running:
                return replace(state, asked="stop", next_why="stop")
            return replace(_settled(state), asked="stop", state="queued", next_why="stop")
        case CancelRequested():
            return replace(state, asked="cancel")
        case JobConsentWithdrawn():
            return replace(state, asked="consent")
        case ResumeRequested():
            return replace(
                state, state="queued", asked="", next_why="resumed", crashes=0, troubles=(), unanswered=False
            )
        case JobPaused():
            return replace(_settled(state), state="paused", asked="")
        case AttemptLost():
            crashes = state.crashes + (happened.cause == "crash")
            return replace(state, state="recovering", crashes=crashes, next_why=happened.cause)
        case AttemptFailed():
            return replace(
                state,
                state="recovering",
                crashes=state.crashes + (happened.reason in CRASHES),
                next_why=happened.reason,
                troubles=(*state.troubles, _trouble(happened)),
                undecided=True,
            )
        case RecoveryPlanned():
            return replace(
                _settled(state),
                state="recovering",
                changes={**state.changes, **happened.changes},
                troubles=_treated(state.troubles, happened),
                not_before_us=happened.not_before_us,
            )
        case RecoveryDue():
            return replace(_settled(state), state="recovering")
        case AnswerAsked():
            question = Question(happened.question, happened.action, happened.changes, happened.deadline_us)
            return replace(_settled(state), state="needs_attention", question=question)
        case JobAnswered():
            return replace(state, question=None)
        case JobUnanswered():
            return replace(state, question=None, unanswered=True)
        case JobCancelled():
            return replace(_settled(state), state="cancelled", asked="")
        case JobFailed():
            return replace(_settled(state), state="failed", asked="")
        case JobCompleted():
            return replace(_settled(state), state="completed", asked="")
    return state


def _trouble(failed: AttemptFailed) -> Trouble:
    return Trouble(
        failed.attempt, failed.reason, failed.step, text=failed.text, rows=failed.rows, evidence=failed.evidence
    )


def _settled(state: JobState) -> JobState:
    """Nothing about its last failure is open any more."""
    return replace(state, undecided=False, not_before_us=0, question=None)


def _treated(troubles: tuple[Trouble, ...], planned: RecoveryPlanned) -> tuple[Trouble, ...]:
    if not troubles:
        return troubles
    return (*troubles[:-1], replace(troubles[-1], action=planned.action, changes=planned.changes))
