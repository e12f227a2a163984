"""Everything that can be asked of a training job, by a person or by the daemon."""

from dataclasses import dataclass, field
from typing import Any

from btmd.domain.event import Event
from btmd.domain.forecast import Forecast
from btmd.domain.job_events import JobSubmitted
from btmd.domain.job_housekeeping import HousekeepingCommand
from btmd.domain.queue import QueueCommand


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
    device: str = ""


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
    """A trainer ended without a last word. ``boot_id``: the machine's present boot; ``reason``: see AttemptFailed."""

    job_id: str
    attempt: int
    boot_id: str
    reason: str = "crash"
    text: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecordIntervention:
    """A trainer was ended for what was found about it: ``reason`` is the finding's kind."""

    job_id: str
    attempt: int
    reason: str
    text: str
    step: int = 0
    rows: tuple[int, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlanRecovery:
    """What the next attempt does otherwise, after ``attempt`` failed. See RecoveryPlanned."""

    job_id: str
    attempt: int
    action: str
    changes: dict[str, Any]
    text: str
    not_before_us: int = 0


@dataclass(frozen=True, slots=True)
class MarkDue:
    """What the planned attempt waited for is there."""

    job_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class AskPerson:
    """Only what needs a permission can help. See AnswerAsked."""

    job_id: str
    attempt: int
    question: str
    action: str
    changes: dict[str, Any]
    deadline_us: int


@dataclass(frozen=True, slots=True)
class GiveUpJob:
    """After ``attempt`` failed nothing is left that could help."""

    job_id: str
    attempt: int
    reason: str
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class AnswerJob:
    job_id: str
    yes: bool


@dataclass(frozen=True, slots=True)
class ExpireQuestion:
    job_id: str
    now_us: int


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
