"""Who may use the daemon, as what and how much of it: each with who gave it and why."""

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from btmd.domain.event import Event, event
from btmd.errors import InvalidValue, NotFound

STREAM = "access"
ROLES = ("viewer", "trainer", "admin")
"""From the one that may least: look; start and steer trainings of their own; change how the daemon works."""
VIEWER, TRAINER, ADMIN = ROLES
LIMITS = {
    "running_jobs": "trainings at the same time",
    "disk_gb": "GB for datasets, models and trainings together",
    "priority": "the highest priority of a training",
}
"""What can be limited for those who are no admins. Without a limit: any number, any size, and the priority 0."""
MOST_LIMIT = 1_000_000


class AccessNotFound(NotFound):
    code, title = "access_not_found", "Nothing was granted to them"


@event("AccessGranted")
class AccessGranted(Event, frozen=True):
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
class AccessRevoked(Event, frozen=True):
    """``role`` is the one that was taken away. ``by_restore``: an earlier state had none."""

    subject: str
    kernel_id: int
    role: str
    why: str = ""
    by_restore: bool = False


@event("LimitChanged")
class LimitChanged(Event, frozen=True):
    """``limit`` is one of LIMITS, in its unit; None for no limit. ``subject``: as in AccessGranted."""

    subject: str
    kernel_id: int
    limit: str
    before: float | None
    after: float | None
    why: str = ""


class GrantAccess(Struct, frozen=True):
    subject: str
    kernel_id: int
    role: str
    why: str = ""


class RevokeAccess(Struct, frozen=True):
    subject: str
    why: str = ""


class ChangeLimits(Struct, frozen=True):
    """Set limits, None taking one away. A part of them alone is refused like all."""

    subject: str
    kernel_id: int
    limits: dict[str, float | None]
    why: str = ""


AccessCommand = GrantAccess | RevokeAccess | ChangeLimits


class Grant(Struct, frozen=True):
    kernel_id: int
    role: str


class Limited(Struct, frozen=True):
    kernel_id: int
    limits: dict[str, float]


class AccessState(Struct, frozen=True):
    """By subject, what was granted and not revoked, and what was limited."""

    grants: dict[str, Grant] = field(default_factory=dict)
    limited: dict[str, Limited] = field(default_factory=dict)


def stream(command: AccessCommand) -> str:
    return STREAM


def decide(command: AccessCommand, state: AccessState | None) -> list[Event]:
    """Raises InvalidValue for a role or limit that there is not, AccessNotFound."""
    if isinstance(command, ChangeLimits):
        return _change_limits(command, state or AccessState())
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


def _change_limits(command: ChangeLimits, state: AccessState) -> list[Event]:
    present = state.limited.get(command.subject)
    before = present.limits if present is not None and present.kernel_id == command.kernel_id else {}
    events: list[Event] = []
    for name, value in command.limits.items():
        if name not in LIMITS:
            raise InvalidValue(f"There is no limit called {name[:60]!r}.", hint=f"There are: {', '.join(LIMITS)}.")
        if value is not None:
            if not -MOST_LIMIT <= value <= MOST_LIMIT or (value < 0 and name != "priority"):
                raise InvalidValue(f"{name} cannot be {value:g}.", hint=f"It says {LIMITS[name]}.")
            if name != "disk_gb" and value != int(value):
                raise InvalidValue(f"{name} is a whole number.", hint=f"It says {LIMITS[name]}.")
        if before.get(name) != value:
            events.append(LimitChanged(command.subject, command.kernel_id, name, before.get(name), value, command.why))
    return events


def role_of(uid: int, groups: Collection[int], state: AccessState | None, own_uid: int) -> str | None:
    """The most that was granted to the user or one of their groups; the daemon's own user and root are admins."""
    if uid in (own_uid, 0):
        return ADMIN
    grants = (state or AccessState()).grants
    roles = [one.role for subject, one in grants.items() if is_meant(subject, one.kernel_id, uid, groups)]
    return max((one for one in roles if rank(one)), key=rank, default=None)


def is_meant(subject: str, kernel_id: int, uid: int, groups: Collection[int]) -> bool:
    """Whether what ``subject`` has is for this user. Numbers count, not names: those can be given to somebody else."""
    return kernel_id in groups if subject.startswith("@") else kernel_id == uid


def limits_of(uid: int, groups: Collection[int], state: AccessState | None, own_uid: int) -> Mapping[str, float]:
    """The user's own limits, and for what is not limited so the widest of their groups'; none for an admin."""
    if role_of(uid, groups, state, own_uid) == ADMIN:
        return {}
    limited = (state or AccessState()).limited
    meant = [(subject, one) for subject, one in limited.items() if is_meant(subject, one.kernel_id, uid, groups)]
    found: dict[str, float] = {}
    for _, one in [pair for pair in meant if pair[0].startswith("@")]:
        found |= {name: max(value, found.get(name, value)) for name, value in one.limits.items()}
    for _, one in [pair for pair in meant if not pair[0].startswith("@")]:
        found |= one.limits
    return {"priority": 0, **found}


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
            granted = Grant(happened.kernel_id, happened.role)
            return replace(state, grants={**state.grants, happened.subject: granted})
        case AccessRevoked():
            return replace(state, grants={name: one for name, one in state.grants.items() if name != happened.subject})
        case LimitChanged():
            present = state.limited.get(happened.subject)
            limits = dict(present.limits) if present is not None and present.kernel_id == happened.kernel_id else {}
            limits.pop(happened.limit, None)
            if happened.after is not None:
                limits[happened.limit] = happened.after
            limited = {**state.limited, happened.subject: Limited(happened.kernel_id, limits)}
            if not limits:
                del limited[happened.subject]
            return replace(state, limited=limited)
    return state
