"""Grants over the socket, and restores of own presets and of access."""

import json
import os
import pwd
from typing import Any

from tests.fixtures.daemon import Answer, Client

ME = pwd.getpwuid(os.getuid()).pw_name


def send(client: Client, method: str, path: str, body: Any) -> Answer:
    return client.send(method, path, json.dumps(body).encode(), content_type="application/json")


def roles(client: Client) -> dict[str, str]:
    return {one["subject"]: one["role"] for one in client.get("/access").ok()}


def head(client: Client) -> int:
    return int(client.events()[-1]["seq"])


def test_a_role_is_granted_to_those_who_are_here_and_revoked(client: Client) -> None:
    answer = send(client, "PUT", f"/access/{ME}", {"role": "trainer", "why": "a start"}).ok()
    assert answer["message"] == f"{ME} is a trainer from now on."
    send(client, "PUT", "/access/@root", {"role": "viewer"}).ok()
    assert roles(client) == {ME: "trainer", "@root": "viewer"}
    event = client.events(stream="access")[0]
    assert (event["type"], event["data"]["kernel_id"]) == ("AccessGranted", os.getuid())
    # By its number a user is the same one.
    assert send(client, "PUT", f"/access/{os.getuid()}", {"role": "trainer"}).ok()["number"] is None
    send(client, "PUT", "/access/nobody-called-so", {"role": "viewer"}).refused(404, "account_not_found")
    send(client, "PUT", "/access/@nobody-called-so", {"role": "viewer"}).refused(404, "account_not_found")
    send(client, "PUT", f"/access/{ME}", {"role": "owner"}).refused(422, "invalid_value")
    client.send("DELETE", "/access/daemon").refused(404, "access_not_found")
    client.send("DELETE", f"/access/{ME}?why=left").ok()
    client.send("DELETE", "/access/@root").ok()
    assert roles(client) == {}


def test_a_restore_does_not_give_back_what_was_revoked_unless_access_is_named(client: Client) -> None:
    send(client, "PUT", f"/access/{ME}", {"role": "admin"}).ok()
    then = head(client)
    client.send("DELETE", f"/access/{ME}").ok()
    send(client, "PUT", "/access/@root", {"role": "viewer"}).ok()
    done = client.post("/restores", {"seq": then}).ok()
    assert roles(client) == {}
    assert any("--only access" in one for one in done["left_alone"])
    client.post("/restores", {"seq": then, "only": ["access"]}).ok()
    assert roles(client) == {ME: "admin"}
    client.send("DELETE", f"/access/{ME}").ok()


def test_what_a_restore_took_comes_back_with_its_undo(client: Client) -> None:
    before = head(client)
    send(client, "PUT", f"/access/{ME}", {"role": "admin"}).ok()
    done = client.post("/restores", {"seq": before}).ok()
    assert roles(client) == {}
    client.post("/restores", {"seq": done["undo_seq"]}).ok()
    assert roles(client) == {ME: "admin"}
    client.send("DELETE", f"/access/{ME}").ok()


def test_presets_come_back_with_a_restore_and_go_with_its_undo(client: Client) -> None:
    before = head(client)
    send(client, "PUT", "/preset-definitions/mine", {"made_from": "quick_test"}).ok()
    then = head(client)
    send(client, "PUT", "/preset-definitions/mine", {"values": {"num_epochs": 5}}).ok()
    send(client, "PUT", "/preset-definitions/more", {"made_from": "quick_test"}).ok()
    preview = client.post("/restores", {"seq": then, "dry_run": True}).ok()
    assert [(one["component"], one["subject"], one["before"], one["after"]) for one in preview["changes"]] == [
        ("presets", "mine.num_epochs", 5, 1),
        ("presets", "more", "defined", None),
    ]
    done = client.post("/restores", {"seq": then, "expected_head": preview["expected_head"]}).ok()
    assert client.get("/preset-definitions/mine").ok()["num_epochs"] == 1
    client.get("/preset-definitions/more").refused(404, "unknown_preset")
    client.post("/restores", {"seq": done["undo_seq"]}).ok()
    assert client.get("/preset-definitions/mine").ok()["num_epochs"] == 5
    merge = {"seq": then, "mode": "merge", "only": ["presets"]}
    client.post("/restores", merge).refused(409, "restore_conflict")
    client.post("/restores", {**merge, "prefer": "restored"}).ok()
    assert client.get("/preset-definitions/mine").ok()["num_epochs"] == 1
    assert client.get("/preset-definitions/more").ok()["key"] == "more"
    # What came with a restore has a history like any other, and is taken back alone.
    assert "restore to event" in client.get("/preset-definitions/mine/history").ok()[0]["why"]
    assert client.post("/preset-definitions/mine/undo").ok()["preset"]["num_epochs"] == 5
    client.post("/restores", {"seq": before, "only": ["presets"]}).ok()
    assert client.get("/preset-definitions?origin=own").ok() == []
