"""A name that is removed and added again begins anew: its list of versions, its consent and what it is for."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from btmd.registry.datasets import DatasetAdding
from btmd.registry.sources import Source
from tests.fixtures.daemon import Client


def body(client: Client, numbers: list[int], **more: Any) -> dict[str, Any]:
    rows = [json.dumps({"question": f"What is {number}?", "answer": f"It is {number}."}) for number in numbers]
    return {"content": client.upload("\n".join(rows).encode()), "file_name": "numbers.jsonl", **more}


def test_a_name_that_is_added_again_lists_its_own_versions_alone(client: Client) -> None:
    client.post("/datasets", body(client, [1, 2], name="again")).ok()
    client.post("/datasets/again/versions", body(client, [1, 2, 3])).ok()
    said = client.send("DELETE", "/datasets/again").ok()["message"]
    assert "with its 2 versions." in said
    # The content that was there first, under the id it had then, is a first version once more.
    first = client.post("/datasets", body(client, [1, 2], name="again")).ok()
    assert [one["version_id"] for one in client.get("/datasets/again/versions").ok()] == [first["version_id"]]
    second = client.post("/datasets/again/versions", body(client, [2, 3])).ok()["dataset"]
    named = [second["version_id"], first["version_id"]]
    assert [one["version_id"] for one in client.get("/datasets/again/versions").ok()] == named
    assert [one["version_id"] for one in client.get("/datasets/again").ok()["versions"]] == named
    assert "with its 2 versions." in client.send("DELETE", "/datasets/again").ok()["message"]


def test_what_was_taken_back_has_no_purpose_and_nobody_who_allowed_it(client: Client) -> None:
    made = client.post("/datasets", body(client, [1, 2], name="for-now", consent=True, purpose="a trial")).ok()
    assert (made["scopes"], made["purpose"]) == (["train"], "a trial")
    assert made["consent_by_uid"] is not None
    client.send("DELETE", "/consents/for-now").ok()
    found = client.get("/datasets/for-now").ok()
    assert (found["scopes"], found["purpose"], found["consent_by_uid"]) == ([], "", None)


def test_what_was_removed_is_listed_and_found_when_asked_for_until_it_is_erased(client: Client) -> None:
    client.post("/datasets", body(client, [7, 8], name="stale", source_changed_at="2026-03-01T08:00:00.000001Z")).ok()
    assert client.get("/datasets/stale").ok()["source_changed_at"] == "2026-03-01T08:00:00.000001Z"
    said = client.send("DELETE", "/datasets/stale").ok()["message"]
    assert "`btmctl datasets list --all`" in said

    def names(query: str) -> list[str]:
        return [one["dataset_id"] for one in client.get(f"/datasets{query}").ok() if one["dataset_id"] == "stale"]

    assert (names(""), names("?removed=true")) == ([], ["stale"])
    assert "was removed" in client.get("/datasets/stale").refused(404, "dataset_not_found")["detail"]
    found = client.get("/datasets/sta?removed=true").ok()
    assert (found["rows"], found["stored_bytes"], found["removed_at"][-1]) == (2, 0, "Z")
    client.post("/erasures/stale", {}).ok()
    assert names("?removed=true") == []
    assert "erased" in client.get("/datasets/stale?removed=true").refused(404, "dataset_not_found")["detail"]
    # Said once more, it is what it is.
    client.post("/erasures/stale", {}).ok()
    client.post("/datasets", body(client, [7, 8], name="stale")).ok()
    assert client.get("/datasets/stale").ok()["removed_at"] is None


def test_a_time_that_is_none_is_refused(client: Client) -> None:
    client.post("/datasets", body(client, [1], source_changed_at="yesterday")).refused(422, "invalid_value")


def test_a_file_that_one_user_adds_twice_at_once_is_there_once_and_nobody_elses(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have read it, and found nothing of that name, before either is registered."""
    look = DatasetAdding._version_there
    both_read = asyncio.Barrier(2)

    async def when_both_have_read(adding: DatasetAdding, dataset_id: str, source: Source) -> str:
        await both_read.wait()
        return await look(adding, dataset_id, source)

    monkeypatch.setattr(DatasetAdding, "_version_there", when_both_have_read)
    wanted = body(client, list(range(300)), name="twice")
    with ThreadPoolExecutor(2) as both:
        answers = list(both.map(lambda _: client.post("/datasets", wanted).ok(), range(2)))
    assert answers[0]["version_id"] == answers[1]["version_id"]
    assert [one["name"] for one in client.get("/datasets").ok()].count("twice") == 1
