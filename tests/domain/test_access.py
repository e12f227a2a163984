"""Grants and revocations, and what counts as taken away."""

from btmd.domain.access import (
    AccessGranted,
    AccessNotFound,
    AccessRevoked,
    GrantAccess,
    RevokeAccess,
    withdrawn,
)
from btmd.errors import InvalidValue
from tests.domain.given import given

ADA = AccessGranted("ada", 1000, "trainer")


def test_a_role_is_granted_changed_and_revoked() -> None:
    given().when(GrantAccess("ada", 1000, "trainer", "new")).then(AccessGranted("ada", 1000, "trainer", None, "new"))
    given(ADA).when(GrantAccess("ada", 1000, "trainer")).then_nothing()
    given(ADA).when(GrantAccess("ada", 1000, "admin")).then(AccessGranted("ada", 1000, "admin", "trainer"))
    given(ADA).when(RevokeAccess("ada", "left")).then(AccessRevoked("ada", 1000, "trainer", "left"))


def test_what_cannot_be_is_refused() -> None:
    given().when(GrantAccess("ada", 1000, "owner")).then_refused(InvalidValue, "viewer, trainer, admin")
    given(ADA).when(RevokeAccess("@staff")).then_refused(AccessNotFound, "btmctl access list")
    given(ADA, AccessRevoked("ada", 1000, "trainer")).when(RevokeAccess("ada")).then_refused(AccessNotFound)


def test_a_lower_role_is_something_taken_away_until_it_is_given_back() -> None:
    lowered = AccessGranted("ada", 1000, "viewer", "trainer")
    assert withdrawn([lowered]) == {"ada"}
    assert withdrawn([AccessRevoked("ada", 1000, "trainer"), AccessGranted("ada", 1000, "viewer")]) == {"ada"}
    assert withdrawn([lowered, AccessGranted("ada", 1000, "trainer", "viewer")]) == set()
    assert withdrawn([ADA, AccessGranted("@staff", 50, "admin", "viewer")]) == set()


def test_what_went_with_a_restore_was_taken_by_nobody() -> None:
    assert withdrawn([AccessRevoked("ada", 1000, "trainer", "restore to event 3", by_restore=True)]) == set()
    given_back = AccessGranted("ada", 1000, "trainer", None, "restore to event 5", by_restore=True)
    assert withdrawn([AccessRevoked("ada", 1000, "trainer"), given_back]) == {"ada"}
