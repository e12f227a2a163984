"""Settings: one typed schema, and the history of every change to them."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from btmd.domain.event import Event, event
from btmd.domain.settings_file import RejectFile, SettingsFileRejected, SettingsFileSaved, TakeFile
from btmd.errors import ChangedSince, Conflict, InvalidValue, UnknownKey

STREAM = "settings"
Value = int | float | bool | str


@dataclass(frozen=True, slots=True)
class Setting:
    """One value a person can change: its type, unit, range and meaning."""

    key: str
    default: Value
    meaning: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    needs_restart: bool = False

    @property
    def type_name(self) -> str:
        return {bool: "yes/no", int: "whole number", float: "number", str: "text"}[type(self.default)]

    def parse(self, given: object) -> Value:
        """The value in the setting's own type, from that type or from text. Raises InvalidValue."""
        value = self._typed(given)
        if self.choices and value not in self.choices:
            raise InvalidValue(f"{self.key} cannot be {given!r}.", hint=f"Choose one of: {', '.join(self.choices)}.")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            low, high = self.minimum, self.maximum
            # Written so that NaN, which compares false with everything, is refused too.
            if not ((low is None or value >= low) and (high is None or value <= high) and abs(value) < 1e300):
                raise InvalidValue(f"{self.key} cannot be {given}.", hint=f"It is {self.range_text()}.")
        return value

    def range_text(self) -> str:
        """The allowed values in words."""
        unit = f" {self.unit}" if self.unit else ""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.minimum is not None and self.maximum is not None:
            return f"a {self.type_name} from {_in_full(self.minimum)} to {_in_full(self.maximum)}{unit}"
        if self.minimum is not None:
            return f"a {self.type_name} of at least {_in_full(self.minimum)}{unit}"
        return f"a {self.type_name}{unit}"

    def _typed(self, given: object) -> Value:
        kind = type(self.default)
        wrong = InvalidValue(f"{self.key} cannot be {given!r}.", hint=f"It is {self.range_text()}.")
        if kind is bool:
            words = {
                "true": True,
                "yes": True,
                "on": True,
                "1": True,
                "false": False,
                "no": False,
                "off": False,
                "0": False,
            }
            if isinstance(given, bool):
                return given
            if isinstance(given, str) and given.strip().lower() in words:
                return words[given.strip().lower()]
            raise wrong
        if kind is str:
            if isinstance(given, str) and "\0" not in given and len(given) <= 10_000:
                return given
            raise wrong
        if isinstance(given, bool) or not isinstance(given, (int, float, str)):
            raise wrong
        try:
            number = float(given)
            whole = int(given) if isinstance(given, (int, str)) and kind is int else None
        except (ValueError, OverflowError):
            raise wrong from None
        if kind is float:
            return number
        if whole is None:
            if not number.is_integer():
                raise wrong
            whole = int(number)
        return whole


