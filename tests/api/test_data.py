"""Models, uploads and datasets over the API: added once, refused whole, nothing left behind."""

import hashlib
import json
import socket
import time
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from tests.fixtures.daemon import ROOT, Client, ThreadedDaemon, rows


def _contents(daemon: ThreadedDaemon) -> set[str]:
    root = daemon.config.content_dir
    return {file.name for file in root.rglob("*") if file.is_file()}


def test_a_model_folder_is_registered_and_found_by_id_prefix_and_name(client: Client, tiny: Path) -> None:
    added = client.post("/models", {"path": str(tiny), "name": "My Tiny"}).ok()
    assert (added["model_id"], added["folder"], added["converted"]) == ("my-tiny", str(tiny), False)
    assert added["facts"]["architecture"] == "LlamaForCausalLM"
    for name in ("my-tiny", "My%20Tiny", "my-t"):
        assert client.get(f"/models/{name}").ok()["model_id"] == "my-tiny"
    assert client.get("/presets/my-tiny").ok()["key"] == "quick_test"
    assert client.send("DELETE", "/models/my-tiny").ok()
    client.get("/models/my-tiny").refused(404, "model_not_found")
    assert (tiny / "config.json").exists()


def test_adding_a_model_tells_how_far_it_is(client: Client, tiny: Path) -> None:
    answer = client.post("/models", {"path": str(tiny), "name": "told"}, accept="application/x-ndjson")
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert lines[-1]["result"]["model_id"] == "told"
    assert all("progress" in line for line in lines[:-1])
    refused = client.post("/models", {"path": str(tiny.parent), "name": "x"}, accept="application/x-ndjson")
    assert json.loads(refused.body.splitlines()[-1])["error"]["code"] == "not_a_model"


def test_a_folder_that_is_not_a_model_is_refused(client: Client, folder: Path) -> None:
    client.post("/models", {"path": str(folder)}).refused(422, "not_a_model")


