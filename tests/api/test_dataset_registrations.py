"""A name that is removed and added again begins anew: its list of versions, its consent and what it is for."""

import json
from typing import Any

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
    assert (made["consent"], made["purpose"]) == (["train"], "a trial")
    assert made["consent_by_uid"] is not None
    client.send("DELETE", "/consents/for-now").ok()
    found = client.get("/datasets/for-now").ok()
    assert (found["consent"], found["purpose"], found["consent_by_uid"]) == ([], "", None)
