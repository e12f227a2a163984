"""Limits hold however they are gone about: several at once, things given away, what is only to come."""

import hashlib
import secrets
import select
import socket
from collections.abc import Iterator
from functools import partial

import anyio.from_thread
import pytest

from btmd.api import application, user_room
from btmd.domain.event import Actor
from btmd.domain.job import FailJob
from btmd.registry import content, sources
from tests.api.test_owners import ADA, BOB, client, daemon, put
from tests.fixtures.daemon import ROOT, Client, ThreadedDaemon, rows
from tests.fixtures.peers import Peers


def test_what_is_to_come_takes_room_already(daemon: ThreadedDaemon, client: Client, peers: Peers) -> None:
    with peers.as_(ADA):
        client.add_dataset(rows())
        needed_bytes = client.job(client.start())["forecast"]["disk_bytes"]["middle"]
    put(client, f"/access/{ADA.name}/limits", {"limits": {"disk_gb": 1.5 * needed_bytes / 2**30}}).ok()
    asked = {"model_id": "tiny", "dataset_id": "facts", "preset_name": "quick_test"}
    with peers.as_(ADA):
        client.post("/start", asked).refused(409, "over_limit")
    put(client, f"/access/{ADA.name}/limits", {"limits": {"disk_gb": 1}}).ok()
    with peers.as_(ADA), announced(daemon, 7 * 10**8) as first, announced(daemon, 7 * 10**8) as second:
        # Whichever was looked at first: the other one is told, and not both of them.
        (refused,), *_ = select.select([first, second], [], [], 60)
        assert refused.recv(1000).startswith(b"HTTP/1.1 409")
    export = daemon.config.exports_dir / f"{'0' * 32}-{ADA.uid}"
    export.mkdir(parents=True)
    (export / "model.gguf").write_bytes(bytes(3 * 10**6))
    put(client, f"/access/{ADA.name}/limits", {"limits": {"disk_gb": (needed_bytes + 2e6) / 2**30}}).ok()
    with peers.as_(ADA):
        client.send("PUT", f"/contents/{'0' * 64}", b"x").refused(409, "over_limit")


def test_who_is_beyond_their_limit_makes_no_more_versions(client: Client, peers: Peers) -> None:
    with peers.as_(ADA):
        client.add_dataset(rows())
        body = {"content": client.upload(rows(61)), "file_name": "more.jsonl"}
    put(client, f"/access/{ADA.name}/limits", {"limits": {"disk_gb": 0.000_000_1}}).ok()
    with peers.as_(ADA):
        client.post("/datasets", body).refused(409, "over_limit")
        client.post("/datasets/facts/versions", body).refused(409, "over_limit")
        client.post("/datasets/facts/clean", {"drop": ["duplicates"]}).refused(409, "over_limit")


