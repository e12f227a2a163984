"""The audit over the socket."""

import pytest

from btmd.api import permission
from btmd.backups.keeper import Backups
from btmd.errors import WrongKey
from tests.fixtures.daemon import ROOT, Client


def test_a_whole_log_is_told_with_its_head(client: Client) -> None:
    found = client.get("/audit/verification").ok()
    assert (found["verdict"], found["first_bad"], found["checked"]) == ("ok", None, found["head_seq"])
    assert len(found["head_hash"]) == 64


def test_changes_and_refusals_are_listed_with_who(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.patch("/settings", {"changes": {"chat.temperature": 0.5}, "why": "warmer"}).ok()
    with monkeypatch.context() as patched:
        patched.setattr(permission, "permitted", lambda actor, needed: False)
        client.patch("/settings", {"changes": {"chat.temperature": 0.7}}).refused(403, "not_permitted")
    refusal, change = client.get("/audit?limit=2").ok()
    assert (refusal["refused"], refusal["what"]) == (True, f"refused: PATCH {ROOT}/settings (not_permitted)")
    assert (change["refused"], change["what"]) == (False, 'chat.temperature: default -> 0.5, "warmer"')
    assert change["actor"]["uid"] == refusal["actor"]["uid"]
    assert [one["number"] for one in client.get("/audit?refused=true&limit=1").ok()] == [refusal["number"]]
    assert client.get(f"/audit?before={change['number'] + 1}&limit=1").ok()[0]["number"] == change["number"]
    assert client.get("/audit?user=daemon&limit=1").ok()[0]["actor"]["name"] == "daemon"
    assert client.get("/audit?user=nobody-here").ok() == []


def test_restores_and_keys_that_were_refused_are_in_the_audit(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.patch("/settings", {"changes": {"training.patience": 5}}).ok()
    moved_on = client.post("/restores", {"seq": 0, "dry_run": True}).ok()["expected_head"]
    client.patch("/settings", {"changes": {"training.patience": 6}}).ok()
    client.post("/restores", {"seq": 0, "expected_head": moved_on}).refused(409, "log_moved_on")

    async def with_a_foreign_key(*given: object, **named: object) -> None:
        raise WrongKey("This key opens none of these backups.")

    monkeypatch.setattr(Backups, "create", with_a_foreign_key)
    client.post("/backup", {}).refused(403, "wrong_key")
    found = client.get("/audit?refused=true&limit=2").ok()
    assert [one["what"] for one in found] == [
        f"refused: POST {ROOT}/backup (wrong_key)",
        f"refused: POST {ROOT}/restores (log_moved_on)",
    ]
    # What a person only mistyped is no matter for the audit.
    client.patch("/settings", {"changes": {"training.patience": -1}}).refused(422, "invalid_value")
    assert client.get("/audit?refused=true&limit=2").ok() == found
