"""Settings as the history of every change to them; what can be set is in settings_schema."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from btmd.domain.event import Event, event
from btmd.domain.settings_file import RejectFile, SettingsFileRejected, SettingsFileSaved, TakeFile
from btmd.domain.settings_schema import BY_KEY, SCHEMA, Setting, Value, setting
from btmd.errors import ChangedSince, Conflict

STREAM = "settings"


@event("SettingChanged")
class SettingChanged(Event, frozen=True):
    """``before`` and ``after`` are None where the default applied or applies again.

    ``change_id`` is that of a change which waits, or waited, to be confirmed.
    """

    key: str
    before: Value | None
    after: Value | None
    why: str = ""
    change_id: str = ""


@event("ConfirmationAsked")
class ConfirmationAsked(Event, frozen=True):
    """The change that follows is taken back unless it is confirmed by ``deadline_us`` (microseconds, wall clock)."""

    change_id: str
    deadline_us: int


@event("ChangeConfirmed")
class ChangeConfirmed(Event, frozen=True):
    change_id: str


@event("ChangeTakenBack")
class ChangeTakenBack(Event, frozen=True):
    """Nobody confirmed the change in time; the values it found follow."""

    change_id: str


class ChangeSettings(Struct, frozen=True):
    """Change several settings at once; a value of None takes the default again.

    With ``confirm_by_us`` the change, known as ``change_id``, is taken back then unless it was confirmed.
    """

    changes: Mapping[str, object]
    why: str = ""
    confirm_by_us: int | None = None
    change_id: str = ""


class ConfirmChange(Struct, frozen=True):
    """Keep a change that waits for it; None is the newest of them."""

    change_id: str | None


class TakeBackUnconfirmed(Struct, frozen=True):
    """Take back what nobody confirmed until ``now_us``."""

    now_us: int


class UndoChange(Struct, frozen=True):
    """Give the settings of change ``number`` the values they had before it, None being the default.

    ``before`` and ``after`` are what the change found and left. Values that were changed again since are only touched
    with ``force``.
    """

    number: int
    before: Mapping[str, Value | None]
    after: Mapping[str, Value | None]
    why: str = ""
    force: bool = False


SettingsCommand = ChangeSettings | UndoChange | ConfirmChange | TakeBackUnconfirmed | TakeFile | RejectFile


class Unconfirmed(Struct, frozen=True):
    """A change that waits to be confirmed, and what its settings go back to. A setting changed since is not in it."""

    change_id: str
    deadline_us: int
    before: dict[str, Value | None]


class SettingsState(Struct, frozen=True):
    """The values that were set, everything else having its default; ``unconfirmed`` changes, oldest first."""

    values: dict[str, Value] = field(default_factory=dict)
    unconfirmed: tuple[Unconfirmed, ...] = ()

    def get(self, key: str) -> Value:
        return self.values.get(key, setting(key).default)

    def all(self) -> dict[str, Value]:
        return {one.key: self.get(one.key) for one in SCHEMA}


def stream(command: SettingsCommand) -> str:
    return STREAM


def decide(command: SettingsCommand, state: SettingsState | None) -> list[Event]:
    """All changes or none. Raises UnknownKey, InvalidValue, ChangedSince, Conflict."""
    state = state or SettingsState()
    match command:
        case UndoChange():
            return _undo(command, state.values)
        case ConfirmChange():
            return _confirm(command, state)
        case TakeBackUnconfirmed():
            return _take_back(command, state)
        case RejectFile():
            return [SettingsFileRejected(command.sha256, command.line, command.reason)]
        case TakeFile():
            saved = SettingsFileSaved(command.sha256, command.took_back)
            return [saved, *changes(state.values, command.changes, command.why)]
    made = changes(state.values, command.changes, command.why)
    if command.confirm_by_us is None or not made:
        return [*made]
    asked = ConfirmationAsked(command.change_id, command.confirm_by_us)
    return [asked, *(replace(one, change_id=command.change_id) for one in made)]


def changes(values: Mapping[str, Value], wanted: Mapping[str, object], why: str) -> list[SettingChanged]:
    """What makes of ``values`` the wanted ones; keys that are not named stay. Raises UnknownKey, InvalidValue."""
    events: list[SettingChanged] = []
    for key, given in wanted.items():
        known = setting(key)
        after = None if given is None else known.parse(given)
        before = values.get(key)
        if after != before or type(after) is not type(before):
            events.append(SettingChanged(key, before, after, why))
    return events


def _undo(command: UndoChange, values: Mapping[str, Value]) -> list[Event]:
    again = [key for key, after in command.after.items() if key in BY_KEY and values.get(key) != after]
    if again and not command.force:
        raise ChangedSince(
            f"{', '.join(again)} changed again since change {command.number}.",
            hint=f"`btmctl config undo {command.number} --force` takes the later change back too.",
        )
    # A setting that this release no longer has cannot be given a value.
    wanted = {key: before for key, before in command.before.items() if key in BY_KEY}
    return [*changes(values, wanted, command.why or f"undo of {command.number}")]


def _confirm(command: ConfirmChange, state: SettingsState) -> list[Event]:
    waiting = [one.change_id for one in state.unconfirmed]
    if not waiting or command.change_id not in (None, *waiting):
        raise Conflict(
            "Nothing waits to be confirmed." if not waiting else "This change does not wait to be confirmed.",
            hint="`btmctl config history` shows what does.",
        )
    return [ChangeConfirmed(command.change_id or waiting[-1])]


def _take_back(command: TakeBackUnconfirmed, state: SettingsState) -> list[Event]:
    events: list[Event] = []
    for late in [one for one in state.unconfirmed if one.deadline_us <= command.now_us]:
        # As it stands after those before it: what lies below a later change goes back with that one.
        now = next(one for one in state.unconfirmed if one.change_id == late.change_id)
        later = state.unconfirmed[state.unconfirmed.index(now) + 1 :]
        covered = {key for one in later for key in one.before}
        back = changes_back({key: value for key, value in now.before.items() if key not in covered}, state.values)
        made = [ChangeTakenBack(late.change_id), *(replace(one, change_id=late.change_id) for one in back)]
        for happened in made:
            state = evolve(state, happened)
        events += made
    return events


def changes_back(before: Mapping[str, Value | None], values: Mapping[str, Value]) -> list[SettingChanged]:
    """What gives settings of this release the values they had."""
    return [
        SettingChanged(key, values.get(key), value, "not confirmed in time")
        for key, value in before.items()
        if key in BY_KEY and values.get(key) != value
    ]


def evolve(state: SettingsState | None, happened: Event) -> SettingsState:
    state = state or SettingsState()
    match happened:
        case SettingChanged():
            values = {key: value for key, value in state.values.items() if key != happened.key}
            if happened.after is not None:
                values[happened.key] = happened.after
            return SettingsState(values, _after_change(state.unconfirmed, happened))
        case ConfirmationAsked():
            asked = Unconfirmed(happened.change_id, happened.deadline_us, {})
            return replace(state, unconfirmed=(*state.unconfirmed, asked))
        case ChangeConfirmed() | ChangeTakenBack():
            return replace(state, unconfirmed=_after_answer(state.unconfirmed, happened))
    return state


def _after_change(unconfirmed: tuple[Unconfirmed, ...], happened: SettingChanged) -> tuple[Unconfirmed, ...]:
    if happened.change_id:
        return tuple(
            replace(one, before={**one.before, happened.key: happened.before})
            if one.change_id == happened.change_id
            else one
            for one in unconfirmed
        )
    # Somebody set it for good: what waits is not about this setting any more.
    left = (_without(one, {happened.key}) if happened.key in one.before else one for one in unconfirmed)
    return tuple(one for one in left if one.before)


def _after_answer(
    unconfirmed: tuple[Unconfirmed, ...], answer: ChangeConfirmed | ChangeTakenBack
) -> tuple[Unconfirmed, ...]:
    answered = next((one for one in unconfirmed if one.change_id == answer.change_id), None)
    if answered is None:
        return unconfirmed
    at = unconfirmed.index(answered)
    older, newer = unconfirmed[:at], unconfirmed[at + 1 :]
    if isinstance(answer, ChangeConfirmed):
        kept = (_without(one, set(answered.before)) for one in older)
        return (*(one for one in kept if one.before), *newer)
    # The next change of the same setting now stands on what was before the one taken back.
    handed_on = dict(answered.before)
    below: list[Unconfirmed] = []
    for one in newer:
        shared = {key: handed_on.pop(key) for key in one.before if key in handed_on}
        below.append(replace(one, before={**one.before, **shared}))
    return (*older, *below)


def _without(one: Unconfirmed, keys: set[str]) -> Unconfirmed:
    return replace(one, before={key: value for key, value in one.before.items() if key not in keys})


def describe(one: Setting, state: SettingsState) -> dict[str, Any]:
    """A setting with its present value, for people and programs."""
    return {
        "key": one.key,
        "value": state.get(one.key),
        "default": one.default,
        "is_default": one.key not in state.values,
        "type": one.type_name,
        "unit": one.unit,
        "allowed": one.range_text(),
        "meaning": one.meaning,
        "needs_restart": one.needs_restart,
    }