def announced(daemon: ThreadedDaemon, size_bytes: int) -> socket.socket:
    """An upload that was begun."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(60)
    connection.connect(str(daemon.config.socket_path))
    head = f"PUT {ROOT}/contents/{secrets.token_hex(32)} HTTP/1.1\r\nhost: x\r\ncontent-length: {size_bytes}\r\n\r\n"
    connection.sendall(head.encode())
    return connection


def test_nobody_gets_out_of_a_limit_by_giving_things_away(client: Client, peers: Peers) -> None:
    with peers.as_(ADA):
        client.add_dataset(rows())
        job = client.start()
        given = {"thing_id": "facts", "to": BOB.name}
        put(client, "/owners/job", {"thing_id": job, "to": BOB.name}).refused(403, "not_permitted")
        # Who has no role could do nothing with it.
        put(client, "/owners/dataset", {"thing_id": "facts", "to": "sys"}).refused(403, "not_permitted")
    put(client, f"/access/{ADA.name}/limits", {"limits": {"disk_gb": 1}}).ok()
    with peers.as_(ADA):
        put(client, "/owners/dataset", given).refused(403, "not_permitted")
    put(client, f"/access/{BOB.name}/limits", {"limits": {"disk_gb": 0.000_000_1}}).ok()
    with peers.as_(ADA):
        put(client, "/owners/dataset", given).refused(409, "over_limit")
    put(client, f"/access/{BOB.name}/limits", {"limits": {"disk_gb": 1}}).ok()
    with peers.as_(ADA):
        assert put(client, "/owners/dataset", given).ok()["owner"] == BOB.name
    assert put(client, "/owners/job", {"thing_id": job, "to": BOB.name}).ok()["owner"] == BOB.name


def test_a_dataset_is_looked_at_only_with_a_model_that_one_may_use(client: Client, peers: Peers) -> None:
    put(client, "/owners/model", {"thing_id": "tiny", "to": ADA.name}).ok()
    with peers.as_(BOB):
        client.add_dataset(rows())
        for what, more in (("preview", {}), ("check", {}), ("clean", {"drop": ["duplicates"]})):
            client.post(f"/datasets/facts/{what}", {"model_id": "tiny", **more}).refused(403, "not_permitted")


@pytest.fixture
def few_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "CHANGES_BURST", 3)
    monkeypatch.setattr(application, "CHANGES_PER_S", 0.001)


def test_nobody_fills_the_log_with_changes(few_changes: None, client: Client, peers: Peers) -> None:
    with peers.as_(ADA):
        for _ in range(3):
            client.post("/queue/none/hold").refused(404, "job_not_found")
        client.post("/queue/none/hold").refused(429, "too_many")
        # Looking, and sending a file in many pieces, changes nothing.
        client.get("/queue").ok()
        client.upload(rows())
    client.post("/queue/none/hold").refused(404, "job_not_found")


def test_what_is_recorded_of_one_user_has_bounds(
    little_log: None, client: Client, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with peers.as_(ADA):
        monkeypatch.setattr(sources, "MOST_FACTS_BYTES", 300)
        body = {"content": client.upload(rows()), "file_name": "facts.jsonl"}
        assert "shorter names" in client.post("/datasets", body).refused(422, "dataset_refused")["hint"]
        monkeypatch.undo()
        client.add_dataset(rows())
        answer = client.post("/queue/none/hold")
        answer.refused(429, "too_many")
        assert int(answer.headers["retry-after"]) > 1
    with peers.as_(BOB):
        client.post("/queue/none/hold").refused(404, "job_not_found")


@pytest.fixture
def little_log() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(application, "WRITTEN_BURST_BYTES", 500)
        patched.setattr(application, "WRITTEN_BYTES_PER_S", 0.01)
        yield


def test_so_many_uploads_of_one_user_may_wait(client: Client, peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "MOST_UPLOADS", 2)
    with peers.as_(ADA):
        for text in (b"1", b"2"):
            client.upload(text)
        client.send("PUT", f"/contents/{hashlib.sha256(b'3').hexdigest()}", b"3").refused(409, "conflict")
        client.upload(b"2")
    with peers.as_(BOB):
        client.upload(b"3")


def test_so_many_trainings_of_one_user_may_wait(client: Client, peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_room, "MOST_UNFINISHED", 1)
    asked = {"model_id": "tiny", "dataset_id": "facts", "preset_name": "quick_test"}
    with peers.as_(ADA):
        client.add_dataset(rows())
        job = client.start()
        client.post("/start", asked).refused(409, "over_limit")
        client.post(f"/jobs/{job}/rerun", {"dry_run": True}).refused(409, "over_limit")
        client.post("/owners/dataset/shares", {"thing_id": "facts", "subject": BOB.name}).ok()
    # Nobody else's count, and an admin may have as many as they like.
    with peers.as_(BOB):
        client.start()
    for _ in range(2):
        client.start()
    with peers.as_(ADA):
        client.post(f"/jobs/{job}/cancel").ok()
        client.start()


@pytest.mark.parametrize("most", [1, 2])
def test_a_failed_training_that_is_taken_up_counts_again(
    daemon: ThreadedDaemon, client: Client, peers: Peers, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(user_room, "MOST_UNFINISHED", most)
    with peers.as_(ADA):
        client.add_dataset(rows())
        job = client.start()
        handler, user = daemon.daemon.assembly.parts.handler, Actor(uid=0, gid=0, pid=1, name="root")
        fails = partial(handler.handle, FailJob(job, "data", "Its data is gone."), actor=user)
        anyio.from_thread.run(fails, token=daemon._token)
        client.wait_until(job, "failed")
        client.start()
        answer = client.post(f"/jobs/{job}/resume")
        # One that had not even begun cannot be taken up at all: that is looked at behind the limit.
        answer.refused(409, "over_limit" if most == 1 else "job_ended")


__all__ = ["client", "daemon"]
