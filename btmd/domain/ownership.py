"""Whose things are: with whom they were shared, and what changed hands.

Jobs, datasets, models and presets belong to who made them. Sharing lets others see and use what is inside; only the
owner, or an admin, changes, ends or passes on.
"""

from msgspec import Struct, field

from btmd.domain.event import Event, event
from btmd.errors import NotFound

STREAM = "ownership"
KINDS = ("job", "dataset", "model", "preset")


class NotShared(NotFound):
    code, title = "not_shared", "It is not shared with them"


@event("ThingShared")
class ThingShared(Event, frozen=True):
    """``subject`` is a user's name or, with ``@`` before it, a group's; ``kernel_id`` the kernel's number for it.

    ``made_us`` is when the thing was made: another one that has its id later is not meant.
    """

    kind: str
    thing_id: str
    made_us: int
    subject: str
    kernel_id: int
    why: str = ""


@event("ThingUnshared")
class ThingUnshared(Event, frozen=True):
    kind: str
    thing_id: str
    made_us: int
    subject: str
    why: str = ""


@event("ThingTransferred")
class ThingTransferred(Event, frozen=True):
    """It belongs to ``to_uid`` from now on. ``made_us``: as in ThingShared."""

    kind: str
    thing_id: str
    made_us: int
    from_uid: int
    to_uid: int
    why: str = ""


class Thing(Struct, frozen=True):
    """Something that has an owner; ``made_us`` tells it from what had its id before."""

    kind: str
    thing_id: str
    made_us: int
    owner_uid: int

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.thing_id}:{self.made_us}"


class ShareThing(Struct, frozen=True):
    thing: Thing
    subject: str
    kernel_id: int
    why: str = ""


class UnshareThing(Struct, frozen=True):
    thing: Thing
    subject: str
    why: str = ""


class TransferThing(Struct, frozen=True):
    thing: Thing
    to_uid: int
    why: str = ""


OwnershipCommand = ShareThing | UnshareThing | TransferThing


class OwnershipState(Struct, frozen=True):
    """``shared``: by a thing's key, the kernel's number of each subject that it is shared with."""

    shared: dict[str, dict[str, int]] = field(default_factory=dict)

    def shared_with(self, thing: Thing) -> dict[str, int]:
        return self.shared.get(thing.key, {})


def stream(command: OwnershipCommand) -> str:
    return STREAM


def decide(command: OwnershipCommand, state: OwnershipState | None) -> list[Event]:
    """Raises NotShared."""
    thing = command.thing
    present = (state or OwnershipState()).shared_with(thing)
    match command:
        case ShareThing():
            if present.get(command.subject) == command.kernel_id:
                return []
            return [
                ThingShared(thing.kind, thing.thing_id, thing.made_us, command.subject, command.kernel_id, command.why)
            ]
        case UnshareThing():
            if command.subject not in present:
                raise NotShared(
                    f"The {thing.kind} {thing.thing_id} is not shared with {command.subject[:60]}.",
                    hint=f"It is shared with: {', '.join(sorted(present)) or 'nobody'}.",
                )
            return [ThingUnshared(thing.kind, thing.thing_id, thing.made_us, command.subject, command.why)]
        case TransferThing():
            if command.to_uid == thing.owner_uid:
                return []
            return [
                ThingTransferred(
                    thing.kind, thing.thing_id, thing.made_us, thing.owner_uid, command.to_uid, command.why
                )
            ]


def evolve(state: OwnershipState | None, happened: Event) -> OwnershipState:
    state = state or OwnershipState()
    if not isinstance(happened, (ThingShared, ThingUnshared)):
        return state
    key = Thing(happened.kind, happened.thing_id, happened.made_us, 0).key
    subjects = dict(state.shared.get(key, {}))
    if isinstance(happened, ThingShared):
        subjects[happened.subject] = happened.kernel_id
    else:
        subjects.pop(happened.subject, None)
    shared = {**state.shared, key: subjects}
    if not subjects:
        del shared[key]
    return OwnershipState(shared)
