"""Factory resets: what began, what it takes away from the disk, and whether that is done."""

from msgspec import Struct
from msgspec.structs import replace

from btmd.domain.event import Event, event

STREAM = "resets"
PRESERVED = ("settings", "access")
"""What goes back to its defaults where user data is kept; the rest of the components only without."""


@event("FactoryResetStarted")
class FactoryResetStarted(Event, frozen=True):
    """What follows in this transaction leads to the defaults; the backup before it was read through.

    ``jobs``, ``contents`` (SHA-256) and ``models`` (converted ones) name what leaves the disk then.
    """

    reset_id: str
    preserve_user_data: bool
    backup_id: str
    backup_folder: str
    jobs: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


@event("FactoryResetCompleted")
class FactoryResetCompleted(Event, frozen=True):
    """``changed`` counts by component; ``left_alone`` names what stays though it was to go."""

    reset_id: str
    changed: dict[str, int]
    left_alone: tuple[str, ...]
    freed_bytes: int = 0


@event("FactoryResetUndone")
class FactoryResetUndone(Event, frozen=True):
    """Everything of the backup before the reset is there again; so many ``files`` were brought back."""

    reset_id: str
    files: int
    left_alone: tuple[str, ...]


class CompleteReset(Struct, frozen=True):
    """The reset with this id is done, on the disk too."""

    reset_id: str
    changed: dict[str, int]
    left_alone: tuple[str, ...]
    freed_bytes: int


class NoteUndone(Struct, frozen=True):
    reset_id: str
    files: int
    left_alone: tuple[str, ...]


ResetCommand = CompleteReset | NoteUndone


class ResetState(Struct, frozen=True):
    """The newest reset. ``completed`` is False as long as something of it has to leave the disk."""

    reset_id: str
    preserve_user_data: bool
    backup_id: str
    backup_folder: str
    jobs: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    completed: bool = False
    undone: bool = False


def stream(command: ResetCommand) -> str:
    return STREAM


def decide(command: ResetCommand, state: ResetState | None) -> list[Event]:
    if state is None or state.reset_id != command.reset_id:
        return []
    match command:
        case CompleteReset():
            if state.completed:
                return []
            return [FactoryResetCompleted(command.reset_id, command.changed, command.left_alone, command.freed_bytes)]
        case NoteUndone():
            return [FactoryResetUndone(command.reset_id, command.files, command.left_alone)]


def evolve(state: ResetState | None, happened: Event) -> ResetState | None:
    match happened:
        case FactoryResetStarted():
            return ResetState(
                happened.reset_id,
                happened.preserve_user_data,
                happened.backup_id,
                happened.backup_folder,
                happened.jobs,
                happened.contents,
                happened.models,
            )
        case FactoryResetCompleted() if state is not None:
            return replace(state, completed=True)
        case FactoryResetUndone() if state is not None:
            return replace(state, undone=True)
    return state
