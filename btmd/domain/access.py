"""Who may use the daemon, and as what: grants and revocations, each with who gave it and why."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from btmd.domain.event import Event, event
from btmd.errors import InvalidValue, NotFound

STREAM = "access"
ROLES = ("viewer", "trainer", "admin")
"""From the one that may least: look; start and steer trainings of their own; change how the daemon works."""


class AccessNotFound(NotFound):
    code, title = "access_not_found", "Nothing was granted to them"


@event("AccessGranted")
class AccessGranted(Event):
    """``subject`` is a user's name or, with ``@`` before it, a group's; ``kernel_id`` the kernel's number for it.

    ``before`` is the role that the subject had, None for none. ``by_restore``: it came with an earlier state.
    """

    subject: str
    kernel_id: int
    role: str
    before: str | None = None
    why: str = ""
    by_restore: bool = False


@event("AccessRevoked")
class AccessRevoked(Event):
    """``role`` is the one that was taken away. ``by_restore``: an earlier state had none."""

    subject: str
    kernel_id: int
    role: str
    why: str = ""
    by_restore: bool = False


@dataclass(frozen=True, slots=True)
class GrantAccess:
    subject: str
    kernel_id: int
    role: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class RevokeAccess:
    subject: str
    why: str = ""


AccessCommand = GrantAccess | RevokeAccess


@dataclass(frozen=True, slots=True)
class Grant:
    kernel_id: int
    role: str


@dataclass(frozen=True, slots=True)
class AccessState:
    """By subject, what was granted and not revoked."""

    grants: dict[str, Grant] = field(default_factory=dict)


def stream(command: AccessCommand) -> str:
    return STREAM


def decide(command: AccessCommand, state: AccessState | None) -> list[Event]:
    """Raises InvalidValue for a role that there is not, AccessNotFound."""
    grants = (state or AccessState()).grants
    present = grants.get(command.subject)
    if isinstance(command, GrantAccess):
        if command.role not in ROLES:
            raise InvalidValue(
                f"There is no role called {command.role[:60]!r}.", hint=f"There are: {', '.join(ROLES)}."
            )
        if present == Grant(command.kernel_id, command.role):
            return []
        before = None if present is None else present.role
        return [AccessGranted(command.subject, command.kernel_id, command.role, before, command.why)]
    if present is None:
        raise AccessNotFound(
            f"Nothing was granted to {command.subject[:60]}.", hint="`btmctl access list` shows who has what."
        )
    return [AccessRevoked(command.subject, present.kernel_id, present.role, command.why)]


def rank(role: str | None) -> int:
    """How much a role may; 0 for none, and for one that this release does not know."""
    return ROLES.index(role) + 1 if role in ROLES else 0


def withdrawn(happened: Sequence[Event]) -> set[str]:
    """The subjects that somebody took something from by these events and did not give back.

    What went with a restore is not meant: its undo brings it back.
    """
    lost: dict[str, int] = {}
    for one in happened:
        if isinstance(one, (AccessRevoked, AccessGranted)) and one.by_restore:
            continue
        if isinstance(one, AccessRevoked):
            lost[one.subject] = max(lost.get(one.subject, 0), rank(one.role))
        elif isinstance(one, AccessGranted):
            most = max(lost.get(one.subject, 0), rank(one.before))
            lost[one.subject] = 0 if rank(one.role) >= most else most
    return {subject for subject, most in lost.items() if most}


def evolve(state: AccessState | None, happened: Event) -> AccessState:
    state = state or AccessState()
    match happened:
        case AccessGranted():
            return AccessState({**state.grants, happened.subject: Grant(happened.kernel_id, happened.role)})
        case AccessRevoked():
            return AccessState({name: one for name, one in state.grants.items() if name != happened.subject})
    return state
