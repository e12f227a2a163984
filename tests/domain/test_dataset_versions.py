"""Versions and the end of a dataset: each from the newest one, erased once, and for good."""

from msgspec.structs import replace

from btmd.domain import dataset
from btmd.domain.dataset import ConsentGranted, ConsentRevoked, DatasetAdded, DatasetCopiesErased, DatasetErased
from btmd.domain.restore import Manner, Past, Registration, RestorePlan, plan_registration, registration
from btmd.errors import Conflict, InvalidValue
from tests.domain.given import given

ADDED = DatasetAdded("d", "D", 1, "d.jsonl")
FIRST = dataset.DatasetVersionAdded("d", "v1", "s1", "r1", 10, 3, {}, {})
ALLOWED = ConsentGranted("d", "", ("train",), 1)
ERASED = DatasetErased("d", 7, ("v1",), ("r1", "s1"), ("j",))


def version(identity: str, parent: str) -> dataset.AddVersion:
    return dataset.AddVersion(
        dataset.DatasetVersionAdded(
            "d", identity, "s2", "r2", 11, 4, {}, {}, parent, "update", {"rows_added": 1}, "/d.jsonl", 5
        )
    )


def add(version_id: str, *scopes: str) -> dataset.AddDataset:
    first = dataset.DatasetVersionAdded("d", version_id, "s", "r", 10, 3, {}, {})
    return dataset.AddDataset(ADDED, first, bool(scopes), scopes=tuple(scopes))


def test_a_version_comes_from_the_newest_one() -> None:
    second = dataset.DatasetVersionAdded(
        "d", "v2", "s2", "r2", 11, 4, {}, {}, "v1", "update", {"rows_added": 1}, "/d.jsonl", 5
    )
    given(ADDED, FIRST).when(version("v2", "v1")).then(second)
    given(ADDED, FIRST, second).when(version("v2", "v1")).then_nothing()
    given(ADDED, FIRST, second).when(version("v3", "v1")).then_refused(Conflict)
    # What is not the newest any more is not taken for it.
    given(ADDED, FIRST, second).when(add("v2")).then_nothing()
    given(ADDED, FIRST, second).when(add("v1")).then_refused(Conflict, "datasets update d")


def test_a_scope_that_there_is_not_is_refused_when_data_is_added() -> None:
    given().when(add("v1", "train", "sell")).then_refused(InvalidValue, "train, export, backup")


def test_having_the_newest_version_of_somebody_elses_dataset_allows_nothing() -> None:
    added = replace(add("v1", "train", "export"), by_owner=False)
    given(ADDED, FIRST).when(added).then_refused(Conflict, "Somebody else's")
    allowed = ConsentGranted("d", "", ("train", "export"), 1)
    given(ADDED, FIRST).when(replace(added, by_owner=True)).then(allowed)
    # A name that is free again is anybody's.
    given(ADDED, FIRST, dataset.DatasetRemoved("d")).when(added).then(ADDED, added.version, allowed)


def test_erasing_takes_consent_back_and_is_recorded_once() -> None:
    erase = dataset.EraseDataset("d", 7, ("v1",), ("r1", "s1"), ("j",))
    given(ADDED, FIRST, ALLOWED).when(erase).then(ConsentRevoked("d", 7), ERASED)
    given(ADDED, FIRST, dataset.DatasetRemoved("d")).when(erase).then(ERASED)
    given(ADDED, FIRST, ERASED).when(erase).then_nothing()
    done = DatasetCopiesErased("d", 1, ("/stick",))
    given(ADDED, FIRST, ERASED).when(add("v1")).then_refused(Conflict)
    given(ADDED, FIRST, ERASED).when(dataset.RecordErasure("d", 1, ("/stick",))).then(done)
    given(ADDED, FIRST, ERASED, done).when(dataset.RecordErasure("d", 0, ("/stick",))).then_nothing()
    treated = DatasetCopiesErased("d", 0, ())
    # Also after somebody added another one under that name.
    given(ADDED, FIRST, ERASED, done, ADDED, FIRST).when(dataset.RecordErasure("d", 0, ())).then(treated)


def test_no_restore_brings_an_erased_dataset_back() -> None:
    assert registration([ADDED, FIRST, ERASED]) is None
    then = registration([ADDED, FIRST])
    assert isinstance(then, Registration)
    for erased in (True, False):
        plan = RestorePlan()
        past = Past(component="datasets", subject="d", stream="dataset-d", then=then, now=None, erased=erased)
        plan_registration(plan, past, Manner(), lambda _: "")
        assert bool(plan.events) is not erased
        assert any("erased" in text for text in plan.left_alone) is erased
