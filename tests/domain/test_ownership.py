"""Sharing, passing on, limits: what follows from what."""

import pytest

from btmd.domain import access, ownership
from btmd.domain.access import (
    AccessGranted,
    AccessState,
    ChangeLimits,
    Grant,
    LimitChanged,
    Limited,
    RevokeAccess,
    limits_of,
    role_of,
)
from btmd.domain.ownership import (
    NotShared,
    OwnershipState,
    ShareThing,
    Thing,
    ThingShared,
    ThingTransferred,
    ThingUnshared,
    TransferThing,
    UnshareThing,
)
from btmd.errors import InvalidValue
from tests.domain.given import given

FACTS = Thing("dataset", "facts", 1_000, 1001)
SHARED = ThingShared("dataset", "facts", 1_000, "ada", 1000)


def test_what_is_shared_can_be_taken_back() -> None:
    given().when(ShareThing(FACTS, "ada", 1000, "to try")).then(
        ThingShared("dataset", "facts", 1_000, "ada", 1000, "to try")
    )
    given(SHARED).when(ShareThing(FACTS, "ada", 1000)).then_nothing()
    given(SHARED).when(UnshareThing(FACTS, "ada")).then(ThingUnshared("dataset", "facts", 1_000, "ada"))
    given(SHARED).when(UnshareThing(FACTS, "bob")).then_refused(NotShared, "shared with: ada")


def test_a_name_that_another_account_has_now_is_shared_with_anew() -> None:
    given(SHARED).when(ShareThing(FACTS, "ada", 1007)).then(ThingShared("dataset", "facts", 1_000, "ada", 1007))


def test_another_thing_with_the_same_id_is_not_shared() -> None:
    state = ownership.evolve(None, SHARED)
    assert state.shared_with(FACTS) == {"ada": 1000}
    assert state.shared_with(Thing("dataset", "facts", 2_000, 1001)) == {}
    assert state.shared_with(Thing("model", "facts", 1_000, 1001)) == {}
    assert ownership.evolve(state, ThingUnshared("dataset", "facts", 1_000, "ada")) == OwnershipState()


def test_what_changes_hands() -> None:
    given().when(TransferThing(FACTS, 1002)).then(ThingTransferred("dataset", "facts", 1_000, 1001, 1002))
    given().when(TransferThing(FACTS, 1001)).then_nothing()


def test_limits_are_set_changed_and_taken_away() -> None:
    one = LimitChanged("ada", 1000, "running_jobs", None, 1, "few cores")
    given().when(ChangeLimits("ada", 1000, {"running_jobs": 1}, "few cores")).then(one)
    given(one).when(ChangeLimits("ada", 1000, {"running_jobs": 1})).then_nothing()
    given(one).when(ChangeLimits("ada", 1000, {"running_jobs": None, "disk_gb": 0.5})).then(
        LimitChanged("ada", 1000, "running_jobs", 1, None), LimitChanged("ada", 1000, "disk_gb", None, 0.5)
    )
    # Another account of that name begins without.
    given(one).when(ChangeLimits("ada", 1007, {"running_jobs": 1})).then(
        LimitChanged("ada", 1007, "running_jobs", None, 1)
    )


@pytest.mark.parametrize(
    "limits",
    [
        {"cores": 1},
        {"running_jobs": -1},
        {"running_jobs": 1.5},
        {"disk_gb": -0.1},
        {"priority": 0.5},
        {"disk_gb": float("nan")},
        {"disk_gb": float("inf")},
        {"running_jobs": 1, "cores": 1},
    ],
)
def test_what_is_no_limit_is_refused(limits: dict[str, float | None]) -> None:
    given().when(ChangeLimits("ada", 1000, limits)).then_refused(InvalidValue)


def test_limits_and_grants_do_not_touch_each_other() -> None:
    state = access.evolve(None, AccessGranted("ada", 1000, "trainer"))
    state = access.evolve(state, LimitChanged("ada", 1000, "disk_gb", None, 5))
    state = access.evolve(state, AccessGranted("bob", 1001, "viewer"))
    assert set(state.grants) == {"ada", "bob"}
    assert state.limited == {"ada": Limited(1000, {"disk_gb": 5})}
    given(AccessGranted("ada", 1000, "trainer"), LimitChanged("ada", 1000, "disk_gb", None, 5)).when(
        RevokeAccess("ada")
    ).then(access.AccessRevoked("ada", 1000, "trainer"))


def test_the_highest_role_of_a_user_and_their_groups_counts_by_number() -> None:
    state = AccessState(
        {
            "ada": Grant(1000, "viewer"),
            "@lab": Grant(50, "trainer"),
            "@old": Grant(60, "wizard"),
            "bob": Grant(50, "admin"),
        }
    )
    assert role_of(1000, (1000,), state, 1) == "viewer"
    assert role_of(1000, (1000, 50), state, 1) == "trainer"
    assert role_of(50, (50,), state, 1) == "admin"
    assert role_of(1003, (60,), state, 1) is None
    assert role_of(1003, (), None, 1003) == "admin"


def test_a_users_own_limit_goes_before_those_of_groups_of_which_the_widest_counts() -> None:
    state = AccessState(
        {"@wheel": Grant(10, "admin")},
        {
            "ada": Limited(1000, {"running_jobs": 1}),
            "@lab": Limited(50, {"running_jobs": 3, "disk_gb": 10}),
            "@big": Limited(51, {"disk_gb": 100, "priority": 5}),
        },
    )
    assert limits_of(1000, (50, 51), state, 1) == {"running_jobs": 1, "disk_gb": 100, "priority": 5}
    assert limits_of(1001, (50,), state, 1) == {"running_jobs": 3, "disk_gb": 10, "priority": 0}
    assert limits_of(1001, (), state, 1) == {"priority": 0}
    assert limits_of(1001, (10, 50), state, 1) == {}
    assert limits_of(1, (50,), state, 1) == {}
