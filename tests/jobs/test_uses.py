"""Whose consent the use of a result needs, however its history is gone about."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from btmd.domain.dataset import ConsentGranted, ConsentRevoked, DatasetAdded, DatasetErased, DatasetRemoved
from btmd.domain.event import Actor, Event
from btmd.errors import ConsentMissing
from btmd.jobs.uses import lacking, require_use_allowed
from btmd.projections.job import JobRow
from btmd.store.event_log import Store, StreamAppend
from tests.fixtures.job_histories import submitted
from tests.store.given import opened

ADA, BOB = Actor(1000, 1000, 1, (1000,), "ada"), Actor(1001, 1001, 2, (1001,), "bob")
RESULT = JobRow(job_id="result")


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(tmp_path) as store:
        yield store


async def happened(store: Store, stream: str, *events: Event, by: Actor = ADA) -> None:
    await store.append([StreamAppend(stream, events, None)], actor=by)


async def added(store: Store, *scopes: str, by: Actor = ADA, name: str = "facts") -> None:
    granted = ConsentGranted(name, "", scopes, by.uid)
    await happened(store, f"dataset-{name}", DatasetAdded(name, name, by.uid, f"{name}.jsonl"), granted, by=by)


async def test_what_a_deleted_training_learned_from_counts_for_what_was_built_on_it(store: Store) -> None:
    await added(store, "train")
    await happened(store, "job-first", submitted("first"))
    await added(store, "train", "export", by=BOB, name="mine")
    later = submitted("result", plan={"from_job": "first"})
    await happened(store, "job-result", msgspec.structs.replace(later, dataset_id="mine"), by=BOB)
    assert await lacking(store, RESULT, "export") == ["facts"]
    await happened(store, "dataset-facts", ConsentRevoked("facts", ADA.uid))
    with pytest.raises(ConsentMissing):
        await require_use_allowed(store, RESULT)


@pytest.mark.parametrize("way", ["removed", "revoked", "erased"])
async def test_another_persons_dataset_of_the_same_name_allows_nothing(store: Store, way: str) -> None:
    await added(store, "train")
    await happened(store, "job-result", submitted("result"), by=BOB)
    if way != "removed":
        await happened(store, "dataset-facts", ConsentRevoked("facts", ADA.uid))
    gone = DatasetErased("facts", ADA.uid, (), (), ("result",)) if way == "erased" else DatasetRemoved("facts")
    await happened(store, "dataset-facts", gone)
    await added(store, "train", "export", by=BOB)
    if way == "removed":
        assert await lacking(store, RESULT, "export") == ["facts"]
    else:
        with pytest.raises(ConsentMissing):
            await lacking(store, RESULT, "export")


async def test_its_owner_may_add_it_anew_and_allow_more(store: Store) -> None:
    await added(store, "train")
    await happened(store, "job-result", submitted("result"))
    await happened(store, "dataset-facts", ConsentRevoked("facts", ADA.uid), DatasetRemoved("facts"))
    await added(store, "train", "export")
    assert await lacking(store, RESULT, "export") == []
    await happened(store, "dataset-facts", DatasetErased("facts", ADA.uid, (), (), ("result",)))
    await added(store, "train", "export")
    with pytest.raises(ConsentMissing, match="erased"):
        await lacking(store, RESULT, "export")
