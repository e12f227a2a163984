"""What a restore changes, what it merges, and what it leaves alone."""

import pytest
from msgspec.structs import replace

from btmd.domain.dataset import (
    ConsentGranted,
    ConsentRevoked,
    DatasetAdded,
    DatasetRemoved,
    DatasetVersionAdded,
)
from btmd.domain.event import Event
from btmd.domain.model import ModelAdded, ModelFacts, ModelHashed, ModelRemoved, ModelSettingsChanged
from btmd.domain.restore import (
    COMPONENTS,
    Manner,
    Mode,
    Past,
    Prefer,
    Registration,
    RestoreConflict,
    RestorePlan,
    components,
    plan_consent,
    plan_registration,
    plan_settings,
    registration,
)
from btmd.domain.settings import SettingChanged
from btmd.domain.settings_schema import Value
from btmd.errors import InvalidValue

NOW: dict[str, Value] = {"training.seed": 1, "checkpoints.keep": 3}
THEN: dict[str, Value] = {"training.seed": 2, "jobs.crash_resumes": 5}


def settings_plan(mode: Mode, prefer: Prefer | None = None, then: dict[str, Value] = THEN) -> RestorePlan:
    plan = RestorePlan()
    plan_settings(plan, NOW, then, Manner(mode=mode, prefer=prefer), "why")
    return plan


def changed(plan: RestorePlan) -> dict[str, object]:
    return {one.key: one.after for one in plan.events.get("settings", []) if isinstance(one, SettingChanged)}


def test_replacing_gives_every_value_of_then() -> None:
    assert changed(settings_plan("replace")) == {"training.seed": 2, "checkpoints.keep": None, "jobs.crash_resumes": 5}


def test_a_merge_fills_in_and_asks_who_wins() -> None:
    assert changed(settings_plan("merge", "restored")) == {"training.seed": 2, "jobs.crash_resumes": 5}
    assert changed(settings_plan("merge", "current")) == {"jobs.crash_resumes": 5}
    plan = settings_plan("merge")
    assert [one.subject for one in plan.conflicts] == ["training.seed"]
    with pytest.raises(RestoreConflict) as caught:
        plan.require_settled()
    assert "training.seed" in caught.value.detail
    assert "--prefer" in caught.value.hint


def test_values_that_this_release_cannot_take_are_left_alone_and_named() -> None:
    plan = settings_plan("merge", "restored", {"no.more": 1, "disk.reserve_gb": -5.0})
    assert changed(plan) == {}
    assert ["no.more" in text or "disk.reserve_gb" in text for text in plan.left_alone] == [True, True]


ADDED = (DatasetAdded("d", "d", 1000, "d.jsonl"), DatasetVersionAdded("d", "v", "s", "r", 1, 1, {}, {}))
CONSENT = ConsentGranted("d", "tests", ("train",), 1000)


def past(then: list[Event], since: list[Event], needed_by: str = "") -> Past:
    revoked = any(isinstance(one, ConsentRevoked) for one in since)
    return Past("datasets", "d", "dataset-d", registration(then), registration([*then, *since]), revoked, needed_by)


def planned(it: Past, *, mode: Mode = "replace", named: tuple[str, ...] = COMPONENTS, lost: str = "") -> RestorePlan:
    plan, manner = RestorePlan(), Manner(named, mode)
    if "datasets" in named:
        plan_registration(plan, it, manner, lambda then: lost)
    if "consent" in named:
        plan_consent(plan, it, manner, 7)
    return plan


def test_what_was_registered_later_goes_and_its_contents_stay() -> None:
    plan = planned(past([], [*ADDED]))
    assert plan.events == {"dataset-d": [DatasetRemoved("d", contents_kept=True)]}
    assert planned(past([], [*ADDED]), mode="merge").changes == []
    kept = planned(past([], [*ADDED], needed_by="job1"))
    assert (kept.changes, len(kept.left_alone)) == ([], 1)
    assert "job1" in kept.left_alone[0]


