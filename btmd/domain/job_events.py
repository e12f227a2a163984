"""Everything that can have happened to a training job."""

from typing import Any

from msgspec import field

from btmd.domain.event import Event, event


@event("JobSubmitted")
class JobSubmitted(Event, frozen=True):
    """The job's first event: the plan that will be used, frozen.

    ``plan`` holds for each value where it came from and why; ``trainer_plan`` is what the trainer is given.
    """

    job_id: str
    name: str
    owner_uid: int
    model_id: str
    dataset_id: str
    dataset_version: str
    preset: str
    plan: dict[str, Any]
    trainer_plan: dict[str, Any]
    overrides: dict[str, Any]
    allow: tuple[str, ...] = ()
    priority: int = 0
    custom_description: str = ""


@event("AttemptStarted")
class AttemptStarted(Event, frozen=True):
    """A trainer process was started; ``boot_id`` tells a reboot from a crash later."""

    job_id: str
    attempt: int
    boot_id: str
    why: str
    """``first``, ``resumed``, ``stop``, or the reason why the attempt before it failed."""
    device: str = ""
    """``cpu`` or ``cuda:N``; empty in older logs, where it is the planned one."""


@event("TrainingStageEntered")
class TrainingStageEntered(Event, frozen=True):
    job_id: str
    attempt: int
    number: int
    stage: str
    text: str = ""


@event("TrainingShapeKnown")
class TrainingShapeKnown(Event, frozen=True):
    """What was found once model and data were loaded. ``shape`` holds counts and names, see frames.TrainingShape."""

    job_id: str
    attempt: int
    number: int
    shape: dict[str, Any]


@event("TrainingProgressed", tick=True)
class TrainingProgressed(Event, frozen=True):
    """A progress tick; ``losses`` are those of ``steps``, all since the tick before."""

    job_id: str
    attempt: int
    number: int
    step: int
    total_steps: int
    epoch: int
    loss: float
    learning_rate: float
    tokens_per_s: float
    elapsed_s: float
    memory_bytes: int
    steps: tuple[int, ...]
    losses: tuple[float, ...]
    gpu_memory_bytes: int | None = None
    gpu_utilization: float | None = None
    gradient_norm: float | None = None


@event("HeldOutLossMeasured")
class HeldOutLossMeasured(Event, frozen=True):
    """``loss`` is the mean over learned tokens, in nats, or over pairs; ``when`` is before, during or after.

    Of pairs, ``margin`` is by how much the chosen answer gained on the rejected one, ``accuracy`` in what share.
    """

    job_id: str
    attempt: int
    number: int
    step: int
    loss: float
    tokens: int
    when: str
    seconds: float
    margin: float | None = None
    accuracy: float | None = None


@event("CheckpointSaved")
class CheckpointSaved(Event, frozen=True):
    job_id: str
    attempt: int
    number: int
    step: int
    name: str
    size_bytes: int
    held_out_loss: float | None
    best: bool
    pruned: tuple[str, ...] = ()


@event("CheckpointRejected")
class CheckpointRejected(Event, frozen=True):
    job_id: str
    attempt: int
    number: int
    name: str
    reason: str
    used_instead: str | None


@event("TrainerNoticed")
class TrainerNoticed(Event, frozen=True):
    """A sentence for the person; ``code`` is stable."""

    job_id: str
    attempt: int
    number: int
    code: str
    text: str


@event("PauseRequested")
class PauseRequested(Event, frozen=True):
    job_id: str


@event("ResumeRequested")
class ResumeRequested(Event, frozen=True):
    job_id: str


@event("StopRequested")
class StopRequested(Event, frozen=True):
    """Stop and keep: the best checkpoint becomes the result."""

    job_id: str


@event("CancelRequested")
class CancelRequested(Event, frozen=True):
    job_id: str


@event("JobConsentWithdrawn")
class JobConsentWithdrawn(Event, frozen=True):
    """The data it trains on may not be used any more: its trainer saves a checkpoint, and the job ends."""

    job_id: str


@event("JobPaused")
class JobPaused(Event, frozen=True):
    job_id: str
    step: int


@event("JobCancelled")
class JobCancelled(Event, frozen=True):
    """``reason``: ``asked``, or ``consent`` where the use of the data was not allowed any more."""

    job_id: str
    reason: str = "asked"


@event("AttemptLost")
class AttemptLost(Event, frozen=True):
    """A trainer ended without a word. ``cause`` is ``crash`` or ``reboot``. Only in older logs: AttemptFailed since."""

    job_id: str
    attempt: int
    cause: str
    text: str


@event("AttemptFailed")
class AttemptFailed(Event, frozen=True):
    """A trainer ended otherwise than it should, or was ended. What is done about it is decided next.

    ``reason`` is one of frames.Failed, or ``killed``, ``reboot``, ``interrupted``, or the kind of the finding for which
    it was ended (``hung``, ``loss_diverging``, ...). ``step`` is the one that could not be done, counted from 1, or the
    last one known; ``rows`` did it. ``evidence`` holds figures and fixed words, never anything of the data.
    """

    job_id: str
    attempt: int
    reason: str
    text: str
    step: int = 0
    rows: tuple[int, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)


@event("RecoveryPlanned")
class RecoveryPlanned(Event, frozen=True):
    """The next attempt: ``changes`` go over the frozen trainer plan, and over earlier changes, for good.

    ``not_before_us``: it waits till then at least, and until what it waits for is there; 0: it does not wait.
    """

    job_id: str
    attempt: int
    action: str
    changes: dict[str, Any]
    text: str
    not_before_us: int = 0


@event("RecoveryDue")
class RecoveryDue(Event, frozen=True):
    """What a planned attempt waited for is there; a question whether it shall wait on is answered by that."""

    job_id: str
    attempt: int


@event("AnswerAsked")
class AnswerAsked(Event, frozen=True):
    """Only a change of what was asked for can help: a person has to permit it. No answer by ``deadline_us`` is a no.

    With ``wait_for_device`` or ``wait_for_room`` as its action it asks whether a job that has waited for long waits on.
    """

    job_id: str
    attempt: int
    question: str
    action: str
    changes: dict[str, Any]
    deadline_us: int


@event("JobAnswered")
class JobAnswered(Event, frozen=True):
    job_id: str
    yes: bool


@event("JobUnanswered")
class JobUnanswered(Event, frozen=True):
    """Nobody answered in time: what was learned until then is kept."""

    job_id: str


@event("JobFailed")
class JobFailed(Event, frozen=True):
    """``reason`` is typed (see frames.Failed, and ``crash_limit``); ``text`` and ``hint`` are for the person."""

    job_id: str
    attempt: int
    reason: str
    text: str
    hint: str = ""


@event("JobCompleted")
class JobCompleted(Event, frozen=True):
    """``outcome`` is frames.Finished as values: losses before and after, best step, times, memory, result path."""

    job_id: str
    attempt: int
    ended_by: str
    outcome: dict[str, Any]
