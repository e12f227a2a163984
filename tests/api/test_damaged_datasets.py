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


@pytest.mark.parametrize("part", ["chunk", "list"])
def test_a_damaged_dataset_comes_back_from_a_backup_once_it_is_removed(
    client: Client, daemon: ThreadedDaemon, part: str
) -> None:
    name = f"kept-{part}"
    client.add_dataset(rows(310), name)
    # Shares its chunks with the other one: they stay when that is removed.
    client.add_dataset(rows(310), f"{name}-too")
    backup = client.post("/backup", {"with_artefacts": True}).ok()["backup_id"]
    [version] = client.get(f"/datasets/{name}").ok()["versions"]
    path = next((daemon.config.state_dir / "content").rglob(version["rows_sha256"]))
    if part == "chunk":
        named = json.loads(path.read_bytes().splitlines()[1])["sha256"]
        path = next((daemon.config.state_dir / "content").rglob(named))
    path.write_bytes(path.read_bytes()[:-9] + b"?" * 9)
    assert client.post(f"/datasets/{name}/check", {}).status in (404, 503)
    client.send("DELETE", f"/datasets/{name}").ok()
    client.post("/restores", {"backup_id": backup, "only": ["datasets"]}).ok()
    client.post(f"/datasets/{name}/check", {}).ok()