def test_a_path_of_another_user_is_not_opened(client: Client, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btmd.registry.models.os.getuid", lambda: 4242)
    client.post("/models", {"path": str(tiny)}).refused(403, "path_not_opened")


def test_an_upload_is_asked_for_resumed_and_checked(client: Client, daemon: ThreadedDaemon) -> None:
    content = rows(60_000)
    sha256 = hashlib.sha256(content).hexdigest()
    missing = client.send("HEAD", f"/contents/{sha256}")
    assert (missing.status, missing.headers["upload-offset"]) == (404, "0")
    _interrupted_put(daemon, sha256, content, len(content) - 100_000)
    half = _kept_after_interruption(client, sha256)
    assert 0 < half < len(content)
    client.send("PUT", f"/contents/{sha256}?offset={half + 1}", b"x").refused(409, "upload_offset")
    received = client.send("PUT", f"/contents/{sha256}?offset={half}", content[half:]).ok()
    assert received == {"sha256": sha256, "size_bytes": len(content)}
    assert client.send("HEAD", f"/contents/{sha256}").status == 200
    assert client.send("PUT", f"/contents/{sha256}", b"").ok()["size_bytes"] == len(content)


def _interrupted_put(daemon: ThreadedDaemon, sha256: str, content: bytes, sent: int) -> None:
    """Send the beginning of an upload, wait until some of it was written, and hang up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as raw:
        raw.connect(str(daemon.config.socket_path))
        head = f"PUT {ROOT}/contents/{sha256} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
        raw.sendall(head.encode() + content[:sent])
        end = time.monotonic() + 20
        while not int(daemon.client.send("HEAD", f"/contents/{sha256}").headers["upload-offset"]):
            assert time.monotonic() < end
            time.sleep(0.02)


def _kept_after_interruption(client: Client, sha256: str) -> int:
    """How much is kept, once the daemon has noticed that the client is gone."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        answer = client.send("PUT", f"/contents/{sha256}?offset={2**40}", b"x")
        if answer.json["code"] == "upload_offset":
            return int(client.send("HEAD", f"/contents/{sha256}").headers["upload-offset"])
        time.sleep(0.02)
    raise AssertionError("the interrupted upload goes on for ever")


def test_a_wrong_hash_and_a_file_too_large_leave_nothing(client: Client, daemon: ThreadedDaemon) -> None:
    before = _contents(daemon)
    client.send("PUT", f"/contents/{'0' * 64}", b"other bytes").refused(422, "upload_mismatch")
    client.patch("/settings", {"changes": {"uploads.max_gb": 0.001}}).ok()
    try:
        large = b"x" * (2 * 1024 * 1024)
        sha256 = hashlib.sha256(large).hexdigest()
        client.send("PUT", f"/contents/{sha256}", large).refused(413, "too_large")
    finally:
        client.patch("/settings", {"changes": {"uploads.max_gb": None}}).ok()
    assert _contents(daemon) == before


def test_a_dataset_is_read_registered_and_removed(client: Client, daemon: ThreadedDaemon) -> None:
    before = _contents(daemon)
    content = rows(20) + b"{broken\n"
    added = client.add_dataset(content, "Bees", consent=False)
    assert (added["dataset_id"], added["rows"], added["scopes"]) == ("bees", 20, [])
    assert added["facts"]["broken"][0]["line"] == 21
    assert len(_contents(daemon)) == len(before) + 2
    again = client.add_dataset(content, "Bees", consent=True)
    assert (again["version_id"], again["scopes"]) == (added["version_id"], ["train", "backup"])
    other = {"content": client.upload(rows(5)), "file_name": "Bees.jsonl"}
    client.post("/datasets", other).refused(409, "conflict")
    shown = client.get("/datasets/bees").ok()
    assert [version["rows"] for version in shown["versions"]] == [20]
    client.send("DELETE", "/datasets/bees").ok()
    client.get("/datasets/bees").refused(404, "dataset_not_found")
    assert _contents(daemon) == before


@pytest.mark.parametrize("wrong", [{"name": "x" * 201}, {"name": "!?"}, {"purpose": "x" * 1001}])
def test_a_name_or_purpose_that_cannot_be_used_leaves_nothing(
    client: Client, daemon: ThreadedDaemon, wrong: dict[str, str]
) -> None:
    before = _contents(daemon)
    body = {"content": client.upload(rows(7)), "file_name": "seven.jsonl", **wrong}
    client.post("/datasets", body).refused(422, "invalid_value")
    assert _contents(daemon) == before


def test_a_refused_addition_does_not_take_the_contents_of_another_one(
    client: Client, daemon: ThreadedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"content": client.upload(rows(8)), "file_name": "eight.jsonl"}
    inspect = daemon.daemon.assembly.parts.dataset_adding._inspector.dataset

    async def refused_meanwhile(*given: Any) -> Any:
        monkeypatch.undo()
        found = await inspect(*given)
        wrong = {**content, "name": "!?"}
        await anyio.to_thread.run_sync(lambda: client.post("/datasets", wrong).refused(422, "invalid_value"))
        return found

    monkeypatch.setattr(daemon.daemon.assembly.parts.dataset_adding._inspector, "dataset", refused_meanwhile)
    sha256 = client.post("/datasets", content).ok()["facts"]["sha256"]
    client.post("/datasets/eight/check", {}).ok()
    # What was uploaded goes when its rows are made.
    assert client.send("HEAD", f"/contents/{sha256}").status == 404
    client.send("DELETE", "/datasets/eight").ok()


def test_a_dataset_is_measured_with_a_model_once(client: Client, daemon: ThreadedDaemon, tiny: Path) -> None:
    client.post("/models", {"path": str(tiny), "name": "measure"}).ok()
    client.add_dataset(rows(10), "measured")
    checked = client.post("/datasets/measured/check", {"model_id": "measure"}).ok()
    assert checked["tokens"]["rows"] == 10
    assert checked["tokens"]["learned_tokens"] > 0
    assert len(list(daemon.config.cache_dir.glob("tokens-*.json"))) == 1
    assert client.post("/datasets/measured/check", {"model_id": "measure"}).ok() == checked


@pytest.mark.parametrize(
    ("content", "file_name", "code"),
    [
        (b"", "empty.jsonl", "dataset_empty"),
        (b"\n\n\n", "blank.jsonl", "dataset_empty"),
        (bytes(range(256)) * 20, "picture.jsonl", "dataset_binary"),
        (b'[{"question": "a", "answer": "b"}, {"question"', "cut.json", "dataset_truncated"),
        (b"a;b;c\n1;2;3\n4;5;6\n", "numbers.csv", "unknown_layout"),
        (b"only\nx\ny\n", "one.csv", "unknown_layout"),
        (b'{"chosen": "a", "rejected": "a", "prompt": "c"}\n' * 3, "pairs.jsonl", "dataset_empty"),
    ],
)
def test_a_dataset_that_cannot_be_used_leaves_nothing(
    client: Client, daemon: ThreadedDaemon, content: bytes, file_name: str, code: str
) -> None:
    before, seq = _contents(daemon), client.events()[-1]["seq"]
    body = {"content": client.upload(content), "file_name": file_name, "consent": True}
    problem = client.post("/datasets", body).refused(422, code)
    assert "\x00" not in problem["detail"]
    assert _contents(daemon) == before
    assert client.events(seq) == []


def test_a_content_that_was_never_sent_cannot_be_added(client: Client) -> None:
    body = {"content": "1" * 64, "file_name": "x.jsonl"}
    client.post("/datasets", body).refused(404, "file_not_found")


def test_the_same_key_answers_the_same(client: Client) -> None:
    body: dict[str, Any] = {"content": client.upload(rows(7)), "file_name": "keyed.jsonl"}
    first = client.post("/datasets", body, idempotency_key="k1").ok()
    seq = client.events()[-1]["seq"]
    second = client.post("/datasets", body, idempotency_key="k1").ok()
    assert second == first
    assert client.events(seq) == []
    client.post("/datasets", {**body, "name": "other"}, idempotency_key="k1").refused(422, "idempotency_mismatch")
