"""The last good state, and going back to it: what was taken back by itself, why, and how to have it again."""

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from btmd.domain.event import Event, event
from btmd.domain.settings import SettingChanged
from btmd.domain.settings_schema import BY_KEY, Value
from btmd.errors import InvalidValue

STREAM = "health"
CONFIGURATION_STREAMS = ("settings", "access")
CONFIGURATION_PREFIXES = ("preset-",)
"""What a daemon starts with and a person can change: the streams that falling back looks at."""

EVENTS, VIEWS, SETTINGS, CONFIGURATION, MIGRATION = "events", "views", "settings", "configuration", "migration"


@event("LastGoodNoted")
class LastGoodNoted(Event, frozen=True):
    """A daemon came up well with the configuration after event ``seq``."""

    seq: int
    version: str


@event("FellBack")
class FellBack(Event, frozen=True):
    """Something was taken back to let the daemon come up; ``target_seq`` is the last good configuration.

    ``cause`` is one of ``events``, ``views``, ``settings``, ``configuration``, ``migration``; ``reason`` says what
    failed, ``did`` what was done about it.
    """

    cause: str
    reason: str
    did: str
    target_seq: int


class NoteLastGood(Struct, frozen=True):
    """The daemon came up well with the configuration after event ``seq``."""

    seq: int
    version: str


class NoteFallingBack(Struct, frozen=True):
    """With ``once``, nothing if the newest falling back was the same: it would be told at every start."""

    cause: str
    reason: str
    did: str
    once: bool = False


HealthCommand = NoteLastGood | NoteFallingBack


class HealthState(Struct, frozen=True):
    """``good_seq``: the configuration's newest event when a daemon last came up well; 0 are the defaults."""

    good_seq: int = 0
    version: str = ""
    cause: str = ""
    reason: str = ""
    did: str = ""


def stream(command: HealthCommand) -> str:
    return STREAM


def decide(command: HealthCommand, state: HealthState | None) -> list[Event]:
    state = state or HealthState()
    match command:
        case NoteLastGood():
            known = (command.seq, command.version) == (state.good_seq, state.version)
            return [] if known or not command.seq else [LastGoodNoted(command.seq, command.version)]
        case NoteFallingBack():
            if command.once and (command.cause, command.reason) == (state.cause, state.reason):
                return []
            return [FellBack(command.cause, command.reason, command.did, state.good_seq)]


def evolve(state: HealthState | None, happened: Event) -> HealthState:
    state = state or HealthState()
    match happened:
        case LastGoodNoted():
            return replace(state, good_seq=happened.seq, version=happened.version)
        case FellBack():
            return replace(state, cause=happened.cause, reason=happened.reason, did=happened.did)
    return state


def unfit_settings(values: Mapping[str, Value]) -> dict[str, str]:
    """By key, why this release cannot work with a value that stands in the log."""
    unfit: dict[str, str] = {}
    for key, value in values.items():
        known = BY_KEY.get(key)
        if known is None:
            unfit[key] = f"{key} is no setting of this release."
            continue
        try:
            known.parse(value)
        except InvalidValue as error:
            unfit[key] = f"{error.detail} {error.hint}".strip()
    return unfit


def take_back_unfit(values: Mapping[str, Value], good: Mapping[str, Value], why: str) -> list[SettingChanged]:
    """What gives each unfit setting its last good value, or its default where that is unfit too."""
    back = []
    for key in unfit_settings(values):
        before = good.get(key)
        usable = before is not None and not unfit_settings({key: before})
        back.append(SettingChanged(key, values[key], before if usable else None, why))
    return back
