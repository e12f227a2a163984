"""What a restore does to own presets and to access: replace, merge, conflicts, and what stays taken away."""

from typing import Any

import pytest
from msgspec.structs import replace

from btmd.domain.access import AccessGranted, AccessRevoked, Grant
from btmd.domain.preset import Preset
from btmd.domain.preset_definition import PresetChanged, PresetCreated, PresetDeleted
from btmd.domain.restore import Manner, RestoreConflict, RestorePlan
from btmd.domain.restore_definitions import plan_access, plan_preset

MINE = Preset("mine", "Mine", "x", "beginner", "lora_adaptation", 2, 1e-4, 8, 512, 0.1, ("a",), "an hour", 3.5)
LONGER = replace(MINE, num_epochs=5, recommended_for=("a", "b"))
MERGE = Manner(mode="merge")
NAMED = Manner(("access",))


def planned(now: Preset | None, then: Preset | None, manner: Manner, unusable: str = "") -> RestorePlan:
    plan = RestorePlan()
    plan_preset(plan, "mine", now, then, manner, "why", lambda preset: unusable)
    return plan


def granted(
    now: dict[str, Grant], then: dict[str, Grant], manner: Manner, *gone: str, missing: str = ""
) -> RestorePlan:
    plan = RestorePlan()
    plan_access(plan, now, then, set(gone), manner, "why", lambda subject, kernel_id: missing)
    return plan


@pytest.mark.parametrize(
    ("now", "then", "event"),
    [
        (MINE, LONGER, PresetChanged("mine", MINE, LONGER, "why")),
        (None, MINE, PresetCreated("mine", MINE, "", "why", given_back=True)),
        (MINE, None, PresetDeleted("mine", MINE, "why")),
    ],
)
def test_a_replacement_gives_back_what_there_was(now: Any, then: Any, event: Any) -> None:
    assert planned(now, then, Manner()).events == {"preset-mine": [event]}


def test_the_preview_names_each_value() -> None:
    changes = planned(MINE, LONGER, Manner()).changes
    assert [(one.subject, one.before, one.after) for one in changes] == [
        ("mine.num_epochs", 2, 5),
        ("mine.recommended_for", "a", "a, b"),
    ]
    assert planned(MINE, MINE, Manner()).changes == []


def test_a_merge_fills_in_and_asks_where_both_have_one() -> None:
    assert planned(MINE, None, MERGE).events == {}
    assert planned(None, MINE, MERGE).events == {
        "preset-mine": [PresetCreated("mine", MINE, "", "why", given_back=True)]
    }
    undecided = planned(MINE, LONGER, MERGE)
    assert (len(undecided.conflicts), undecided.events) == (2, {})
    with pytest.raises(RestoreConflict, match=r"mine\.num_epochs"):
        undecided.require_settled()
    kept, taken = (planned(MINE, LONGER, Manner(mode="merge", prefer=who)) for who in ("current", "restored"))  # type: ignore[arg-type]
    assert (kept.events, kept.conflicts) == ({}, [])
    assert taken.events == {"preset-mine": [PresetChanged("mine", MINE, LONGER, "why")]}


def test_what_this_release_cannot_use_stays_away_and_is_named() -> None:
    plan = planned(None, MINE, Manner(), unusable="num_epochs: no")
    assert (plan.events, plan.left_alone) == ({}, ["presets: mine cannot come back, num_epochs: no"])


def test_what_was_granted_since_goes_and_what_was_there_comes_back() -> None:
    viewer, admin = Grant(1000, "viewer"), Grant(1000, "admin")
    plan = granted({"ada": admin, "bob": Grant(1001, "viewer")}, {"ada": viewer}, Manner())
    assert plan.events == {
        "access": [
            AccessGranted("ada", 1000, "viewer", "admin", "why", by_restore=True),
            AccessRevoked("bob", 1001, "viewer", "why", by_restore=True),
        ]
    }
    # Nothing was taken away in this log: that of a backup is all there is.
    assert granted({}, {"ada": admin}, Manner()).events == {
        "access": [AccessGranted("ada", 1000, "admin", None, "why", by_restore=True)]
    }


@pytest.mark.parametrize("now", [{}, {"ada": Grant(1000, "viewer")}])
def test_what_was_taken_away_stays_so_unless_access_is_named(now: dict[str, Grant]) -> None:
    then = {"ada": Grant(1000, "admin")}
    plan = granted(now, then, Manner(), "ada")
    assert plan.events == {}
    assert "--only access" in plan.left_alone[0]
    assert len(granted(now, then, NAMED, "ada").events["access"]) == 1


def test_who_is_not_here_gets_nothing() -> None:
    plan = granted({}, {"ada": Grant(1000, "admin")}, NAMED, missing="this machine does not know them")
    assert (plan.events, len(plan.left_alone)) == ({}, 1)


def test_a_merge_of_access_keeps_or_takes() -> None:
    now, then = {"ada": Grant(1000, "admin"), "bob": Grant(1, "viewer")}, {"ada": Grant(1000, "viewer")}
    assert len(granted(now, then, MERGE).conflicts) == 1
    assert granted(now, then, Manner(mode="merge", prefer="current")).events == {}
    taken = granted(now, then, Manner(mode="merge", prefer="restored")).events
    assert taken == {"access": [AccessGranted("ada", 1000, "viewer", "admin", "why", by_restore=True)]}
