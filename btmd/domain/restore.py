"""Bringing an earlier state back: what would change, what is left alone and why, and the events that do it.

A restore adds events that lead to the earlier state; nothing is taken out of the log, so it can be undone by another.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from msgspec import Struct, field

from btmd.domain.dataset import (
    ConsentGranted,
    ConsentRevoked,
    DatasetAdded,
    DatasetErased,
    DatasetRemoved,
    DatasetVersionAdded,
)
from btmd.domain.event import Event, event
from btmd.domain.model import ModelAdded, ModelHashed, ModelRemoved, ModelSettingsChanged
from btmd.domain.settings import SettingChanged
from btmd.domain.settings_schema import BY_KEY, Value
from btmd.errors import Conflict, InvalidValue

STREAM = "restores"
COMPONENTS = ("settings", "presets", "models", "datasets", "access")
"""What a complete restore is made of. ``consent`` has to be named: what was revoked stays so otherwise."""
NAMEABLE = (*COMPONENTS, "consent")

Mode = Literal["replace", "merge"]
Prefer = Literal["current", "restored"]


class RestoreConflict(Conflict):
    code, title = "restore_conflict", "Both the present and the earlier state have a value"


@event("RestoreStarted")
class RestoreStarted(Event, frozen=True):
    """What follows in this transaction leads to the state after event ``target_seq``. ``prefer`` is of merges.

    With a ``backup_id`` that event is the last one which this backup holds, perhaps of a log of before.
    """

    restore_id: str
    target_seq: int
    components: tuple[str, ...]
    mode: str
    prefer: str | None
    expected_head: int | None
    forced: bool
    backup_id: str = ""


@event("RestoreCompleted")
class RestoreCompleted(Event, frozen=True):
    """``changed`` counts by component; ``left_alone`` names what could not or must not come back."""

    restore_id: str
    changed: dict[str, int]
    left_alone: tuple[str, ...]


class Manner(Struct, frozen=True):
    """How to restore. ``components`` are of NAMEABLE; with ``merge``, ``prefer`` says who wins where both have one."""

    components: tuple[str, ...] = COMPONENTS
    mode: Mode = "replace"
    prefer: Prefer | None = None


class Restored(Struct, frozen=True):
    """One thing that a restore changes. ``before`` and ``after`` are values, or words for registrations."""

    component: str
    subject: str
    before: Value | None
    after: Value | None


class RestorePlan(Struct):
    """What a restore does. ``events`` by stream; ``conflicts`` have to be decided by ``prefer`` first."""

    changes: list[Restored] = field(default_factory=list)
    conflicts: list[Restored] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)
    events: dict[str, list[Event]] = field(default_factory=dict)

    def change(self, changed: Restored, stream: str, *events: Event) -> None:
        self.changes.append(changed)
        self.events.setdefault(stream, []).extend(events)

    def settle(self, changed: Restored, manner: Manner) -> bool:
        """Whether a merge takes the earlier one where both are there; noted where nobody said."""
        if manner.mode == "replace" or manner.prefer == "restored":
            return True
        if manner.prefer is None:
            self.conflicts.append(changed)
        return False

    def require_settled(self) -> None:
        """Raises RestoreConflict."""
        if self.conflicts:
            named = ", ".join(one.subject for one in self.conflicts[:5])
            raise RestoreConflict(
                f"{len(self.conflicts)} things differ that both states have: {named}.",
                hint="--prefer current keeps them, --prefer restored takes the earlier ones.",
            )


def components(only: Sequence[str] | None) -> tuple[str, ...]:
    """The named components in their order, all for None. Raises InvalidValue."""
    if only is None:
        return COMPONENTS
    unknown = sorted(set(only) - set(NAMEABLE))
    if unknown or not only:
        what = f"There is no part called '{unknown[0][:60]}'." if unknown else "Nothing was named to be restored."
        raise InvalidValue(what, hint=f"Choose from: {', '.join(NAMEABLE)}.")
    return tuple(name for name in NAMEABLE if name in only)


def plan_settings(
    plan: RestorePlan, current: Mapping[str, Value], target: Mapping[str, Value], manner: Manner, why: str
) -> None:
    """The settings: a value that is not there is the default."""
    for key in sorted(current.keys() | target.keys()):
        before, after = current.get(key), target.get(key)
        if before == after and type(before) is type(after):
            continue
        changed = Restored("settings", key, before, after)
        if after is None and manner.mode == "merge":
            continue
        if before is not None and after is not None and not plan.settle(changed, manner):
            continue
        refusal = _unusable(key, after)
        if refusal:
            plan.left_alone.append(refusal)
        else:
            plan.change(changed, "settings", SettingChanged(key, before, after, why))


def _unusable(key: str, value: Value | None) -> str:
    """Why this release cannot take an earlier value."""
    known = BY_KEY.get(key)
    if known is None:
        return f"settings: {key} is no setting of this release"
    try:
        if value is not None:
            known.parse(value)
    except InvalidValue as error:
        return f"settings: {error.detail} {error.hint}"
    return ""


class Registration(Struct, frozen=True):
    """A model or dataset as it was registered: the events that make it so, and the consent it stood under."""

    events: tuple[Event, ...]
    consent: ConsentGranted | None = None
    hashed: ModelHashed | None = None
    """What a model's files are compared with: no part of the configuration, but kept with the same files."""


