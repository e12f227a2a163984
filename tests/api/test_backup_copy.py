"""A backup into the folder of an admin who is not the daemon's user: brought there file by file, and as good as any."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest

from btmctl.__main__ import main
from btmctl.backup_copy import place
from tests.fixtures.daemon import Client, ThreadedDaemon, config_of
from tests.fixtures.peers import Peers
from tests.fixtures.short_folder import short_folder

ADA, BOB = Peers.OWNER, Peers.STRANGER


@pytest.fixture(autouse=True)
def her(client: Client, peers: Peers) -> Iterator[None]:
    """ADA asks, who is an admin."""
    body = json.dumps({"role": "admin"}).encode()
    client.send("PUT", f"/access/{ADA.name}", body, content_type="application/json").ok()
    with peers.as_(ADA):
        yield


def create(daemon: ThreadedDaemon, folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, Any]:
    code = main(["--socket", str(daemon.config.socket_path), "--json", "backup", "create", "--to", str(folder), *more])
    told = capsys.readouterr()
    return code, json.loads(told.out) if told.out else told.err


def test_a_copy_is_a_whole_backup_folder_and_gets_only_what_it_lacks(
    daemon: ThreadedDaemon, client: Client, folder: Path, peers: Peers, capsys: pytest.CaptureFixture[str]
) -> None:
    target = folder / "stick"
    told = client.post("/backup", {"to": str(target)}).refused(403, "path_not_opened")
    assert "btmctl backup create --to" in told["hint"]
    code, first = create(daemon, target, capsys)
    assert code == 0
    assert first["backup_path"].startswith(str(target / "manifests"))
    assert "copy" in first["notices"][-1]
    own = daemon.config.backups_dir
    copied = {str(one.relative_to(target)): one for one in target.rglob("*") if one.is_file() and one.name != "lock"}
    assert {name: one.read_bytes() for name, one in copied.items()} == {
        name: (own / name).read_bytes() for name in copied
    }
    assert all(one.stat().st_mode & 0o777 == 0o600 for one in copied.values())
    client.patch("/settings", {"changes": {"chat.temperature": 0.5}}).ok()
    held = {name: one.stat().st_mtime_ns for name, one in copied.items() if not name.startswith("rings")}
    # What rotted is fetched again, what is whole stays.
    rotted = next(name for name in held if name.startswith("objects"))
    copied[rotted].write_bytes(b"x" * copied[rotted].stat().st_size)
    code, second = create(daemon, target, capsys)
    assert code == 0
    assert copied[rotted].read_bytes() == (own / rotted).read_bytes()
    assert all(copied[name].stat().st_mtime_ns == at for name, at in held.items() if name != rotted)
    assert len(list((target / "manifests").iterdir())) == 2
    # Proved as any backup folder: a database is built from it with the machine's key.
    with peers.as_(None):
        made = folder / "rebuilt"
        asked = ["--json", "recover", "--from", str(target), "--state-dir", str(made)]
        assert main([*asked, "--key", str(daemon.config.keys_dir / "key")]) == 0
        assert json.loads(capsys.readouterr().out)["backup_id"] == second["backup_id"]


def test_a_newer_key_ring_in_the_folder_stays(tmp_path: Path) -> None:
    def ring(generation: int) -> bytes:
        head = json.dumps({"generation": generation}).encode()
        body = b"btmdKR\x00\x01" + len(head).to_bytes(4, "big") + head + bytes(150)
        return body + hashlib.sha256(body).digest()

    (tmp_path / "rings").mkdir()
    target = tmp_path / "rings" / ("a" * 32)
    for held, comes, stays in (
        (None, ring(1), ring(1)),
        (ring(2), ring(3), ring(3)),
        (ring(4), ring(3), ring(4)),
        (ring(4)[:-1], ring(3), ring(3)),
    ):
        if held is not None:
            target.write_bytes(held)
        aside = tmp_path / "aside"
        aside.write_bytes(comes)
        place(str(aside), str(target), comes[-32:], comes[-32:])
        assert target.read_bytes() == stays


def test_what_cannot_be_written_is_said_before_anything_is_made(
    daemon: ThreadedDaemon, client: Client, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(client.get("/backups").ok())
    code, told = create(daemon, folder / "missing" / "stick", capsys)
    assert code == 2
    assert "stick" in told["hint"]
    assert len(client.get("/backups").ok()) == before


@pytest.mark.parametrize("offset", [0, 1_000_000])
def test_a_file_that_the_daemon_stops_in_the_middle_of_cannot_be_taken_for_the_whole(peers: Peers, offset: int) -> None:
    size_bytes = 16_000_000
    with peers.as_(None), ExitStack() as until_read, short_folder() as own_folder:
        with ThreadedDaemon(config_of(own_folder)) as daemon:
            made = daemon.client.post("/backup", {}).ok()["backup_id"]
            name = next(
                one["path"]
                for one in daemon.client.get(f"/backups/{made}/files").ok()["files"]
                if one["path"].startswith("objects/")
            )
            os.truncate(daemon.config.backups_dir / name, size_bytes)
            answer = until_read.enter_context(daemon.client.stream(f"/backups/{made}/files/{name}?offset={offset}"))
            assert answer.getheader("content-length") == str(size_bytes - offset)
            begin = answer.read(1000)
        with pytest.raises((IncompleteRead, ConnectionError)):
            answer.read()
        assert len(begin) == 1000


def test_only_files_of_backups_and_only_to_admins(client: Client, peers: Peers) -> None:
    made = client.post("/backup", {}).ok()["backup_id"]
    listed = client.get(f"/backups/{made}/files").ok()
    assert listed["files"][-1]["path"].startswith("manifests/")
    assert listed["size_bytes"] == sum(one["size_bytes"] for one in listed["files"])
    for path in ("../btmd.db", "lock", "rings/../../keys/key", "objects/aa/../../lock", "manifests/" + "0" * 64):
        client.get(f"/backups/{made}/files/{path}").refused(404, "not_found")
    with peers.as_(BOB):
        assert client.get(f"/backups/{made}/files").status == 403
        assert client.get(f"/backups/{made}/files/{listed['files'][0]['path']}").status == 403
