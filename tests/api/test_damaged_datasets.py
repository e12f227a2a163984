"""Rows that were damaged on the disk: told as such, and whole again once their file is added again."""

import json

import pytest

from tests.fixtures.daemon import Client, ThreadedDaemon, rows


@pytest.mark.parametrize("part", ["chunk", "list"])
def test_a_damaged_dataset_is_whole_again_once_its_file_is_added_again(
    client: Client, daemon: ThreadedDaemon, part: str
) -> None:
    client.add_dataset(rows(300), "hurt")
    [version] = client.get("/datasets/hurt").ok()["versions"]
    path = next((daemon.config.state_dir / "content").rglob(version["rows_sha256"]))
    if part == "chunk":
        named = json.loads(path.read_bytes().splitlines()[1])["sha256"]
        path = next((daemon.config.state_dir / "content").rglob(named))
    path.write_bytes(path.read_bytes()[:-9] + b"?" * 9)
    assert client.post("/datasets/hurt/check", {}).status in (404, 503)
    client.add_dataset(rows(300), "hurt")
    client.post("/datasets/hurt/check", {}).ok()
    assert len(client.get("/datasets/hurt").ok()["versions"]) == 1
