"""A change that asks for confirmation is kept or taken back, and never takes back what it did not set."""

from btmd.domain.settings import (
    ChangeConfirmed,
    ChangeSettings,
    ChangeTakenBack,
    ConfirmationAsked,
    ConfirmChange,
    SettingChanged,
    SettingsState,
    TakeBackUnconfirmed,
    UndoChange,
    decide,
    evolve,
)
from btmd.errors import Conflict
from tests.domain.given import given

SEED, KEEP = "training.seed", "checkpoints.keep"


class Settings:
    """A state that commands change."""

    def __init__(self) -> None:
        self.state = SettingsState()

    def do(self, command: ChangeSettings | ConfirmChange | TakeBackUnconfirmed | UndoChange) -> None:
        for happened in decide(command, self.state):
            self.state = evolve(self.state, happened)

    def set(self, value: int, confirm: str = "", by_us: int = 0, key: str = SEED) -> None:
        self.do(ChangeSettings({key: value}, "", by_us if confirm else None, confirm))

    def at(self, now_us: int) -> dict[str, object]:
        self.do(TakeBackUnconfirmed(now_us))
        return dict(self.state.values)


def test_it_is_recorded_that_a_change_waits() -> None:
    given().when(ChangeSettings({SEED: 7}, "why", 100, "x")).then(
        ConfirmationAsked("x", 100), SettingChanged(SEED, None, 7, "why", "x")
    )
    given().when(ChangeSettings({SEED: None}, "why", 100, "x")).then_nothing()


def test_what_nobody_confirmed_goes_back() -> None:
    history = [ConfirmationAsked("x", 100), SettingChanged(SEED, None, 7, "", "x")]
    given(*history).when(TakeBackUnconfirmed(99)).then_nothing()
    given(*history).when(TakeBackUnconfirmed(100)).then(
        ChangeTakenBack("x"), SettingChanged(SEED, 7, None, "not confirmed in time", "x")
    )
    given(*history, ChangeConfirmed("x")).when(TakeBackUnconfirmed(100)).then_nothing()


def test_what_was_set_for_good_meanwhile_stays() -> None:
    it = Settings()
    it.set(7, "x", 100)
    it.set(8)
    assert it.state.unconfirmed == ()
    assert it.at(100) == {SEED: 8}


def test_changes_that_wait_one_on_another_go_back_to_what_was_below_them() -> None:
    for first, second, expected in ((100, 200, {150: 2, 250: 5}), (200, 100, {150: 1, 250: 5})):
        it = Settings()
        it.set(5)
        it.set(1, "x", first)
        it.set(2, "y", second)
        assert {now: it.at(now)[SEED] for now in (150, 250)} == expected
        assert it.state.unconfirmed == ()
    it = Settings()
    it.set(1, "x", 100)
    it.set(2, "y", 100)
    it.set(3, "z", 300, KEEP)
    assert it.at(100) == {KEEP: 3}


def test_confirming_the_later_change_keeps_its_value() -> None:
    it = Settings()
    it.set(1, "x", 100)
    it.set(2, "y", 100)
    it.do(ConfirmChange("y"))
    assert it.at(100) == {SEED: 2}


def test_confirming_the_earlier_change_leaves_the_later_to_go_back_to_it() -> None:
    it = Settings()
    it.set(1, "x", 100)
    it.set(2, "y", 100)
    it.do(ConfirmChange("x"))
    assert it.at(100) == {SEED: 1}


def test_an_undone_change_waits_no_more() -> None:
    it = Settings()
    it.set(1, "x", 100)
    it.do(UndoChange(3, {SEED: None}, {SEED: 1}))
    assert it.state == SettingsState()


def test_only_what_waits_can_be_confirmed() -> None:
    given().when(ConfirmChange(None)).then_refused(Conflict, "Nothing waits")
    history = [ConfirmationAsked("x", 100), SettingChanged(SEED, None, 7, "", "x")]
    given(*history).when(ConfirmChange("y")).then_refused(Conflict, "does not wait")
    given(*history).when(ConfirmChange(None)).then(ChangeConfirmed("x"))