class Past(Struct, frozen=True):
    """One model or dataset then and now. ``revoked``: consent was withdrawn since; ``needed_by``: a job at work."""

    component: str
    subject: str
    stream: str
    then: Registration | None
    now: Registration | None
    revoked: bool = False
    needed_by: str = ""
    erased: bool = False
    """Somebody had it destroyed since then."""


def registration(events: Sequence[Event]) -> Registration | None:
    """What a stream's events registered; None where it ended or never began."""
    made: tuple[Event, ...] = ()
    consent: ConsentGranted | None = None
    hashed: ModelHashed | None = None
    for happened in events:
        match happened:
            case ModelAdded() | DatasetAdded():
                made, consent, hashed = (happened,), None, None
            case ModelHashed():
                hashed = happened
            case DatasetVersionAdded() if made:
                made = (*made, happened)
            case ModelSettingsChanged() if made:
                # Only the last one says anything, and none of them the same as an empty one.
                made = (made[0], happened) if happened.settings else made[:1]
            case ModelRemoved() | DatasetRemoved() | DatasetErased():
                made, consent = (), None
            case ConsentGranted():
                consent = happened
            case ConsentRevoked():
                consent = None
    return Registration(made, consent, hashed) if made else None


def plan_registration(plan: RestorePlan, past: Past, manner: Manner, missing: Callable[[Registration], str]) -> None:
    """One model or dataset. ``missing`` says which of its files are gone, if any."""
    then, now = past.then, past.now
    if (then and then.events) == (now and now.events):
        return
    before, after = "registered" if now else None, "registered" if then else None
    changed = Restored(past.component, past.subject, before, after)
    if then is None:
        if manner.mode == "merge":
            return
        if past.needed_by:
            plan.left_alone.append(f"{past.component}: {past.subject} stays, the job {past.needed_by} needs it")
            return
        gone = (
            ModelRemoved(past.subject)
            if past.component == "models"
            else DatasetRemoved(past.subject, contents_kept=True)
        )
        plan.change(changed, past.stream, gone)
        return
    if now is not None and not plan.settle(changed, manner):
        return
    lost = "it was erased, for good" if past.erased else missing(then)
    if lost:
        plan.left_alone.append(f"{past.component}: {past.subject} cannot come back, {lost}")
        return
    plan.change(changed, past.stream, *then.events)
    same_files = now is not None and now.events[0] == then.events[0]
    if hashed := (now.hashed if now is not None and same_files else then.hashed):
        plan.events[past.stream].append(hashed)
    if then.consent is None or "consent" in manner.components:
        return
    if past.revoked:
        plan.left_alone.append(f"consent: {past.subject} stays revoked; name consent to bring it back")
    else:
        plan.events[past.stream].append(then.consent)


def plan_consent(plan: RestorePlan, past: Past, manner: Manner, by_uid: int) -> None:
    """The consent of a dataset that is registered after the restore, where consent was named."""
    removed = any(isinstance(one, DatasetRemoved) for one in plan.events.get(past.stream, ()))
    added = any(isinstance(one, DatasetAdded) for one in plan.events.get(past.stream, ()))
    if past.then is None or removed or (past.now is None and not added):
        return
    now = None if added or past.now is None else past.now.consent
    then = past.then.consent
    if (then and then.scopes) == (now and now.scopes):
        return
    before, after = (", ".join(one.scopes) if one is not None else None for one in (now, then))
    changed = Restored("consent", past.subject, before, after)
    if then is None:
        if manner.mode == "replace":
            plan.change(changed, past.stream, ConsentRevoked(past.subject, by_uid))
    elif now is None or plan.settle(changed, manner):
        plan.change(changed, past.stream, then)