def test_what_was_removed_comes_back_with_the_consent_that_nobody_revoked() -> None:
    plan = planned(past([*ADDED, CONSENT], [DatasetRemoved("d")]))
    assert plan.events == {"dataset-d": [*ADDED, CONSENT]}


def test_revoked_consent_stays_revoked_unless_it_is_named() -> None:
    it = past([*ADDED, CONSENT], [ConsentRevoked("d", 1), DatasetRemoved("d")])
    plan = planned(it)
    assert plan.events == {"dataset-d": [*ADDED]}
    assert "stays revoked" in plan.left_alone[0]
    assert planned(it, named=("datasets", "consent")).events == {"dataset-d": [*ADDED, CONSENT]}
    still_there = past([*ADDED, CONSENT], [ConsentRevoked("d", 1)])
    assert planned(still_there).changes == []
    assert planned(still_there, named=("consent",)).events == {"dataset-d": [CONSENT]}


def test_consent_that_was_not_there_is_only_taken_back_when_named() -> None:
    it = past([*ADDED], [CONSENT])
    assert planned(it).changes == []
    assert planned(it, named=("consent",)).events == {"dataset-d": [ConsentRevoked("d", 7)]}
    assert planned(it, named=("consent",), mode="merge").changes == []


def test_what_has_lost_its_files_is_left_alone() -> None:
    plan = planned(past([*ADDED], [DatasetRemoved("d")]), lost="its contents are gone")
    assert (plan.changes, plan.left_alone) == ([], ["datasets: d cannot come back, its contents are gone"])


def test_a_registration_ends_with_its_removal() -> None:
    assert registration([*ADDED, CONSENT]) == Registration(ADDED, CONSENT)
    assert registration([*ADDED, CONSENT, DatasetRemoved("d")]) is None
    assert registration([*ADDED, DatasetRemoved("d"), *ADDED]) == Registration(ADDED)


@pytest.mark.parametrize("only", [[], ["setings"], ["settings", "jobs"]])
def test_parts_have_names(only: list[str]) -> None:
    with pytest.raises(InvalidValue):
        components(only)
    assert components(None) == COMPONENTS
    assert components(["consent", "settings"]) == ("settings", "consent")


FACTS = ModelFacts("LlamaForCausalLM", "llama", 1, 1, 1, 1, 1, 1, 1, 1, True, "bf16", 1, True, True, False, "f1")
MODEL_ADDED = ModelAdded("m", "M", 7, "/models/m", "/models/m", False, FACTS)
HASHED = ModelHashed("m", {"config.json": "aa"})


def model_plan(then: list[Event], now: list[Event]) -> list[Event]:
    plan = RestorePlan()
    past = Past("models", "m", "model-m", registration(then), registration(now))
    plan_registration(plan, past, Manner(mode="replace"), lambda _then: "")
    return plan.events.get("model-m", [])


def test_what_was_set_for_a_model_comes_back_and_goes() -> None:
    first, second, none = (ModelSettingsChanged("m", values) for values in ({"lora_r": 4}, {"lora_r": 8}, {}))
    assert model_plan([MODEL_ADDED, first], [MODEL_ADDED, first, second]) == [MODEL_ADDED, first]
    assert model_plan([MODEL_ADDED], [MODEL_ADDED, first]) == [MODEL_ADDED]
    assert model_plan([MODEL_ADDED], [MODEL_ADDED, first, none]) == []


def test_a_models_recorded_hashes_outlast_a_restore() -> None:
    setting = ModelSettingsChanged("m", {"lora_r": 4})
    assert model_plan([MODEL_ADDED], [MODEL_ADDED, HASHED]) == []
    assert model_plan([MODEL_ADDED], [MODEL_ADDED, HASHED, setting]) == [MODEL_ADDED, HASHED]
    assert model_plan([MODEL_ADDED, HASHED], [MODEL_ADDED, HASHED, ModelRemoved("m")]) == [MODEL_ADDED, HASHED]
    other = replace(MODEL_ADDED, facts=replace(FACTS, fingerprint="f2"))
    assert model_plan([MODEL_ADDED], [other, HASHED]) == [MODEL_ADDED]
