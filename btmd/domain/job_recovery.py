"""What may happen to a job after one of its attempts has failed, and what a person may answer."""

from btmd.domain.event import Event
from btmd.domain.job_commands import (
    AnswerJob,
    AskPerson,
    ExpireQuestion,
    MarkDue,
    PlanRecovery,
    RecordIntervention,
    RecordTrainerGone,
)
from btmd.domain.job_events import (
    AnswerAsked,
    AttemptFailed,
    JobAnswered,
    JobCancelled,
    JobFailed,
    JobPaused,
    JobUnanswered,
    RecoveryDue,
    RecoveryPlanned,
    StopRequested,
)
from btmd.domain.job_state import WAITS, WAITS_ON, JobState, Question
from btmd.errors import Conflict, JobEnded


def undecided(state: JobState, attempt: int) -> bool:
    """Whether it is still open what follows on this attempt's failure."""
    return state.undecided and state.attempt == attempt and not state.ended


def gone(command: RecordTrainerGone, state: JobState) -> list[Event]:
    """A trainer ended without a word."""
    if state.ended or command.attempt != state.attempt or not state.running:
        return []
    reason, text = command.reason, command.text
    if state.boot_id and command.boot_id != state.boot_id:
        reason, text = "reboot", "The machine was restarted while this job was training."
    text = text or "The training process ended without a word."
    return failed(state, AttemptFailed(state.job_id, state.attempt, reason, text, evidence=command.evidence))


def intervened(command: RecordIntervention, state: JobState) -> list[Event]:
    """A trainer was ended for what was found about it."""
    if state.ended or command.attempt != state.attempt or not state.running:
        return []
    return failed(
        state,
        AttemptFailed(
            state.job_id, state.attempt, command.reason, command.text, command.step, command.rows, command.evidence
        ),
    )


def failed(state: JobState, failure: AttemptFailed) -> list[Event]:
    """The failure, and what was asked before it came: it needs no recovery then."""
    if state.asked in ("cancel", "consent"):
        return [JobCancelled(state.job_id, "consent" if state.asked == "consent" else "asked")]
    if state.asked == "pause":
        return [failure, JobPaused(state.job_id, state.best_step or 0)]
    return [failure]


def plan_recovery(command: PlanRecovery, state: JobState) -> list[Event]:
    if not undecided(state, command.attempt):
        return []
    return [
        RecoveryPlanned(
            command.job_id, command.attempt, command.action, command.changes, command.text, command.not_before_us
        )
    ]


def mark_due(command: MarkDue, state: JobState) -> list[Event]:
    waits = _waits(state) or (state.question is not None and state.question.action in WAITS)
    return [RecoveryDue(command.job_id, command.attempt)] if waits and state.attempt == command.attempt else []


def _waits(state: JobState) -> bool:
    return state.state == "recovering" and state.not_before_us > 0


def ask_person(command: AskPerson, state: JobState) -> list[Event]:
    waits = _waits(state) and state.attempt == command.attempt and command.action in WAITS
    if not (waits or undecided(state, command.attempt)):
        return []
    return [
        AnswerAsked(
            command.job_id, command.attempt, command.question, command.action, command.changes, command.deadline_us
        )
    ]


def take_answer(command: AnswerJob | ExpireQuestion, state: JobState) -> list[Event]:
    """Raises JobEnded, Conflict."""
    question, job_id = state.question, state.job_id
    if isinstance(command, ExpireQuestion):
        if question is None or command.now_us < question.deadline_us:
            return []
        return [JobUnanswered(job_id), *_kept(state, question, "unanswered", "Nobody answered in time")]
    if state.ended:
        raise JobEnded(
            f"Job {job_id} has ended already: it is {state.state}.",
            hint=f"`btmctl jobs show {job_id}` shows what became of it.",
        )
    if question is None:
        raise Conflict(
            f"Job {job_id} asks nothing: it is {state.state}.",
            hint="`btmctl jobs list --state needs_attention` shows those that do.",
        )
    answered = JobAnswered(job_id, command.yes)
    if not command.yes:
        return [answered, *_kept(state, question, "declined", "The answer was no")]
    waits = question.action in WAITS
    text = "It waits on, as long as it takes." if waits else "You permitted it, so it goes on."
    not_before_us = WAITS_ON if waits else 0
    return [answered, RecoveryPlanned(job_id, state.attempt, question.action, question.changes, text, not_before_us)]


def _kept(state: JobState, question: Question, reason: str, why: str) -> list[Event]:
    """What was learned until now becomes the result; without a checkpoint there is none."""
    if question.action in WAITS and state.best_step is not None:
        # No result can be made without what it waited for.
        text = f"{why}, so it waits no longer; its checkpoint of step {state.best_step} is kept."
        hint = f"`btmctl jobs resume {state.job_id}` goes on from there once what it waited for is there."
        return [JobFailed(state.job_id, state.attempt, reason, text, hint)]
    if state.best_step is not None:
        return [StopRequested(state.job_id)]
    text = f"{why}, and there is no checkpoint yet that could be kept."
    hint = f"`btmctl jobs resume {state.job_id}` tries again; `btmctl train --allow ...` permits more beforehand."
    return [JobFailed(state.job_id, state.attempt, reason, text, hint)]
