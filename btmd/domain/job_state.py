"""How a training job stands."""

from typing import Any

from msgspec import Struct, field

from btmd.domain.forecast import Forecast

STAGES = ("validating", "preparing", "training", "evaluating")
WORKING = (*STAGES, "recovering")
ENDED = ("completed", "failed", "cancelled")
STATES = ("queued", *STAGES, "paused", "recovering", "needs_attention", *ENDED)
CRASHES = ("crash", "killed", "interrupted")
"""Reasons for which an attempt is simply made once more, up to the setting jobs.crash_resumes."""
WAITS = ("wait_for_device", "wait_for_room")
"""What is done about a failure by waiting until something is there, and nothing else."""
WAITS_ON = 1
"""``not_before_us`` of a job that a person lets wait as long as it takes."""


class Trouble(Struct, frozen=True):
    """An attempt that failed, and what was done about it; ``action`` is empty until that is decided."""

    attempt: int
    reason: str
    step: int
    action: str = ""
    changes: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    rows: tuple[int, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)


class Question(Struct, frozen=True):
    """What a person was asked to permit."""

    text: str
    action: str
    changes: dict[str, Any]
    deadline_us: int


class JobState(Struct, frozen=True):
    """``asked`` is what was asked of the running attempt and is not done yet, or nothing.

    It is pause, stop, cancel, consent (that it ends with a checkpoint, as its data may not be used any more) or yield
    (that it frees its device for the time being and goes on by itself).
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
    furthest_step: int = 0
    """The furthest that any checkpoint has come."""
    last_number: int = 0
    """Number of the newest frame of this attempt in this stream (ticks are counted elsewhere)."""
    forecasts: tuple[Forecast, ...] = ()
    """The one by formula, and the one after real steps."""
    allow: tuple[str, ...] = ()
    """The changes of what was asked for that were permitted beforehand."""
    changes: dict[str, Any] = field(default_factory=dict)
    """What recoveries have changed of the trainer plan: merged over the frozen one when an attempt is started."""
    troubles: tuple[Trouble, ...] = ()
    """Failures since a checkpoint last came further than all before it, or since a person resumed the job."""
    undecided: bool = False
    """Whether the last of ``troubles`` waits for what is done about it."""
    not_before_us: int = 0
    """Until when the next attempt waits at least; 0: it does not wait."""
    question: Question | None = None
    unanswered: bool = False
    """Whether a question's time ran out; the job then ends with what it has."""
    priority: int = 0
    held: bool = False
    """Whether it is not started until somebody releases it."""
    deleted: bool = False
    """Whether its files are gone and it is not shown any more."""

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def running(self) -> bool:
        """Whether a trainer process belongs to it."""
        return self.state in STAGES
