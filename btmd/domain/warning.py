"""Warnings about a running training: what was seen on the machine beside it, what is wrong now, and what was.

A warning is raised once and withdrawn when it no longer holds. Both carry the numbers that were seen, never words:
those are made when somebody looks, by ``btmd.monitoring.advice``.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from btmd.domain.event import Event, event

Evidence = dict[str, Any]
"""Numbers in the units their names end in, and short names; nothing from the data."""

INFO, WARNING, CRITICAL = "info", "warning", "critical"
SEVERITIES = (INFO, WARNING, CRITICAL)


class GpuSample(Struct, frozen=True):
    """The trainer's GPU just now. Memory in bytes; what the driver does not tell is None."""

    index: int
    total_bytes: int
    used_bytes: int
    others_bytes: int = 0
    """What programs other than the trainer hold."""
    utilization: float | None = None
    temperature_c: int | None = None
    clock_share: float | None = None
    """Of its highest clock."""
    throttle: tuple[str, ...] = ()


@event("MachineSampled", tick=True)
class MachineSampled(Event, frozen=True):
    """The machine and the trainer's process now and then while it lives. Bytes and seconds; None where unknown."""

    job_id: str
    attempt: int
    every_s: float
    """Since the sample before."""
    state: str
    """Of the process, as the kernel's letter; empty where it is gone."""
    cpu_s: float
    """Processor time of the trainer and what it started, since its start."""
    rss_bytes: int
    available_bytes: int
    total_bytes: int
    disk_free_bytes: int
    busy_share: float | None = None
    """Of all processors, by everybody, since the sample before."""
    cores: int = 1
    group_bytes: int | None = None
    group_limit_bytes: int | None = None
    """The tightest control group around the trainer, and what is in use there, file cache left out."""
    process_bytes: int | None = None
    process_limit_bytes: int | None = None
    """Address space or data, where the process has a limit of its own."""
    read_bytes: int | None = None
    major_faults: int | None = None
    throttles: int | None = None
    """Times that processors slowed down for heat, since the machine was started."""
    suspended_s: float = 0.0
    """Time since the sample before in which the machine, or the daemon, did not run."""
    clock_jump_s: float = 0.0
    """By how much the clock was set forward (or, negative, back) since the sample before."""
    gpus: tuple[GpuSample, ...] = ()


@event("WarningRaised")
class WarningRaised(Event, frozen=True):
    """``kind`` is one of ``btmd.monitoring.watch.KINDS``, or of those of ``btmd.jobs.long_waits``."""

    job_id: str
    attempt: int
    kind: str
    severity: str
    evidence: Evidence


@event("WarningWithdrawn")
class WarningWithdrawn(Event, frozen=True):
    """It no longer holds; ``evidence`` are the same figures as they are now, empty when nothing runs any more."""

    job_id: str
    attempt: int
    kind: str
    evidence: Evidence


class Finding(Struct, frozen=True):
    """Something that is wrong now. ``stops``: the training had better be ended and taken up again."""

    kind: str
    severity: str
    evidence: Evidence
    stops: bool = False


class ReportFindings(Struct, frozen=True):
    """Everything that is wrong with a job now; what was open and is not among it is withdrawn.

    ``figures`` are those of kinds that do not hold any more.
    """

    job_id: str
    attempt: int
    findings: tuple[Finding, ...]
    figures: Mapping[str, Evidence] = field(default_factory=dict)


WarningCommand = ReportFindings


class WatchState(Struct, frozen=True):
    """The kinds that are open, in the order in which they were raised."""

    open: tuple[str, ...] = ()


def stream_name(job_id: str) -> str:
    return f"watch-{job_id}"


def samples_stream(job_id: str) -> str:
    """Samples are ticks, and the log's tables tell ticks by this beginning."""
    return f"ticks-machine-{job_id}"


def stream(command: WarningCommand) -> str:
    return stream_name(command.job_id)


def decide(command: WarningCommand, state: WatchState | None) -> list[Event]:
    open_kinds = (state or WatchState()).open
    now = {finding.kind: finding for finding in command.findings}
    withdrawn: list[Event] = [
        WarningWithdrawn(command.job_id, command.attempt, kind, dict(command.figures.get(kind, {})))
        for kind in open_kinds
        if kind not in now
    ]
    raised = [
        WarningRaised(command.job_id, command.attempt, kind, one.severity, dict(one.evidence))
        for kind, one in now.items()
        if kind not in open_kinds
    ]
    return [*withdrawn, *raised]


def evolve(state: WatchState | None, happened: Event) -> WatchState:
    state = state or WatchState()
    match happened:
        case WarningRaised():
            return replace(state, open=(*state.open, happened.kind))
        case WarningWithdrawn():
            return replace(state, open=tuple(kind for kind in state.open if kind != happened.kind))
    return state
