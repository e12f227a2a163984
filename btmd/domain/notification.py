"""What people were told without having asked: once each, several in one where they come together."""

from collections.abc import Mapping

from msgspec import Struct, field

from btmd.domain.event import Event, event

STREAM = "notifications"
FINISHED, FAILED, ATTENTION, WARNINGS, PROGRESS = "finished", "failed", "attention", "warnings", "progress"
KINDS = (FINISHED, FAILED, ATTENTION, WARNINGS, PROGRESS)
"""Each can be switched on and off by the setting ``notify.KIND``."""
COMMAND, DESKTOP, SPEECH = "command", "desktop", "speech"
MOST_MARKS = 100


@event("NotificationMade")
class NotificationMade(Event, frozen=True):
    """Something to tell, in words, recorded before it is told: what is on record is not told again.

    ``upto`` is the event up to which everything has been looked at. ``marks`` are percentages of jobs told of.
    """

    kinds: tuple[str, ...]
    job_ids: tuple[str, ...]
    title: str
    text: str
    urgent: bool
    channels: tuple[str, ...]
    upto: int
    marks: dict[str, int] = field(default_factory=dict)


class MakeNotification(Struct, frozen=True):
    made: NotificationMade


NotificationCommand = MakeNotification


class NotificationState(Struct, frozen=True):
    """``upto``: everything up to this event is told, or is not to be; ``marks``: percentages told, by job."""

    upto: int = 0
    marks: Mapping[str, int] = field(default_factory=dict)


def stream(command: NotificationCommand) -> str:
    return STREAM


def decide(command: NotificationCommand, state: NotificationState | None) -> list[Event]:
    return [] if command.made.upto <= (state or NotificationState()).upto else [command.made]


def evolve(state: NotificationState | None, happened: Event) -> NotificationState:
    state = state or NotificationState()
    if not isinstance(happened, NotificationMade):
        return state
    marks = {job_id: percent for job_id, percent in state.marks.items() if job_id not in happened.marks}
    marks |= happened.marks
    return NotificationState(happened.upto, dict(list(marks.items())[-MOST_MARKS:]))
