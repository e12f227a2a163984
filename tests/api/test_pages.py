"""No list grows with the log: each is answered in pages, and one page goes on where the one before ended."""

import json
from collections.abc import Iterator
from pathlib import Path

import anyio.from_thread
import pytest

from btmd.domain.dataset import DatasetAdded, DatasetErased, DatasetRemoved, DatasetVersionAdded
from btmd.domain.model import ModelAdded, ModelFacts
from btmd.domain.use import JobExported
from btmd.store.event_log import StreamAppend
from tests.fixtures.daemon import Client, ThreadedDaemon, config_of
from tests.fixtures.job_histories import appends, cancelled, submitted
from tests.store.given import ACTOR

NAMES = ("one", "two", "three")
FACTS = ModelFacts("LlamaForCausalLM", "llama", 9, 1, 8, 8, 1, 1, 9, 64, True, "fp32", 9, True, True, False, "f" * 64)
LISTS = (
    "/datasets?",
    "/datasets?removed=true&",
    "/datasets/one/versions?",
    "/consents?",
    "/erasures?",
    "/models?",
    "/jobs?",
    "/exports?job_id=one&",
    "/restores?",
    "/preset-definitions/mine/history?",
    "/history?",
    "/audit?",
)


def version(name: str, number: int) -> DatasetVersionAdded:
    return DatasetVersionAdded(name, f"{name}-{number}", f"{number:064}", f"{number:064}", 9, 1, {}, {})


def things() -> Iterator[StreamAppend]:
    """Three of each kind, a dataset that was removed, and more erasures than are told at once."""
    more = {"one": (version("one", 2), version("one", 3)), "two": (DatasetRemoved("two"),), "three": ()}
    for name in NAMES:
        added = (DatasetAdded(name, name, 0, "rows.jsonl"), version(name, 1), *more[name])
        yield StreamAppend(f"dataset-{name}", added)
        yield StreamAppend(f"model-{name}", (ModelAdded(name, name, 0, "folder", "/nowhere", False, FACTS),))
        exported = (JobExported(name, f"{one}-0", "card", "", 0, ()) for one in NAMES)
        yield from appends(name, submitted(name), cancelled(name))
        yield StreamAppend(f"use-{name}", tuple(exported))
    for number in range(101):
        name = f"erased-{number}"
        gone = (DatasetAdded(name, name, 0, "rows.jsonl"), version(name, 1), DatasetErased(name, 0, (), (), ()))
        yield StreamAppend(f"dataset-{name}", gone)


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[ThreadedDaemon]:
    with ThreadedDaemon(config_of(folder)) as running:

        async def given() -> None:
            await running.daemon.store.append(list(things()), actor=ACTOR)

        anyio.from_thread.run(given, token=running._token)
        client = running.client
        for number in range(3):
            client.patch("/settings", {"changes": {"training.seed": number + 1}}).ok()
            client.post("/restores", {"seq": 0, "only": ["settings"]}).ok()
            for key in ("mine", f"mine-{number}"):
                body = {"made_from": "quick_test", "values": {"num_epochs": number + 2, "name": key}}
                asked = json.dumps(body).encode()
                client.send("PUT", f"/preset-definitions/{key}", asked, content_type="application/json").ok()
        yield running


@pytest.mark.parametrize("path", LISTS)
def test_pages_together_are_the_list(client: Client, path: str) -> None:
    whole = [one["number"] for one in client.get(f"{path}limit=1000").ok()]
    assert len(whole) >= 2
    assert whole == sorted(whole, reverse=True)
    found: list[int] = []
    while page := client.get(f"{path}limit=1" + (f"&before={found[-1]}" if found else "")).ok():
        assert len(page) == 1
        found.append(page[0]["number"])
    assert found == whole


def test_presets_go_on_behind_a_key_also_one_that_is_gone(client: Client) -> None:
    whole = [one["key"] for one in client.get("/preset-definitions").ok()]
    assert whole[-4:] == ["mine", "mine-0", "mine-1", "mine-2"]
    found: list[str] = []
    while page := client.get("/preset-definitions?limit=1" + (f"&after={found[-1]}" if found else "")).ok():
        found += [one["key"] for one in page]
    assert found == whole
    behind = client.get("/preset-definitions?after=mine-0a&origin=own").ok()
    assert [one["key"] for one in behind] == ["mine-1", "mine-2"]


def test_nobody_who_does_not_ask_for_more_is_told_all(client: Client) -> None:
    assert len(client.get("/erasures").ok()) == 100
    assert len(client.get("/erasures?limit=1000").ok()) == 101
    client.get("/erasures?limit=1001").refused(422, "invalid_value")


def test_what_was_removed_is_a_page_like_the_others(client: Client) -> None:
    assert [one["dataset_id"] for one in client.get("/datasets").ok()] == ["three", "one"]
    assert [one["dataset_id"] for one in client.get("/datasets?removed=true").ok()] == ["three", "two", "one"]
