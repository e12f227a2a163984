"""Everything that can be asked of a training job, by a person or by the daemon."""

from typing import Any

from msgspec import Struct, field

from btmd.domain.event import Event
from btmd.domain.forecast import Forecast
from btmd.domain.job_events import JobSubmitted
from btmd.domain.job_housekeeping import HousekeepingCommand
from btmd.domain.queue import QueueCommand


class SubmitJob(Struct, frozen=True):
    submitted: JobSubmitted
    forecast: Forecast | None = None

    @property
    def job_id(self) -> str:
        return self.submitted.job_id


class StartAttempt(Struct, frozen=True):
    """A trainer is about to be started in this boot of the machine."""

    job_id: str
    boot_id: str
    device: str = ""


class RecordFrames(Struct, frozen=True):
    """What a trainer reported: observed events in the order of their frames, ticks among them."""

    job_id: str
    attempt: int
    observed: tuple[Event, ...]


class RecordEnd(Struct, frozen=True):
    """The last word of a trainer: it ``finished``, ``stopped`` or ``failed``; ``end`` is the frame as values."""

    job_id: str
    attempt: int
    kind: str
    end: dict[str, Any]


class RecordTrainerGone(Struct, frozen=True):
    """A trainer ended without a last word. ``boot_id``: the machine's present boot; ``reason``: see AttemptFailed."""

    job_id: str
    attempt: int
    boot_id: str
    reason: str = "crash"
    text: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)


class RecordIntervention(Struct, frozen=True):
    """A trainer was ended for what was found about it: ``reason`` is the finding's kind."""

    job_id: str
    attempt: int
    reason: str
    text: str
    step: int = 0
    rows: tuple[int, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)


class PlanRecovery(Struct, frozen=True):
    """What the next attempt does otherwise, after ``attempt`` failed. See RecoveryPlanned."""

    job_id: str
    attempt: int
    action: str
    changes: dict[str, Any]
    text: str
    not_before_us: int = 0


class MarkDue(Struct, frozen=True):
    """What the planned attempt waited for is there."""

    job_id: str
    attempt: int


class AskPerson(Struct, frozen=True):
    """Only what needs a permission can help. See AnswerAsked."""

    job_id: str
    attempt: int
    question: str
    action: str
    changes: dict[str, Any]
    deadline_us: int


class GiveUpJob(Struct, frozen=True):
    """After ``attempt`` failed nothing is left that could help."""

    job_id: str
    attempt: int
    reason: str
    text: str
    hint: str = ""


class AnswerJob(Struct, frozen=True):
    job_id: str
    yes: bool


class ExpireQuestion(Struct, frozen=True):
    job_id: str
    now_us: int


class FailJob(Struct, frozen=True):
    """A job cannot go on for a reason found outside the trainer (its data is gone, say)."""

    job_id: str
    reason: str
    text: str
    hint: str = ""


class PauseJob(Struct, frozen=True):
    job_id: str


class ResumeJob(Struct, frozen=True):
    job_id: str


class StopJob(Struct, frozen=True):
    job_id: str


class CancelJob(Struct, frozen=True):
    job_id: str


class WithdrawConsent(Struct, frozen=True):
    """The job's data may not be used any more; what was made until now stays, and nothing goes on."""

    job_id: str


JobCommand = (
    SubmitJob
    | StartAttempt
    | RecordFrames
    | RecordEnd
    | RecordTrainerGone
    | RecordIntervention
    | PlanRecovery
    | MarkDue
    | AskPerson
    | GiveUpJob
    | AnswerJob
    | ExpireQuestion
    | FailJob
    | PauseJob
    | ResumeJob
    | StopJob
    | CancelJob
    | WithdrawConsent
    | QueueCommand
    | HousekeepingCommand
)
