"""Versions of a dataset: updates with their difference, instant additions of what is known, and what stays of one."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from btmd.data.row_chunks import RowsWriter
from tests.fixtures.daemon import Client, ThreadedDaemon, config_of
from tests.fixtures.short_folder import short_folder


@pytest.fixture
def place() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def rows(numbers: list[int]) -> bytes:
    return b"".join(
        json.dumps({"question": f"What is {number}?", "answer": f"It is {number}."}).encode() + b"\n"
        for number in numbers
    )


def body(client: Client, content: bytes, **more: Any) -> dict[str, Any]:
    return {"content": client.upload(content), "file_name": "numbers.jsonl", **more}


def contents(daemon: ThreadedDaemon) -> set[str]:
    root = daemon.config.state_dir / "content"
    return {path.name for path in root.glob("[0-9a-f][0-9a-f]/*")}


def test_an_update_makes_a_version_with_its_difference(client: Client, daemon: ThreadedDaemon) -> None:
    first = client.post("/datasets", body(client, rows([1, 2, 3, 3]), name="upd", source_path="/data/n.jsonl")).ok()
    assert (first["source_path"], first["made"]) == ("/data/n.jsonl", "add")
    same = client.post("/datasets/upd/versions", body(client, rows([1, 2, 3, 3]))).ok()
    assert (same["updated"], same["dataset"]["version_id"]) == (False, first["version_id"])
    done = client.post("/datasets/upd/versions", body(client, rows([0, 1, 3, 4]), source_path="/data/m.jsonl")).ok()
    assert done["changes"] == {
        "rows_added": 2,
        "rows_removed": 2,
        "rows_unchanged": 2,
        "added_lines": [1, 4],
        "removed_lines": [2, 4],
    }
    newest, oldest = client.get("/datasets/upd/versions").ok()
    assert (newest["parent"], newest["made"], newest["rows"]) == (oldest["version_id"], "update", 4)
    assert client.get("/datasets/upd").ok()["source_path"] == "/data/m.jsonl"
    client.post("/datasets/upd/check", {}).ok()
    # The rows of both versions stay, and nothing that was sent.
    sent = {hashlib.sha256(rows(one)).hexdigest() for one in ([1, 2, 3, 3], [0, 1, 3, 4])}
    assert not contents(daemon) & sent
    client.send("DELETE", "/datasets/upd").ok()


def test_what_is_known_is_added_at_once_without_its_bytes(client: Client, daemon: ThreadedDaemon) -> None:
    content = rows(list(range(30)))
    first = client.post("/datasets", body(client, content, name="known")).ok()
    known = {"content": hashlib.sha256(content).hexdigest(), "file_name": "numbers.jsonl"}
    assert not daemon.daemon.assembly.parts.contents.has(known["content"])

    def never(*given: Any) -> None:
        raise AssertionError("it was read again")

    inspector = daemon.daemon.assembly.parts.dataset_adding._inspector
    inspector.dataset = never  # type: ignore[method-assign]
    try:
        again = client.post("/datasets", {**known, "name": "known"}).ok()
        other = client.post("/datasets", {**known, "name": "known too"}).ok()
    finally:
        del inspector.dataset  # type: ignore[attr-defined]
    assert again["version_id"] == other["version_id"] == first["version_id"]
    client.post("/datasets", {**known, "name": "third", "mapping": {"prompt": "answer"}}).refused(404, "file_not_found")
    client.send("DELETE", "/datasets/known").ok()
    client.post("/datasets/known-too/check", {}).ok()
    client.send("DELETE", "/datasets/known-too").ok()


def test_a_file_that_is_not_the_newest_version_is_not_silently_used(client: Client) -> None:
    client.post("/datasets", body(client, rows([1, 2]), name="moved on")).ok()
    client.post("/datasets/moved-on/versions", body(client, rows([1, 2, 3]))).ok()
    newest = client.post("/datasets", body(client, rows([1, 2, 3]), name="moved on")).ok()
    assert newest["rows"] == 3
    refused = client.post("/datasets", body(client, rows([1, 2]), name="moved on"))
    assert "btmctl datasets update moved-on" in refused.refused(409, "conflict")["hint"]
    client.send("DELETE", "/datasets/moved-on").ok()


def test_a_refused_update_leaves_nothing(client: Client, daemon: ThreadedDaemon) -> None:
    client.post("/datasets", body(client, rows([1, 2]), name="refused")).ok()
    before = contents(daemon)
    assert client.post("/datasets/refused/versions", body(client, b"{broken\n")).status == 422
    assert contents(daemon) == before
    assert len(client.get("/datasets/refused/versions").ok()) == 1
    assert "stay" in client.send("DELETE", "/datasets/refused").ok()["message"]


def test_what_a_killed_addition_left_goes_at_the_next_start(place: Path) -> None:
    with ThreadedDaemon(config_of(place)) as daemon:
        kept = daemon.client.post("/datasets", body(daemon.client, rows([1, 2]), name="kept")).ok()
        before = contents(daemon)
        store = daemon.daemon.assembly.parts.contents
    # Cut off before its event, and another one in the middle of writing.
    left, half = store.working_file("left"), store.working_file("half")
    with RowsWriter(left) as out:
        out.write({"line": 1, "text": "left"})
        store.adopt_rows(left, out.finish().sha256)
    RowsWriter(half).__enter__().write({"line": 1, "text": "half"})
    with ThreadedDaemon(config_of(place)) as daemon:
        assert contents(daemon) == before
        assert list((place / "state" / "content" / "partial").iterdir()) == []
        checked = daemon.client.post("/datasets/kept/check", {}).ok()
        assert checked["dataset"]["version_id"] == kept["version_id"]


def test_versions_share_what_they_have_in_common(client: Client, daemon: ThreadedDaemon) -> None:
    before = contents(daemon)
    many = list(range(100_000))
    client.post("/datasets", body(client, rows(many), name="large")).ok()
    between = contents(daemon) - before
    assert len(between) > 5
    client.post("/datasets/large/versions", body(client, rows([*many[:777], 10**9, *many[777:]]))).ok()
    # A new list and one or two chunks around the inserted row.
    assert len(contents(daemon) - before - between) <= 3
    client.send("DELETE", "/datasets/large").ok()
    assert contents(daemon) == before
