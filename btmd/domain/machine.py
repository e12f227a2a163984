"""The machine and the daemon on it: starts, stops, jumps of the clock, refused requests."""

from msgspec import Struct
from msgspec.structs import replace

from btmd.domain.event import Event, event

STREAM = "machine"


@event("DaemonStarted")
class DaemonStarted(Event, frozen=True):
    version: str
    boot_id: str
    pid: int


@event("DaemonStopped")
class DaemonStopped(Event, frozen=True):
    reason: str


@event("ClockJumped")
class ClockJumped(Event, frozen=True):
    """The wall clock moved against the monotonic one by ``jump_us`` microseconds since the append before."""

    jump_us: int


@event("OperationRefused")
class OperationRefused(Event, frozen=True):
    """Somebody was refused: what they asked for, and the error's code.

    ``more``: refusals of the same user since the one before that were too many to be recorded one by one.
    """

    operation: str
    code: str
    more: int = 0


@event("MachineWoke")
class MachineWoke(Event, frozen=True):
    """The machine slept while trainings ran; its devices were looked at again. ``lost``: those whose GPU is gone."""

    slept_s: float
    gpus: tuple[str, ...]
    lost: tuple[str, ...] = ()


class StartDaemon(Struct, frozen=True):
    version: str
    boot_id: str
    pid: int


class StopDaemon(Struct, frozen=True):
    reason: str


class RefuseOperation(Struct, frozen=True):
    operation: str
    code: str
    more: int = 0


class NoteWaking(Struct, frozen=True):
    """The machine woke after ``slept_s`` seconds. See MachineWoke."""

    slept_s: float
    gpus: tuple[str, ...]
    lost: tuple[str, ...]


MachineCommand = StartDaemon | StopDaemon | RefuseOperation | NoteWaking


class MachineState(Struct, frozen=True):
    starts: int = 0
    boot_id: str = ""


def stream(command: MachineCommand) -> str:
    return STREAM


def decide(command: MachineCommand, state: MachineState | None) -> list[Event]:
    match command:
        case StartDaemon():
            return [DaemonStarted(command.version, command.boot_id, command.pid)]
        case StopDaemon():
            return [DaemonStopped(command.reason)]
        case RefuseOperation():
            return [OperationRefused(command.operation, command.code, command.more)]
        case NoteWaking():
            return [MachineWoke(command.slept_s, command.gpus, command.lost)]


def evolve(state: MachineState | None, happened: Event) -> MachineState:
    state = state or MachineState()
    if isinstance(happened, DaemonStarted):
        return replace(state, starts=state.starts + 1, boot_id=happened.boot_id)
    return state
