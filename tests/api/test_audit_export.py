"""The audit's export over the socket, verified as a stranger does."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from btmd.audit.verify_audit import verify
from tests.fixtures.daemon import Client, ThreadedDaemon


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
    lines = exported(client, path)
    assert lines[-1]["seal"] is None, "no backup has made a key yet"
    found = verify(str(path))
    assert (found.fault, found.seal, found.first_event) == (None, "missing", 1)
    assert "RestoreCompleted" in {line.get("type") for line in lines}
    assert client.get("/audit/verification").ok()["public_key"] == ""

    client.post("/backup", {}).ok()
    shown = client.get("/audit/verification").ok()
    lines = exported(client, path)
    assert lines[-1]["head_hash"] == lines[-2]["hash"]
    found = verify(str(path), shown["public_key"])
    assert (found.fault, found.seal, found.last_event) == (None, "of the given key", shown["head_seq"])

    recorded = next(line for line in lines if line.get("type") == "SettingChanged")
    seq = int(str(recorded["seq"]))
    some = exported(client, path, f"?since={seq}&until={seq + 1}")
    assert [line["seq"] for line in some[1:-1]] == [seq, seq + 1]
    assert some[1] == recorded
    assert verify(str(path), shown["public_key"]).fault is None


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
