"""Restores over the socket: settings, datasets, and what is refused."""

from typing import Any

import pytest

from tests.fixtures.daemon import Client, ThreadedDaemon, rows


def head(client: Client) -> int:
    return int(client.post("/restores", {"seq": 0, "only": ["settings"], "dry_run": True}).ok()["expected_head"])


def set_value(client: Client, key: str, value: object) -> None:
    client.patch("/settings", {"changes": {key: value}}).ok()


def value(client: Client, key: str) -> Any:
    return client.get(f"/settings/{key}").ok()["value"]


def test_a_restore_is_looked_at_applied_and_undone(client: Client) -> None:
    set_value(client, "training.patience", 5)
    then = head(client)
    set_value(client, "training.patience", 6)
    set_value(client, "training.evaluations", 9)
    preview = client.post("/restores", {"seq": then, "dry_run": True}).ok()
    assert {one["subject"]: (one["before"], one["after"]) for one in preview["changes"]} == {
        "training.patience": (6, 5),
        "training.evaluations": (9, None),
    }
    assert head(client) == preview["expected_head"]
    done = client.post("/restores", {"seq": then, "expected_head": preview["expected_head"]}).ok()
    assert done["changes"] == preview["changes"]
    assert (value(client, "training.patience"), value(client, "training.evaluations")) == (5, 6)
    rows = client.events(done["undo_seq"])
    assert [row["type"] for row in rows] == ["RestoreStarted", *["SettingChanged"] * 2, "RestoreCompleted"]
    assert len({row["correlation_id"] for row in rows}) == 1
    assert client.get("/restores").ok()[0]["restore_id"] == done["restore_id"]

    client.post("/restores", {"seq": done["undo_seq"]}).ok()
    assert (value(client, "training.patience"), value(client, "training.evaluations")) == (6, 9)
    client.post("/settings/undo").ok()
    assert (value(client, "training.patience"), value(client, "training.evaluations")) == (5, 6)


def test_a_restore_that_changes_nothing_records_nothing(client: Client) -> None:
    before = head(client)
    answer = client.post("/restores", {"seq": before}).ok()
    assert (answer["changes"], answer["undo_seq"], head(client)) == ([], None, before)


def test_what_changed_since_the_preview_is_refused_unless_forced(client: Client) -> None:
    then = head(client)
    set_value(client, "training.patience", 11)
    expected = head(client)
    client.post("/settings/undo").ok()
    set_value(client, "training.evaluations", 12)
    asked = {"seq": then, "only": ["settings"], "expected_head": expected}
    client.post("/restores", asked).refused(409, "log_moved_on")
    assert value(client, "training.evaluations") == 12
    client.post("/restores", {**asked, "force": True}).ok()
    assert value(client, "training.evaluations") != 12


def test_an_event_that_is_not_there_yet_cannot_be_expected(client: Client) -> None:
    then = head(client)
    set_value(client, "training.patience", 13)
    asked = {"seq": then, "only": ["settings"], "expected_head": head(client) + 1}
    client.post("/restores", asked).refused(422, "invalid_value")
    client.post("/restores", {**asked, "force": True}).refused(422, "invalid_value")
    assert value(client, "training.patience") == 13


def test_a_slip_in_a_name_changes_nothing(client: Client) -> None:
    then = head(client)
    set_value(client, "training.patience", 14)
    refusal = client.post("/restores", {"seq": then, "dryrun": True}).refused(422, "invalid_value")
    assert "`dryrun`" in refusal["detail"]
    assert "dry_run" in refusal["hint"]
    refusal = client.send("DELETE", "/backup/last?dryrun=true").refused(422, "invalid_value")
    assert "`dryrun`" in refusal["detail"]
    assert value(client, "training.patience") == 14


def test_what_has_nothing_to_do_with_it_does_not_hinder(client: Client) -> None:
    then = head(client)
    set_value(client, "training.patience", 17)
    expected = head(client)
    client.add_dataset(rows(30), "unrelated")
    asked = {"seq": then, "only": ["settings"], "expected_head": expected}
    assert client.post("/restores", asked).ok()["changes"][0]["after"] != 17
    client.send("DELETE", "/datasets/unrelated").ok()


def test_a_merge_keeps_or_takes(client: Client) -> None:
    set_value(client, "training.patience", 21)
    set_value(client, "chat.idle_s", 33)
    then = head(client)
    set_value(client, "training.patience", 22)
    set_value(client, "chat.idle_s", None)
    asked = {"seq": then, "mode": "merge", "only": ["settings"]}
    preview = client.post("/restores", {**asked, "dry_run": True}).ok()
    assert [one["subject"] for one in preview["conflicts"]] == ["training.patience"]
    client.post("/restores", asked).refused(409, "restore_conflict")
    client.post("/restores", {**asked, "prefer": "current"}).ok()
    assert (value(client, "training.patience"), value(client, "chat.idle_s")) == (22, 33)
    client.post("/restores", {**asked, "prefer": "restored"}).ok()
    assert value(client, "training.patience") == 21


def test_datasets_go_and_come_back_with_their_contents(client: Client, daemon: ThreadedDaemon) -> None:
    before = head(client)
    added = client.add_dataset(rows(40), "later")
    done = client.post("/restores", {"seq": before, "only": ["datasets"]}).ok()
    assert [(one["subject"], one["after"]) for one in done["changes"]] == [("later", None)]
    client.get("/datasets/later").refused(404, "dataset_not_found")
    again = client.post("/restores", {"seq": done["undo_seq"]}).ok()
    assert again["left_alone"] == []
    back = client.get("/datasets/later").ok()
    assert (back["version_id"], back["scopes"]) == (added["version_id"], ["train", "backup"])
    client.send("DELETE", "/datasets/later").ok()
    lost = client.post("/restores", {"seq": done["undo_seq"], "only": ["datasets"], "dry_run": True}).ok()
    assert (lost["changes"], "contents are gone" in lost["left_alone"][0]) == ([], True)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid_value"),
        ({"seq": 1, "at": "now"}, 422, "invalid_value"),
        ({"seq": 10**12}, 422, "invalid_value"),
        ({"at": "someday"}, 422, "invalid_value"),
        ({"at": "1999-01-01"}, 422, "invalid_value"),
        ({"seq": 1, "only": ["everything"]}, 422, "invalid_value"),
        ({"seq": 1, "prefer": "current"}, 422, "invalid_value"),
        ({"seq": 1, "mode": "mix"}, 422, "invalid_value"),
        ({"backup_id": "nothing"}, 404, "backup_not_found"),
    ],
)
def test_what_makes_no_sense_is_refused(client: Client, body: dict[str, object], status: int, code: str) -> None:
    client.post("/restores", body).refused(status, code)


def test_the_same_request_twice_is_one_restore(client: Client) -> None:
    then = head(client)
    set_value(client, "training.patience", 31)
    first = client.post("/restores", {"seq": then}, idempotency_key="restore-once").ok()
    set_value(client, "training.patience", 32)
    assert client.post("/restores", {"seq": then}, idempotency_key="restore-once").ok() == first
    assert value(client, "training.patience") == 32