def _in_full(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else f"{number:g}"


SCHEMA: tuple[Setting, ...] = (
    Setting("training.preset", "auto", "Preset used when none is named; auto chooses by model, data and machine."),
    Setting("training.threads", 0, "CPU threads of a training; 0 uses all that this machine grants.", "", 0, 1024),
    Setting("training.seed", 42, "Seed of everything random in a training.", "", 0, 2**31 - 1),
    Setting(
        "training.held_out_fraction",
        0.1,
        "Share of the rows kept back to measure whether it got better.",
        "",
        0.01,
        0.5,
    ),
    Setting(
        "training.held_out_limit",
        200,
        "At most this many held-out rows are measured each time; 0 takes all.",
        "rows",
        0,
        1_000_000,
    ),
    Setting("training.evaluations", 6, "Held-out measurements during a run, besides before and after.", "", 0, 1000),
    Setting(
        "training.patience",
        3,
        "Measurements without gain before a run ends early (from 3 epochs on); 0 never.",
        "",
        0,
        1000,
    ),
    Setting("training.sample_answers", 3, "Held-out prompts answered before and after training.", "prompts", 0, 200),
    Setting("training.sample_tokens", 64, "Length of a sample answer at most.", "tokens", 1, 4096),
    Setting("training.tick_every_s", 1.0, "Time between two progress reports.", "seconds", 0.1, 3600),
    Setting("checkpoints.keep", 2, "Newest checkpoints kept beside the best one.", "", 1, 100),
    Setting(
        "checkpoints.every_minutes",
        10.0,
        "Time between two checkpoints, as far as it can be foretold.",
        "minutes",
        0.1,
        1440,
    ),
    Setting("jobs.crash_resumes", 3, "How often a crashed training is taken up again by itself.", "", 0, 100),
    Setting(
        "jobs.cancel_grace_s",
        8.0,
        "How long a cancelled training may take to end before it is killed.",
        "seconds",
        0.0,
        9.0,
    ),
    Setting("disk.reserve_gb", 1.0, "Room on the disk that a training must leave free.", "GB", 0, 10_000),
    Setting("uploads.max_gb", 20.0, "Largest file that can be added as a dataset.", "GB", 0.001, 10_000),
    Setting("chat.max_new_tokens", 256, "Length of an answer in a chat at most.", "tokens", 1, 8192),
    Setting("chat.temperature", 0.0, "0 gives the most likely answer; higher values vary more.", "", 0, 2),
    Setting("chat.idle_s", 120.0, "How long a model stays loaded after the last question.", "seconds", 1, 86_400),
    Setting("backup.every_hours", 24.0, "Time between two backups made by themselves; 0 makes none.", "hours", 0, 8760),
    Setting("backup.wait_hours", 6.0, "How long a due backup waits for a training to end.", "hours", 0, 8760),
    Setting("backup.drill_every_days", 7.0, "Time between two restore drills; 0 makes none.", "days", 0, 3650),
    Setting("backup.keep_last", 7, "Newest backups of each kind that are kept.", "", 1, 10_000),
    Setting("backup.keep_daily", 7, "Days for which the newest backup is kept.", "days", 0, 10_000),
    Setting("backup.keep_weekly", 4, "Weeks for which the newest backup is kept.", "weeks", 0, 10_000),
    Setting("backup.keep_monthly", 6, "Months for which the newest backup is kept.", "months", 0, 10_000),
    Setting("backup.max_gb", 0.0, "Room for backups in the state folder; 0 sets no bound.", "GB", 0, 1_000_000),
    Setting(
        "log.condense_after_days",
        7.0,
        "Progress of trainings that is older than this is condensed, without loss.",
        "days",
        0,
        36_500,
    ),
    Setting(
        "log.max_tick_mb",
        64.0,
        "Room for progress that is not condensed; beyond it, that of ended trainings is condensed sooner.",
        "MB",
        1,
        1_000_000,
    ),
    Setting(
        "log.level",
        "info",
        "How much the daemon writes into its own log.",
        choices=("debug", "info", "warning", "error"),
        needs_restart=True,
    ),
)
BY_KEY: Mapping[str, Setting] = {setting.key: setting for setting in SCHEMA}


def setting(key: str) -> Setting:
    """The setting named ``key``. Raises UnknownKey with the nearest name."""
    found = BY_KEY.get(key)
    if found is None:
        near = difflib.get_close_matches(key, BY_KEY, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}?" if near else "`btmctl config list` shows all settings."
        raise UnknownKey(f"There is no setting called {key}.", hint=hint)
    return found


@event("SettingChanged")
class SettingChanged(Event):
    """``before`` and ``after`` are None where the default applied or applies again.

    ``change_id`` is that of a change which waits, or waited, to be confirmed.
    """

    key: str
    before: Value | None
    after: Value | None
    why: str = ""
    change_id: str = ""


@event("ConfirmationAsked")
class ConfirmationAsked(Event):
    """The change that follows is taken back unless it is confirmed by ``deadline_us`` (microseconds, wall clock)."""

    change_id: str
    deadline_us: int


@event("ChangeConfirmed")
class ChangeConfirmed(Event):
    change_id: str


@event("ChangeTakenBack")
class ChangeTakenBack(Event):
    """Nobody confirmed the change in time; the values it found follow."""

    change_id: str


@dataclass(frozen=True, slots=True)
class ChangeSettings:
    """Change several settings at once; a value of None takes the default again.

    With ``confirm_by_us`` the change, known as ``change_id``, is taken back then unless it was confirmed.
    """

    changes: Mapping[str, object]
    why: str = ""
    confirm_by_us: int | None = None
    change_id: str = ""


@dataclass(frozen=True, slots=True)
class ConfirmChange:
    """Keep a change that waits for it; None is the newest of them."""

    change_id: str | None


@dataclass(frozen=True, slots=True)
class TakeBackUnconfirmed:
    """Take back what nobody confirmed until ``now_us``."""

    now_us: int


@dataclass(frozen=True, slots=True)
class UndoChange:
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


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A change that waits to be confirmed, and what its settings go back to. A setting changed since is not in it."""

    change_id: str
    deadline_us: int
    before: dict[str, Value | None]


@dataclass(frozen=True, slots=True)
class SettingsState:
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


def schema_entry(one: Setting) -> dict[str, Any]:
    """What a setting may be, for people and programs."""
    return {
        "key": one.key,
        "type": one.type_name,
        "default": one.default,
        "unit": one.unit,
        "minimum": one.minimum,
        "maximum": one.maximum,
        "choices": list(one.choices),
        "allowed": one.range_text(),
        "meaning": one.meaning,
        "needs_restart": one.needs_restart,
    }
