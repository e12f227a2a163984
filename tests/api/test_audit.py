"""The audit over the socket."""

import pytest

from btmd.api import permission
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
