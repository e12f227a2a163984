"""From ticks to what a person reads. Pure: the time arrives from outside."""

from btmd.monitoring.facts import AttemptSpan, JobOutcome, JobProgress, TickPoint
from btmd.monitoring.pace import Remaining, estimate_remaining
from btmd.monitoring.progress import Progress, progress
from btmd.monitoring.result import Result, result

__all__ = [
    "AttemptSpan",
    "JobOutcome",
    "JobProgress",
    "Progress",
    "Remaining",
    "Result",
    "TickPoint",
    "estimate_remaining",
    "progress",
    "result",
]
