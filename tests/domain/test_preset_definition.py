"""Own presets: made, changed, deleted, and each of these taken back."""

from msgspec.structs import replace

from btmd.domain.preset import Preset
from btmd.domain.preset_definition import (
    DeletePreset,
    PresetChanged,
    PresetCreated,
    PresetDeleted,
    PresetExists,
    PresetState,
    SavePreset,
    UndoPreset,
)
from btmd.domain.preset_file import PresetFileSaved, TakePresetFile
from btmd.errors import ChangedSince, UnknownPreset
from tests.domain.given import given

MINE = Preset(
    "mine", "Mine", "For letters.", "beginner", "lora_adaptation", 2, 1e-4, 8, 512, 0.1, ("letters",), "an hour", 3.5
)
LONGER = replace(MINE, num_epochs=5)
OTHER = replace(LONGER, batch_size=16)
MADE = PresetCreated("mine", MINE, "quick_test")


def test_a_preset_is_made_and_changed() -> None:
    given().when(SavePreset(MINE, "quick_test", "a try")).then(PresetCreated("mine", MINE, "quick_test", "a try"))
    given(MADE).when(SavePreset(LONGER)).then(PresetChanged("mine", MINE, LONGER))
    given(MADE).when(SavePreset(MINE)).then_nothing()
    assert given(MADE, PresetChanged("mine", MINE, LONGER)).state(SavePreset) == PresetState(LONGER, "quick_test", 2)


def test_one_that_is_there_is_not_made_again() -> None:
    given(MADE).when(SavePreset(LONGER, must_be_new=True)).then_refused(PresetExists, "btmctl presets edit mine")
    gone = PresetDeleted("mine", MINE)
    given(MADE, gone).when(SavePreset(LONGER, must_be_new=True)).then(PresetCreated("mine", LONGER))


def test_what_was_changed_since_it_was_looked_at_is_refused() -> None:
    history = (MADE, PresetChanged("mine", MINE, LONGER))
    given(*history).when(SavePreset(OTHER, expected_version=1)).then_refused(ChangedSince, "presets history mine")
    given(*history).when(SavePreset(OTHER, expected_version=2)).then(PresetChanged("mine", LONGER, OTHER))


def test_only_what_is_there_is_deleted() -> None:
    given(MADE).when(DeletePreset("mine", "old")).then(PresetDeleted("mine", MINE, "old"))
    given().when(DeletePreset("mine")).then_refused(UnknownPreset, "presets list")
    given(MADE, PresetDeleted("mine", MINE)).when(DeletePreset("mine")).then_refused(UnknownPreset)


def test_every_kind_of_change_is_taken_back() -> None:
    given(MADE).when(UndoPreset("mine", 1, None, MINE)).then(PresetDeleted("mine", MINE, "undo of 1"))
    changed = PresetChanged("mine", MINE, LONGER)
    given(MADE, changed).when(UndoPreset("mine", 2, MINE, LONGER)).then(
        PresetChanged("mine", LONGER, MINE, "undo of 2")
    )
    gone = PresetDeleted("mine", MINE)
    back = PresetCreated("mine", MINE, "", "undo of 2", given_back=True)
    given(MADE, gone).when(UndoPreset("mine", 2, MINE, None)).then(back)


def test_an_undo_gives_back_only_what_its_change_touched() -> None:
    history = (MADE, PresetChanged("mine", MINE, LONGER), PresetChanged("mine", LONGER, OTHER))
    given(*history).when(UndoPreset("mine", 2, MINE, LONGER)).then(
        PresetChanged("mine", OTHER, replace(MINE, batch_size=16), "undo of 2")
    )


def test_what_changed_again_is_only_taken_back_by_force() -> None:
    most = replace(MINE, num_epochs=9)
    history = (MADE, PresetChanged("mine", MINE, LONGER), PresetChanged("mine", LONGER, most))
    given(*history).when(UndoPreset("mine", 2, MINE, LONGER)).then_refused(ChangedSince, "num_epochs", "--force")
    given(*history).when(UndoPreset("mine", 2, MINE, LONGER, force=True)).then(
        PresetChanged("mine", most, MINE, "undo of 2")
    )
    gone = (MADE, PresetChanged("mine", MINE, LONGER), PresetDeleted("mine", LONGER))
    given(*gone).when(UndoPreset("mine", 2, MINE, LONGER)).then_refused(ChangedSince)
    given(*history).when(UndoPreset("mine", 1, None, MINE)).then_refused(ChangedSince, "--force")


def test_a_save_changes_what_the_person_changed_and_keeps_what_came_meanwhile() -> None:
    history = (MADE, PresetChanged("mine", MINE, LONGER))
    stale = replace(MINE, batch_size=16)
    given(*history).when(TakePresetFile("mine", stale, {"batch_size": 16}, "ab")).then(
        PresetFileSaved("mine", "ab"), PresetChanged("mine", LONGER, OTHER, "saved in its file")
    )
    given(*history).when(TakePresetFile("mine", None, {}, "")).then(
        PresetFileSaved("mine", ""), PresetDeleted("mine", LONGER, "its file was removed")
    )
