"""The history of the settings over the socket."""

from tests.fixtures.daemon import Client


def change(client: Client, why: str = "", **values: object) -> int:
    changed = client.patch(
        "/settings", {"changes": {f"chat.{key}": value for key, value in values.items()}, "why": why}
    )
    return int(changed.ok()["number"])


def test_changes_are_listed_compared_and_undone(client: Client) -> None:
    first = change(client, "longer", max_new_tokens=300, idle_s=60)
    second = change(client, max_new_tokens=400)
    listed = client.get("/history?key=chat.max_new_tokens").ok()
    assert [one["number"] for one in listed[:2]] == [second, first]
    assert listed[1]["why"] == "longer"
    assert listed[1]["actor"]["uid"] >= 0
    assert {one["key"]: (one["before"], one["after"]) for one in listed[1]["changes"]} == {
        "chat.max_new_tokens": (None, 300),
        "chat.idle_s": (None, 60.0),
    }
    assert client.get(f"/history/diff?from={first}&to=now").ok()["changes"] == [
        {"key": "chat.max_new_tokens", "before": 300, "after": 400}
    ]
    at_first = {one["key"]: one["value"] for one in client.get(f"/settings?at={first}").ok()}
    assert at_first["chat.max_new_tokens"] == 300
    blamed = client.get("/history/blame?key=chat.max_new_tokens").ok()
    assert (blamed[0]["value"], blamed[0]["set_by"]["number"]) == (400, second)

    undone = client.post("/settings/undo").ok()
    assert undone["undone"]["number"] == second
    assert client.get("/settings/chat.max_new_tokens").ok()["value"] == 300
    change(client, max_new_tokens=500)
    client.post("/settings/undo", {"number": first}).refused(409, "changed_since")
    client.post("/settings/undo", {"number": first, "force": True}).ok()
    assert client.get("/settings/chat.max_new_tokens").ok()["is_default"] is True
    assert client.get("/history/diff").ok()["changes"] == []


def test_an_undo_that_is_asked_twice_with_one_key_happens_once(client: Client) -> None:
    change(client, max_new_tokens=300)
    change(client, max_new_tokens=400)
    first = client.post("/settings/undo", {}, idempotency_key="undo-once").ok()
    again = client.post("/settings/undo", {}, idempotency_key="undo-once").ok()
    assert first == again
    assert client.get("/settings/chat.max_new_tokens").ok()["value"] == 300


def test_what_never_was_is_refused(client: Client) -> None:
    client.post("/settings/undo", {"number": 10**9}).refused(404, "change_not_found")
    client.get("/history?key=chat.temprature").refused(422, "unknown_key")
    client.get("/history/blame?key=nothing").refused(422, "unknown_key")
    client.get("/history/diff?from=someday").refused(422, "invalid_value")
    client.get("/settings?at=2099-01-01").refused(422, "invalid_value")
    assert client.get("/history?key=uploads.max_gb").ok() == []


def test_the_schema_says_what_can_be_set(client: Client) -> None:
    found = {one["key"]: one for one in client.get("/settings/schema").ok()}
    assert found["training.seed"]["default"] == 42
    assert (found["checkpoints.keep"]["minimum"], found["checkpoints.keep"]["maximum"]) == (1, 100)
    assert found["log.level"]["choices"] == ["debug", "info", "warning", "error"]
