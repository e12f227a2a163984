"""Everything that can have happened to a training job."""

from typing import Any

from btmd.domain.event import Event, event


@event("JobSubmitted")
class JobSubmitted(Event):
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
class AttemptStarted(Event):
    """A trainer process was started; ``boot_id`` tells a reboot from a crash later."""

    job_id: str
    attempt: int
    boot_id: str
    why: str
    """``first``, ``resumed``, ``crash``, ``reboot`` or ``stop``."""


@event("TrainingStageEntered")
class TrainingStageEntered(Event):
    job_id: str
    attempt: int
    number: int
    stage: str
    text: str = ""


@event("TrainingShapeKnown")
class TrainingShapeKnown(Event):
    """What was found once model and data were loaded. ``shape`` holds counts and names, see frames.TrainingShape."""

    job_id: str
    attempt: int
    number: int
    shape: dict[str, Any]


@event("TrainingProgressed", tick=True)
class TrainingProgressed(Event):
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
class HeldOutLossMeasured(Event):
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
class CheckpointSaved(Event):
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
class CheckpointRejected(Event):
    job_id: str
    attempt: int
    number: int
    name: str
    reason: str
    used_instead: str | None


@event("TrainerNoticed")
class TrainerNoticed(Event):
    """A sentence for the person; ``code`` is stable."""

    job_id: str
    attempt: int
    number: int
    code: str
    text: str


@event("PauseRequested")
class PauseRequested(Event):
    job_id: str


@event("ResumeRequested")
class ResumeRequested(Event):
    job_id: str


@event("StopRequested")
class StopRequested(Event):
    """Stop and keep: the best checkpoint becomes the result."""

    job_id: str


@event("CancelRequested")
class CancelRequested(Event):
    job_id: str


@event("JobConsentWithdrawn")
class JobConsentWithdrawn(Event):
    """The data it trains on may not be used any more: its trainer saves a checkpoint, and the job ends."""

    job_id: str


@event("JobPaused")
class JobPaused(Event):
    job_id: str
    step: int


@event("JobCancelled")
class JobCancelled(Event):
    """``reason``: ``asked``, or ``consent`` where the use of the data was not allowed any more."""

    job_id: str
    reason: str = "asked"


@event("AttemptLost")
class AttemptLost(Event):
    """A trainer ended without a word. ``cause`` is ``crash`` or ``reboot``."""

    job_id: str
    attempt: int
    cause: str
    text: str


@event("JobFailed")
class JobFailed(Event):
    """``reason`` is typed (see frames.Failed, and ``crash_limit``); ``text`` and ``hint`` are for the person."""

    job_id: str
    attempt: int
    reason: str
    text: str
    hint: str = ""


@event("JobCompleted")
class JobCompleted(Event):
    """``outcome`` is frames.Finished as values: losses before and after, best step, times, memory, result path."""

    job_id: str
    attempt: int
    ended_by: str
    outcome: dict[str, Any]
