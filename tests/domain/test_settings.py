"""Settings change all together or not at all, and only to values that make sense."""

import math

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st

from btmd.domain.settings import ChangeSettings, SettingChanged, SettingsState, decide, evolve
from btmd.domain.settings_schema import SCHEMA, setting
from btmd.errors import BtmdError, InvalidValue, UnknownKey
from tests.domain.given import given


def test_a_change_records_what_was_before() -> None:
    given(SettingChanged("checkpoints.keep", None, 3)).when(
        ChangeSettings({"checkpoints.keep": "5"}, "more room")
    ).then(SettingChanged("checkpoints.keep", 3, 5, "more room"))


def test_the_same_value_again_changes_nothing() -> None:
    given(SettingChanged("checkpoints.keep", None, 3)).when(ChangeSettings({"checkpoints.keep": 3})).then_nothing()


def test_the_range_is_told_in_full() -> None:
    assert setting("training.seed").range_text() == "a whole number from 0 to 2147483647"
    assert setting("uploads.max_gb").range_text() == "a number from 0.001 to 10000 GB"


def test_none_takes_the_default_again() -> None:
    history = [SettingChanged("checkpoints.keep", None, 3)]
    given(*history).when(ChangeSettings({"checkpoints.keep": None})).then(SettingChanged("checkpoints.keep", 3, None))
    assert (
        given(*history, SettingChanged("checkpoints.keep", 3, None)).state(ChangeSettings).get("checkpoints.keep") == 2
    )


def test_one_wrong_value_refuses_the_whole_change() -> None:
    given().when(ChangeSettings({"checkpoints.keep": 5, "training.seed": -1})).then_refused(
        InvalidValue, "training.seed"
    )


def test_an_unknown_key_names_the_nearest() -> None:
    given().when(ChangeSettings({"checkpoint.keep": 5})).then_refused(UnknownKey, "checkpoints.keep")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.tick_every_s", "nan"),
        ("training.tick_every_s", math.inf),
        ("training.seed", 1.5),
        ("training.seed", True),
        ("training.seed", "many"),
        ("training.seed", "9" * 5000),
        ("training.seed", [1]),
        ("log.level", "loud"),
        ("log.level", 3),
        ("training.held_out_fraction", 0.9),
    ],
)
def test_impossible_values_are_refused(key: str, value: object) -> None:
    given().when(ChangeSettings({key: value})).then_refused(InvalidValue, key)


@given_any(
    st.lists(
        st.tuples(
            st.sampled_from([one.key for one in SCHEMA]),
            st.none() | st.integers() | st.floats() | st.booleans() | st.text(max_size=8),
        ),
        max_size=30,
    )
)
def test_history_and_a_plain_dictionary_agree(changes: list[tuple[str, object]]) -> None:
    state, plain = SettingsState(), dict[str, object]()
    for key, value in changes:
        try:
            events = decide(ChangeSettings({key: value}), state)
        except BtmdError:
            continue
        for happened in events:
            state = evolve(state, happened)
        if value is None:
            plain.pop(key, None)
        else:
            plain[key] = next(one for one in SCHEMA if one.key == key).parse(value)
        assert state.values == plain
    for one in SCHEMA:
        assert one.parse(state.get(one.key)) == state.get(one.key)
