"""What of a job's files goes: checkpoints that are not needed, or all of it. Its history stays in the log."""

from msgspec import Struct
from msgspec.structs import replace

from btmd.domain.event import Event, event
from btmd.domain.job_state import JobState
from btmd.errors import Conflict, JobNotFound


@event("CheckpointsRemoved")
class CheckpointsRemoved(Event, frozen=True):
    """Checkpoints went to make room. ``why``: ``asked``, or ``budget`` for disk.budget_gb.

    ``left_step`` is the step of the newest that stayed; None where none did.
    """

    job_id: str
    names: tuple[str, ...]
    freed_bytes: int
    why: str
    left_step: int | None = None


@event("JobDeleted")
class JobDeleted(Event, frozen=True):
    """The job is not shown any more, and its folder goes."""

    job_id: str
    freed_bytes: int


class NoteRemoved(Struct, frozen=True):
    """Checkpoints are gone. See CheckpointsRemoved."""

    job_id: str
    names: tuple[str, ...]
    freed_bytes: int
    why: str
    left_step: int | None


class DeleteJob(Struct, frozen=True):
    job_id: str
    freed_bytes: int


HousekeepingCommand = NoteRemoved | DeleteJob
HOUSEKEEPING_EVENTS = (CheckpointsRemoved, JobDeleted)


def require_there(state: JobState) -> None:
    """Raises JobNotFound for a job that was deleted."""
    if state.deleted:
        raise JobNotFound(
            f"The job {state.job_id} was deleted.", hint=f"`btmctl events --stream job-{state.job_id}` has its history."
        )


def decide(command: HousekeepingCommand, state: JobState) -> list[Event]:
    """Raises JobNotFound, Conflict."""
    require_there(state)
    if isinstance(command, NoteRemoved):
        if not command.names:
            return []
        return [CheckpointsRemoved(command.job_id, command.names, command.freed_bytes, command.why, command.left_step)]
    if not state.ended:
        raise Conflict(
            f"Job {state.job_id} has not ended: it is {state.state}.",
            hint=f"`btmctl jobs cancel {state.job_id}` ends it without a result, `stop` keeps what it has learned.",
        )
    return [JobDeleted(command.job_id, command.freed_bytes)]


def evolve(state: JobState, happened: Event) -> JobState:
    match happened:
        case CheckpointsRemoved():
            return state if state.state == "completed" else replace(state, best_step=happened.left_step)
        case JobDeleted():
            return replace(state, deleted=True)
    return state
