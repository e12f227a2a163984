"""Changes are what commands did; what differs is named."""

from btmd.domain.event import Actor
from btmd.domain.history import Change, Entry, ValueChange, changes_of, difference
from btmd.domain.settings import SettingChanged, UndoChange
from btmd.errors import ChangedSince
from tests.domain.given import given

ADA, BOB = Actor(1000, 1000, 11, (), "ada"), Actor(1001, 1001, 12, (), "bob")


def entry(seq: int, key: str, after: int, *, actor: Actor = ADA, wall_us: int = 5, group: str | None = None) -> Entry:
    return Entry(seq, wall_us, wall_us, actor, group, SettingChanged(key, None, after, "why"))


def grouped(*oldest_first: Entry) -> list[Change]:
    return list(changes_of(reversed(oldest_first)))


def test_what_one_command_changed_is_one_change() -> None:
    newest, oldest = grouped(entry(3, "a", 1, group="x"), entry(4, "b", 2, group="x"), entry(5, "a", 3, group="y"))
    assert (oldest.number, oldest.first_seq, oldest.after, oldest.why) == (4, 3, {"a": 1, "b": 2}, "why")
    assert (newest.number, newest.after, newest.before) == (5, {"a": 3}, {"a": None})


def test_rows_without_an_id_belong_together_when_one_process_wrote_them_at_once() -> None:
    assert [one.number for one in grouped(entry(3, "a", 1), entry(4, "b", 2))] == [4]
    assert [one.number for one in grouped(entry(3, "a", 1), entry(4, "b", 2, actor=BOB))] == [4, 3]
    assert [one.number for one in grouped(entry(3, "a", 1), entry(5, "b", 2))] == [5, 3]
    assert [one.number for one in grouped(entry(3, "a", 1), entry(4, "b", 2, wall_us=6))] == [4, 3]


def test_the_difference_names_what_differs_in_value_or_kind() -> None:
    assert difference({"a": 1, "b": 2, "c": 1}, {"b": 3, "c": 1.0, "d": 4}) == [
        ValueChange("a", 1, None),
        ValueChange("b", 2, 3),
        ValueChange("c", 1, 1.0),
        ValueChange("d", None, 4),
    ]


SET = SettingChanged("checkpoints.keep", None, 3)


def test_an_undo_gives_the_value_before() -> None:
    undo = UndoChange(9, {"checkpoints.keep": None}, {"checkpoints.keep": 3})
    given(SET).when(undo).then(SettingChanged("checkpoints.keep", 3, None, "undo of 9"))


def test_an_undo_of_what_changed_again_needs_force() -> None:
    history = [SET, SettingChanged("checkpoints.keep", 3, 4)]
    before: dict[str, int | float | bool | str | None] = {"checkpoints.keep": None}
    given(*history).when(UndoChange(9, before, {"checkpoints.keep": 3})).then_refused(ChangedSince, "undo 9 --force")
    given(*history).when(UndoChange(9, before, {"checkpoints.keep": 3}, force=True)).then(
        SettingChanged("checkpoints.keep", 4, None, "undo of 9")
    )


def test_a_setting_that_is_no_more_is_left_out_of_an_undo() -> None:
    undo = UndoChange(9, {"old.setting": 1, "checkpoints.keep": None}, {"old.setting": 2, "checkpoints.keep": 3})
    given(SET).when(undo).then(SettingChanged("checkpoints.keep", 3, None, "undo of 9"))
