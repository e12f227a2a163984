"""The machine and the daemon on it: starts, stops, jumps of the clock, refused requests."""

from dataclasses import dataclass, replace

from btmd.domain.event import Event, event

STREAM = "machine"


@event("DaemonStarted")
class DaemonStarted(Event):
    version: str
    boot_id: str
    pid: int


@event("DaemonStopped")
class DaemonStopped(Event):
    reason: str


@event("ClockJumped")
class ClockJumped(Event):
    """The wall clock moved against the monotonic one by ``jump_us`` microseconds since the append before."""

    jump_us: int


@event("OperationRefused")
class OperationRefused(Event):
    """Somebody was refused: what they asked for, and the error's code.

    ``more``: refusals of the same user since the one before that were too many to be recorded one by one.
    """

    operation: str
    code: str
    more: int = 0


@event("MachineWoke")
class MachineWoke(Event):
    """The machine slept while trainings ran; its devices were looked at again. ``lost``: those whose GPU is gone."""

    slept_s: float
    gpus: tuple[str, ...]
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StartDaemon:
    version: str
    boot_id: str
    pid: int


@dataclass(frozen=True, slots=True)
class StopDaemon:
    reason: str


@dataclass(frozen=True, slots=True)
class RefuseOperation:
    operation: str
    code: str
    more: int = 0


@dataclass(frozen=True, slots=True)
class NoteWaking:
    """The machine woke after ``slept_s`` seconds. See MachineWoke."""

    slept_s: float
    gpus: tuple[str, ...]
    lost: tuple[str, ...]


MachineCommand = StartDaemon | StopDaemon | RefuseOperation | NoteWaking


@dataclass(frozen=True, slots=True)
class MachineState:
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
