"""What a recovery is decided from, and what it can come to. Values are those of the trainer plan, under its names."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field


class Failure(Struct, frozen=True):
    """Why an attempt ended. ``step`` is the one that could not be done, counted from 1, or the last one known."""

    reason: str
    step: int = 0
    rows: tuple[int, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)


class Way(Struct, frozen=True):
    """A change of what was asked for, and all that changes with it. ``permission`` is the word for ``--allow``."""

    permission: str
    changes: Mapping[str, Any]
    told: Mapping[str, object] = field(default_factory=dict)
    """Figures for its sentence."""


class Limits(Struct, frozen=True):
    """How far a recovery goes by itself."""

    attempts: int = 6
    """Failed attempts without a checkpoint further on, after which nothing is tried any more."""
    crash_resumes: int = 3
    first_wait_s: float = 10.0
    longest_wait_s: float = 900.0
    may_ask: bool = True
    """False when the job only has to bring in what it has learned."""
    total_steps: int = 0
    """Of the whole training; 0 while unknown."""
    planned_rate: float = 0.0
    """The learning rate of the frozen plan."""
    best_step: int | None = None
    """Of the checkpoint that is best by the held-out rows; None while there is none."""
    free_bytes: int = 0
    """On the disk, after what is the job's own to give was given."""
    needed_bytes: int = 0
    """On the disk, for the next checkpoint and the result."""
    device_is_there: bool = True


class Retry(Struct, frozen=True):
    """Another attempt with ``changes``, after ``wait_s``."""

    action: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, object] = field(default_factory=dict)
    wait_s: float = 0.0


class Wait(Struct, frozen=True):
    """Another attempt as soon as what is missing is there, looked for after ``wait_s``."""

    action: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, object] = field(default_factory=dict)
    wait_s: float = 30.0


class Ask(Struct, frozen=True):
    """Only this could help, and it needs a permission."""

    action: str
    changes: Mapping[str, Any]
    told: Mapping[str, object] = field(default_factory=dict)


class GiveUp(Struct, frozen=True):
    """Nothing is left. ``ways`` names the permissions that might help, should they not have been looked for yet."""

    reason: str
    told: Mapping[str, object] = field(default_factory=dict)
    ways: tuple[str, ...] = ()


Decision = Retry | Wait | Ask | GiveUp
