"""The line of jobs that wait: who comes first, who is held back, and giving the device up for a while.

The order is a function of the log. Interrupted jobs come first; then priority counts, and within one priority the rank:
that of the submission until somebody moves the job. The events are part of each job's own stream.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from btmd.domain.event import Event, event
from btmd.domain.job_state import JobState
from btmd.errors import Conflict, JobEnded

LEAST_PRIORITY, MOST_PRIORITY = -100, 100
RANK_DIGITS = 15
WAITING = ("queued", "recovering")


@event("JobPrioritySet")
class JobPrioritySet(Event, frozen=True):
    """From here on the job stands in the order of submission among those of the same priority."""

    job_id: str
    before: int
    priority: int


@event("JobMoved")
class JobMoved(Event, frozen=True):
    """The job was put right before ``next_job``, whose ``priority`` it took; empty: behind all others.

    ``rank`` sorts as text among jobs of the same priority.
    """

    job_id: str
    next_job: str
    priority: int
    rank: str


@event("JobHeld")
class JobHeld(Event, frozen=True):
    """The job keeps its place and is not started until it is released."""

    job_id: str


@event("JobReleased")
class JobReleased(Event, frozen=True):
    job_id: str


@event("YieldRequested")
class YieldRequested(Event, frozen=True):
    """The trainer is asked to save a checkpoint and leave; the job goes on by itself once ``why`` is over.

    ``why`` is ``quiet_hours``, ``battery`` or ``stopping`` (the daemon ends, and the job goes on with the next one).
    """

    job_id: str
    why: str


@event("JobYielded")
class JobYielded(Event, frozen=True):
    """The trainer has left, and the job waits to go on from ``step``."""

    job_id: str
    step: int


class SetPriority(Struct, frozen=True):
    job_id: str
    priority: int


class MoveJob(Struct, frozen=True):
    """See JobMoved; made by :func:`move_before` and :func:`move_last`."""

    job_id: str
    next_job: str
    priority: int
    rank: str


class HoldJob(Struct, frozen=True):
    job_id: str


class ReleaseJob(Struct, frozen=True):
    job_id: str


class YieldJob(Struct, frozen=True):
    """Free the device for the time being."""

    job_id: str
    why: str


QueueCommand = SetPriority | MoveJob | HoldJob | ReleaseJob | YieldJob


def decide(command: QueueCommand, state: JobState) -> list[Event]:
    """Raises JobEnded, Conflict."""
    job_id = state.job_id
    if isinstance(command, YieldJob):
        return [YieldRequested(job_id, command.why)] if state.running and not state.asked else []
    if state.ended and not isinstance(command, ReleaseJob):
        raise JobEnded(
            f"Job {job_id} has ended already: it is {state.state}.",
            hint="`btmctl queue list` shows the jobs that wait.",
        )
    match command:
        case SetPriority():
            if state.priority == command.priority:
                return []
            return [JobPrioritySet(job_id, state.priority, command.priority)]
        case ReleaseJob():
            return [JobReleased(job_id)] if state.held else []
        case HoldJob():
            _require_waiting(state)
            return [] if state.held else [JobHeld(job_id)]
        case MoveJob():
            _require_waiting(state)
            return [JobMoved(job_id, command.next_job, command.priority, command.rank)]


def _require_waiting(state: JobState) -> None:
    if state.running:
        raise Conflict(
            f"Job {state.job_id} does not wait: it is {state.state}.",
            hint=f"`btmctl jobs pause {state.job_id}` saves a checkpoint and frees the device.",
        )
    if state.state not in WAITING:
        raise Conflict(
            f"Job {state.job_id} is not in the queue: it is {state.state}.",
            hint=f"`btmctl jobs show {state.job_id}` shows how it stands.",
        )


QUEUE_EVENTS = (JobPrioritySet, JobMoved, JobHeld, JobReleased, YieldRequested, JobYielded)


def evolve(state: JobState, happened: Event) -> JobState:
    match happened:
        case JobPrioritySet() | JobMoved():
            return replace(state, priority=happened.priority)
        case JobHeld():
            return replace(state, held=True)
        case JobReleased():
            return replace(state, held=False)
        case YieldRequested():
            return replace(state, asked="yield")
        case JobYielded():
            return replace(state, state="queued", asked="", next_why="resumed")
    return state


# --- the order --------------------------------------------------------------------------------------


class Place(Struct, frozen=True):
    """Where an unfinished job stands. ``interrupted``: it was at work and is taken up again by itself."""

    job_id: str
    state: str
    priority: int
    rank: str
    seq: int
    """Of its submission."""
    held: bool = False
    interrupted: bool = False
    attempt: int = 0

    @property
    def waiting(self) -> bool:
        return self.state in WAITING


def order(places: Iterable[Place]) -> list[Place]:
    """Those whose turn comes first, first."""
    return sorted(places, key=lambda one: (not one.interrupted, -one.priority, one.rank, one.seq))


def rank_of(seq: int) -> str:
    """The rank of a job that nobody moved: that of its submission."""
    return f"{seq:0{RANK_DIGITS}d}"


def rank_between(low: str, high: str) -> str:
    """A rank that sorts after ``low`` and before ``high``, near ``high``; both are digits, read as after a point."""
    width = max(len(low), len(high), RANK_DIGITS)
    unit = 10 ** (width - RANK_DIGITS + 1)
    above = int(high.ljust(width + 1, "0"))
    # No further down than one submission: who is submitted or returns to its own place later stays ahead of both.
    below = max(int(low.ljust(width + 1, "0") or 0), above - unit)
    return f"{(below + above) // 2:0{width + 1}d}".rstrip("0")


def move_before(places: Sequence[Place], job_id: str, next_job: str) -> MoveJob:
    """Put a job right before another; ``places`` are all unfinished jobs. Raises Conflict."""
    if job_id == next_job:
        raise Conflict(f"Job {job_id} cannot stand before itself.")
    moved, target = _of(places, job_id), _of(places, next_job)
    for one in (moved, target):
        if one.interrupted and one.waiting:
            raise Conflict(
                f"Job {one.job_id} was interrupted and is taken up again before all others.",
                hint=f"`btmctl queue hold {one.job_id}` lets the others go first.",
            )
    if not target.waiting:
        raise Conflict(
            f"Job {next_job} does not wait: it is {target.state}.",
            hint="`btmctl queue list` shows the jobs that wait.",
        )
    line = [one for one in order(_settled(places)) if one.job_id != job_id]
    at = next(index for index, one in enumerate(line) if one.job_id == next_job)
    ahead = line[at - 1] if at else None
    low = ahead.rank if ahead is not None and ahead.priority == target.priority else ""
    return MoveJob(job_id, next_job, target.priority, rank_between(low, target.rank))


def move_first(places: Sequence[Place], job_id: str) -> MoveJob | None:
    """Put a job before all that wait and were not interrupted; None when it stands there. Raises Conflict."""
    first = next((one for one in order(places) if one.waiting and not one.interrupted), None)
    return None if first is None or first.job_id == job_id else move_before(places, job_id, first.job_id)


def move_last(places: Sequence[Place], job_id: str) -> MoveJob | None:
    """Put a job behind all that wait; None when it stands there. Raises Conflict."""
    moved = _of(places, job_id)
    last = [one for one in order(_settled(places)) if one.waiting or one.job_id == job_id][-1]
    if last.job_id == job_id:
        return None
    if moved.interrupted and moved.waiting:
        raise Conflict(
            f"Job {job_id} was interrupted and is taken up again before all others.",
            hint=f"`btmctl queue hold {job_id}` lets the others go first.",
        )
    return MoveJob(job_id, "", last.priority, last.rank + "5")


def overtaken(places: Sequence[Place], command: MoveJob) -> list[str]:
    """The waiting jobs that come after the moved one then and did not before."""
    before = [one.job_id for one in order(places)]
    ahead = set(before[: before.index(command.job_id)])
    moved = [
        replace(one, priority=command.priority, rank=command.rank) if one.job_id == command.job_id else one
        for one in places
    ]
    after = [one for one in order(moved)]
    at = next(index for index, one in enumerate(after) if one.job_id == command.job_id)
    return [one.job_id for one in after[at + 1 :] if one.waiting and one.job_id in ahead]


def _settled(places: Iterable[Place]) -> list[Place]:
    """As they stand among each other once nothing is interrupted any more."""
    return [Place(one.job_id, one.state, one.priority, one.rank, one.seq, one.held) for one in places]


def _of(places: Sequence[Place], job_id: str) -> Place:
    found = next((one for one in places if one.job_id == job_id), None)
    if found is None:
        raise JobEnded(f"Job {job_id} has ended already.", hint="`btmctl queue list` shows the jobs that wait.")
    return found
