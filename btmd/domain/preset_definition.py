"""Own presets: every definition, change and deletion of one is kept, and none is final."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from btmd.domain.event import Event, event
from btmd.domain.preset import Preset
from btmd.domain.preset_file import PresetFileRejected, PresetFileSaved, RejectPresetFile, TakePresetFile
from btmd.errors import ChangedSince, Conflict, UnknownPreset

PREFIX = "preset-"


class PresetExists(Conflict):
    code, title = "preset_exists", "There is such a preset already"


@event("PresetCreated")
class PresetCreated(Event, frozen=True):
    """``made_from`` is the key of the preset it began as, empty where it began as a file or as values.

    ``given_back``: an undo or a restore made it of one that was deleted, and it belongs to whom that belonged to.
    """

    key: str
    preset: Preset
    made_from: str = ""
    why: str = ""
    given_back: bool = False


@event("PresetChanged")
class PresetChanged(Event, frozen=True):
    key: str
    before: Preset
    after: Preset
    why: str = ""


@event("PresetDeleted")
class PresetDeleted(Event, frozen=True):
    """``before`` is what it was, so that it can be given back."""

    key: str
    before: Preset
    why: str = ""


Definition = PresetCreated | PresetChanged | PresetDeleted
"""The events that say what a preset is."""


class SavePreset(Struct, frozen=True):
    """Make ``preset`` the definition of its key.

    ``must_be_new`` refuses one that is there. ``expected_version`` refuses if it was changed since that version.
    """

    preset: Preset
    made_from: str = ""
    why: str = ""
    must_be_new: bool = False
    expected_version: int | None = None


class DeletePreset(Struct, frozen=True):
    key: str
    why: str = ""


class UndoPreset(Struct, frozen=True):
    """Give back what change ``number`` found: ``before`` became ``after`` by it, None standing for no preset.

    Values that were changed again since are only touched with ``force``.
    """

    key: str
    number: int
    before: Preset | None
    after: Preset | None
    why: str = ""
    force: bool = False


PresetCommand = SavePreset | DeletePreset | UndoPreset | TakePresetFile | RejectPresetFile


class PresetState(Struct, frozen=True):
    """``preset`` is None once it was deleted. ``version`` counts the definitions there were, deletions too."""

    preset: Preset | None = None
    made_from: str = ""
    version: int = 0


def stream_name(key: str) -> str:
    return PREFIX + key


def stream(command: PresetCommand) -> str:
    return stream_name(command.preset.key if isinstance(command, SavePreset) else command.key)


def decide(command: PresetCommand, state: PresetState | None) -> list[Event]:
    """Raises UnknownPreset, PresetExists, ChangedSince."""
    state = state or PresetState()
    match command:
        case SavePreset():
            return _save(command, state)
        case DeletePreset():
            if state.preset is None:
                raise _unknown(command.key)
            return redefined(command.key, state.preset, None, command.why)
        case UndoPreset():
            return _undo(command, state.preset)
        case TakePresetFile():
            saved = PresetFileSaved(command.key, command.sha256, command.took_back)
            return [saved, *redefined(command.key, state.preset, _taken(command, state.preset), command.why)]
        case RejectPresetFile():
            return [PresetFileRejected(command.key, command.sha256, command.line, command.reason)]


def redefined(
    key: str, before: Preset | None, after: Preset | None, why: str, *, made_from: str = "", given_back: bool = False
) -> list[Event]:
    """What makes ``after`` of ``before``, None standing for no preset."""
    if before == after:
        return []
    if after is None:
        return [] if before is None else [PresetDeleted(key, before, why)]
    if before is None:
        return [PresetCreated(key, after, made_from, why, given_back)]
    return [PresetChanged(key, before, after, why)]


def differing(before: Preset, after: Preset) -> list[str]:
    """The names of the values that differ, in the order of the fields."""
    return [name for name in Preset.__struct_fields__ if getattr(before, name) != getattr(after, name)]


def before_and_after(happened: Definition) -> tuple[Preset | None, Preset | None]:
    """What a change found and what it left."""
    match happened:
        case PresetCreated():
            return None, happened.preset
        case PresetChanged():
            return happened.before, happened.after
        case PresetDeleted():
            return happened.before, None


def with_values(preset: Preset, values: Mapping[str, Any]) -> Preset:
    """``preset`` with some of its values in the place of what it had; lists as they come from a file are taken."""
    taken: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in values.items()}
    return replace(preset, **taken)


def values_of(preset: Preset) -> dict[str, Any]:
    """All values by name, as JSON has them."""
    return {name: list(one) if isinstance(one, tuple) else one for name, one in asdict(preset).items()}


def _save(command: SavePreset, state: PresetState) -> list[Event]:
    key = command.preset.key
    if command.must_be_new and state.preset is not None:
        raise PresetExists(
            f"There is a preset called {key} already.",
            hint=f"`btmctl presets edit {key}` changes it; another key makes another one.",
        )
    if command.expected_version not in (None, state.version):
        raise ChangedSince(
            f"The preset {key} was changed meanwhile.", hint=f"`btmctl presets history {key}` shows what came between."
        )
    return redefined(key, state.preset, command.preset, command.why, made_from=command.made_from)


def _undo(command: UndoPreset, now: Preset | None) -> list[Event]:
    why = command.why or f"undo of {command.number}"
    if command.before is None or command.after is None or now is None:
        # It was made or deleted, then or since: all of it comes or goes.
        if now != command.after and not command.force:
            raise _changed_again(command, ["it"])
        return redefined(command.key, now, command.before, why, given_back=True)
    touched = differing(command.before, command.after)
    again = [name for name in touched if getattr(now, name) != getattr(command.after, name)]
    if again and not command.force:
        raise _changed_again(command, again)
    wanted = with_values(now, {name: getattr(command.before, name) for name in touched})
    return redefined(command.key, now, wanted, why)


def _changed_again(command: UndoPreset, names: list[str]) -> ChangedSince:
    return ChangedSince(
        f"{', '.join(names)} changed again since change {command.number} of the preset {command.key}.",
        hint=f"`btmctl presets undo {command.key} {command.number} --force` takes the later change back too.",
    )


def _taken(command: TakePresetFile, now: Preset | None) -> Preset | None:
    """What the preset is after a save: only what the person changed is theirs, the rest is as the log has it."""
    if command.whole is None:
        return None
    return command.whole if now is None else with_values(now, command.changes)


def _unknown(key: str) -> UnknownPreset:
    return UnknownPreset(
        f"There is no preset of your own called {key!r}.", hint="`btmctl presets list --all` shows those there are."
    )


def evolve(state: PresetState | None, happened: Event) -> PresetState:
    state = state or PresetState()
    match happened:
        case PresetCreated():
            return PresetState(happened.preset, happened.made_from, state.version + 1)
        case PresetChanged():
            return replace(state, preset=happened.after, version=state.version + 1)
        case PresetDeleted():
            return replace(state, preset=None, version=state.version + 1)
    return state
