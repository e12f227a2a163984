"""The audit over the socket."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from btmd.audit.verify_audit import Head, verify
from btmd.backups.keeper import Backups
from btmd.errors import WrongKey
from tests.fixtures.daemon import ROOT, Client, ThreadedDaemon
from tests.fixtures.peers import Peers


def test_a_whole_log_is_told_with_its_head(client: Client) -> None:
    found = client.get("/audit/verification").ok()
    assert (found["verdict"], found["first_bad"], found["checked"]) == ("ok", None, found["head_seq"])
    assert len(found["head_hash"]) == 64


def test_changes_and_refusals_are_listed_with_who(client: Client, peers: Peers) -> None:
    client.patch("/settings", {"changes": {"chat.temperature": 0.5}, "why": "warmer"}).ok()
    with peers.as_(Peers.STRANGER):
        client.patch("/settings", {"changes": {"chat.temperature": 0.7}}).refused(403, "not_permitted")
    refusal, change = client.get("/audit?limit=2").ok()
    assert (refusal["refused"], refusal["what"]) == (True, f"refused: PATCH {ROOT}/settings (not_permitted)")
    assert (change["refused"], change["what"]) == (False, 'chat.temperature: default -> 0.5, "warmer"')
    assert refusal["actor"]["uid"] == Peers.STRANGER.uid != change["actor"]["uid"]
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


def exported(client: Client, path: Path, query: str = "") -> list[dict[str, object]]:
    answer = client.get(f"/audit/export{query}")
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    path.write_bytes(answer.body)
    return [json.loads(line) for line in answer.body.splitlines()]


def test_what_was_exported_is_verified_without_btmd(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    client.patch("/settings", {"changes": {"chat.temperature": 0.5}}).ok()
    moved_on = client.post("/restores", {"seq": 0, "dry_run": True}).ok()["expected_head"]
    client.post("/restores", {"seq": 0, "expected_head": moved_on}).ok()
    client.post("/backup", {}).ok()
    shown = client.get("/audit/verification").ok()
    lines = exported(client, path)
    assert lines[-1]["head_hash"] == lines[-2]["hash"]
    found = verify(str(path), shown["public_key"], [Head(shown["epoch"], shown["head_seq"], shown["head_hash"])])
    assert (found.fault, found.seal, found.last_event) == (None, "of the given key", shown["head_seq"])
    assert found.heads == [f"event {shown['head_seq']}: the same"]
    assert "RestoreCompleted" in {line.get("type") for line in lines}


def test_a_time_without_events_and_a_time_that_is_none_are_refused(client: Client) -> None:
    client.get("/audit/export?since=2020-01-01&until=2020-01-02").refused(422, "invalid_value")
    client.get("/audit/export?since=whenever").refused(422, "invalid_value")
    client.get("/audit/export?since=900000").refused(422, "invalid_value")


def test_a_log_that_somebody_changed_is_exported_as_it_stands_and_does_not_verify(
    client: Client, daemon: ThreadedDaemon, tmp_path: Path
) -> None:
    client.patch("/settings", {"changes": {"chat.temperature": 0.25}}).ok()
    seq = client.get("/audit?limit=1").ok()[0]["number"]
    with closing(sqlite3.connect(daemon.config.database_path, isolation_level=None)) as connection:
        name, trigger = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE name = 'events_never_updated'"
        ).fetchone()
        connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE events SET data = replace(data, '0.25', '0.75') WHERE seq = ?", (seq,))
        connection.execute(trigger)
    exported(client, tmp_path / "export.jsonl")
    fault = verify(str(tmp_path / "export.jsonl")).fault
    assert fault is not None
    assert (fault.kind, fault.first_event, fault.line) == ("changed", seq, seq + 1)
