"""Two people on one daemon: what is whose, what is shared, and what each may take."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from btmd.api import events
from btmd.domain.access import RevokeAccess
from btmd.domain.event import Actor
from tests.fixtures.daemon import QUICK, Answer, Client, ThreadedDaemon, config_of, end_trainers, rows
from tests.fixtures.peers import Peers
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

ADA, BOB = Peers.OWNER, Peers.STRANGER
QUIET = {"queue.quiet_hours": "00:00-24:00"}


@pytest.fixture
def daemon(peers: Peers) -> Iterator[ThreadedDaemon]:
    """Two trainers, daemon and bin; nothing starts by itself."""
    with short_folder() as folder, ThreadedDaemon(config_of(folder)) as running:
        client = running.client
        client.patch("/settings", {"changes": {**QUICK, **QUIET}}).ok()
        for who in (ADA, BOB):
            put(client, f"/access/{who.name}", {"role": "trainer"}).ok()
        client.add_model(make_tiny_llama(folder / "tiny"))
        yield running
        end_trainers(running.config.jobs_dir)


@pytest.fixture
def client(daemon: ThreadedDaemon) -> Client:
    return daemon.client


def put(client: Client, path: str, body: Any) -> Answer:
    return client.send("PUT", path, json.dumps(body).encode(), content_type="application/json")


def wait(wanted: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not wanted():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_is_anothers_is_used_once_it_is_shared_and_never_steered(client: Client, peers: Peers) -> None:
    with peers.as_(ADA):
        client.add_dataset(rows())
        hers = client.start()
    asked = {"model_id": "tiny", "dataset_id": "facts", "preset_name": "quick_test"}
    with peers.as_(BOB):
        refused = client.post("/start", asked).refused(403, "not_permitted")
        assert "btmctl datasets share facts bin" in refused["hint"]
        client.post("/datasets/facts/preview", {}).refused(403, "not_permitted")
        client.send("DELETE", "/datasets/facts").refused(403, "not_permitted")
        client.post(f"/jobs/{hers}/cancel").refused(403, "not_permitted")
        client.post("/owners/dataset/shares", {"thing_id": "facts", "subject": "bin"}).refused(403, "not_permitted")
        # Looking at what there is needs no share.
        assert client.get("/datasets/facts").ok()["owner_uid"] == ADA.uid
        assert client.get(f"/progress/{hers}").ok()["state"] == "queued"
    with peers.as_(ADA):
        told = client.post("/owners/dataset/shares", {"thing_id": "facts", "subject": "bin"}).ok()
        assert (told["owner"], told["shared_with"]) == ("daemon", ["bin"])
    with peers.as_(BOB):
        his = str(client.post("/start", asked).ok()["job_id"])
        assert client.get(f"/jobs/{his}").ok()["owner_uid"] == BOB.uid
        client.post("/datasets/facts/preview", {}).ok()
        client.send("DELETE", "/datasets/facts").refused(403, "not_permitted")
        client.send("DELETE", "/consents/facts").refused(403, "not_permitted")
        # The list tells them apart, and by when they were begun.
        listed = {user: [one["job_id"] for one in client.get(f"/jobs?user={user}").ok()] for user in ("bin", ADA.uid)}
        assert listed == {"bin": [his], ADA.uid: [hers]}
        assert client.get(f"/jobs?since_us={time.time_ns() // 1000 + 60_000_000}").ok() == []
        assert len(client.get(f"/jobs?since_us={time.time_ns() // 1000 - 60_000_000}").ok()) == 2
        client.get("/jobs?user=nobody-is-called-so").refused(404, "account_not_found")
        # What is last is the asking user's own.
        assert client.post("/jobs/last/cancel").ok()["job_id"] == his
    with peers.as_(ADA):
        client.send("DELETE", "/owners/dataset/shares?thing_id=facts&subject=bin").ok()
        client.send("DELETE", "/consents/facts").ok()
    with peers.as_(BOB):
        client.post("/start", asked).refused(403, "not_permitted")


def test_what_is_not_there_is_said_before_anything_is_done(client: Client, peers: Peers) -> None:
    with peers.as_(BOB):
        client.send("DELETE", "/datasets/later").refused(404, "dataset_not_found")
        client.send("DELETE", "/models/later").refused(404, "model_not_found")
        client.post("/jobs/later/cancel").refused(404, "job_not_found")
        asked = {"model_id": "later", "dataset_id": "later"}
        client.post("/start", asked).refused(404, "dataset_not_found")


def test_only_whose_data_it_is_allows_its_use(client: Client, peers: Peers) -> None:
    with peers.as_(ADA):
        client.add_dataset(rows(), consent=False)
        client.post("/owners/dataset/shares", {"thing_id": "facts", "subject": "bin"}).ok()
    asked = {"model_id": "tiny", "dataset_id": "facts", "preset_name": "quick_test", "consent": True}
    with peers.as_(BOB):
        client.post("/start", asked).refused(403, "not_permitted")
    assert client.get("/datasets/facts").ok()["scopes"] == []
    with peers.as_(ADA):
        client.post("/start", asked).ok()


def test_a_name_means_ones_own_training_first(client: Client, peers: Peers) -> None:
    with peers.as_(ADA):
        client.add_dataset(rows())
        hers = client.start(name="nightly")
        client.post("/owners/dataset/shares", {"thing_id": "facts", "subject": "bin"}).ok()
    with peers.as_(BOB):
        his = client.start(name="nightly")
    with peers.as_(ADA):
        assert client.post("/queue/nightly/hold").ok()["job_id"] == hers
        client.post(f"/queue/{his}/hold").refused(403, "not_permitted")


def test_who_has_no_role_any_more_follows_nothing_any_more(client: Client, peers: Peers) -> None:
    with ExitStack() as opened:

        def followed(who: Actor, more: str = "") -> HTTPResponse:
            with peers.as_(who):
                return opened.enter_context(client.stream(f"/events?follow=true{more}"))

        ended = [followed(BOB), followed(BOB, "&type=SettingChanged")]
        goes_on = followed(ADA)
        assert {one.status for one in (*ended, goes_on)} == {200}
        client.send("DELETE", f"/access/{BOB.name}").ok()
        client.patch("/settings", {"changes": {"training.seed": 7}}).ok()
        assert not any(b"SettingChanged" in one.read() for one in ended)
        # Who has a role still follows, and sees that of the other one go.
        seen = b""
        while b"SettingChanged" not in seen:
            line = goes_on.readline()
            assert line, "the stream ended"
            seen += line
        assert b"AccessRevoked" in seen


def test_a_follower_from_beyond_the_end_is_not_past_the_end_of_their_role(client: Client, peers: Peers) -> None:
    head = client.events()[-1]["seq"]
    with ExitStack() as opened:
        with peers.as_(BOB):
            beyond = opened.enter_context(client.stream(f"/events?follow=true&after={head + 1}"))
            assert beyond.readline() == b": btmd\n"
        client.send("DELETE", f"/access/{BOB.name}").ok()
        client.patch("/settings", {"changes": {"training.seed": 7}}).ok()
        assert b"SettingChanged" not in beyond.read()


def test_a_list_of_events_breaks_off_where_the_role_of_who_reads_it_goes(
    client: Client, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = events._Wanted.read

    async def revoked_meanwhile(self: Any, parts: Any, after: int, limit: int) -> Any:
        if after == 1:
            await parts.handler.handle(RevokeAccess(BOB.name, ""), actor=parts.daemon)
        return await read(self, parts, after, limit)

    monkeypatch.setattr(events._Wanted, "read", revoked_meanwhile)
    monkeypatch.setattr(events, "FOLLOWED_ROWS", 1)
    with peers.as_(BOB), client.stream("/events?limit=3", accept="application/json") as response:
        told = response.read()
    assert (told[:1], told.count(b'"seq":')) == (b"[", 1)
    with pytest.raises(json.JSONDecodeError):
        json.loads(told)


def test_having_the_same_file_gives_no_say_in_anothers_dataset(client: Client, peers: Peers) -> None:
    with peers.as_(ADA):
        client.add_dataset(rows(), scopes=("train",))
    with peers.as_(BOB):
        body = {"content": client.upload(rows()), "file_name": "facts.jsonl", "consent": True, "scopes": ["export"]}
        client.post("/datasets", body).refused(409, "conflict")
    assert client.get("/datasets/facts").ok()["scopes"] == ["train"]
    with peers.as_(ADA):
        client.upload(rows())
        assert client.post("/datasets", body).ok()["scopes"] == ["train", "export"]


def test_whose_a_dataset_is_is_asked_again_after_its_rows_were_read(
    daemon: ThreadedDaemon, client: Client, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody adds one of the same name and file while another one's is being read."""
    sources = daemon.daemon.assembly.parts.dataset_adding._sources
    read, reads, go_on = sources.rows, threading.Event(), threading.Event()

    async def slowly(source: Any, actor: Actor, *more: Any) -> Any:
        if actor.uid == BOB.uid:
            reads.set()
            assert await anyio.to_thread.run_sync(go_on.wait, 60)
        return await read(source, actor, *more)

    monkeypatch.setattr(sources, "rows", slowly)
    with ThreadPoolExecutor(1) as pool:
        with peers.as_(BOB):
            body = {"content": client.upload(rows()), "file_name": "facts.jsonl", "consent": True, "scopes": ["export"]}
            his = pool.submit(client.post, "/datasets", body)
            assert reads.wait(60)
        with peers.as_(ADA):
            client.add_dataset(rows(), scopes=("train",))
        go_on.set()
        assert "Somebody else's" in his.result(60).refused(409, "conflict")["detail"]
    there = client.get("/datasets/facts").ok()
    assert (there["owner_uid"], there["scopes"]) == (ADA.uid, ["train"])


def test_what_was_given_is_the_others_and_a_namesake_is_not_shared(client: Client, peers: Peers) -> None:
    with peers.as_(ADA):
        client.add_dataset(rows())
        client.post("/owners/dataset/shares", {"thing_id": "facts", "subject": "bin"}).ok()
        client.send("DELETE", "/datasets/facts").ok()
        client.add_dataset(rows(61))
        assert client.get("/owners/dataset?thing_id=facts").ok()["shared_with"] == []
        assert put(client, "/owners/dataset", {"thing_id": "facts", "to": "bin"}).ok()["owner"] == "bin"
        client.send("DELETE", "/datasets/facts").refused(403, "not_permitted")
        put(client, "/owners/dataset", {"thing_id": "facts", "to": "@root"}).refused(403, "not_permitted")
    with peers.as_(BOB):
        put(client, "/owners/dataset", {"thing_id": "facts", "to": "@root"}).refused(422, "invalid_value")
        client.send("DELETE", "/datasets/facts").ok()


def test_a_preset_that_comes_back_is_whose_it_was(client: Client, peers: Peers) -> None:
    made = {"made_from": "quick_test", "values": {"num_epochs": 3}}

    def owner() -> tuple[int, list[str]]:
        told = client.get("/owners/preset?thing_id=letters").ok()
        return told["owner_uid"], told["shared_with"]

    with peers.as_(ADA):
        put(client, "/preset-definitions/letters", made).ok()
        client.post("/owners/preset/shares", {"thing_id": "letters", "subject": "bin"}).ok()
        gone = client.send("DELETE", "/preset-definitions/letters").ok()["number"]
    with peers.as_(BOB):
        client.post("/preset-definitions/letters/undo", {}).refused(403, "not_permitted")
    client.post("/preset-definitions/letters/undo", {}).ok()
    assert owner() == (ADA.uid, ["bin"])
    with peers.as_(ADA):
        client.send("DELETE", "/preset-definitions/letters").ok()
    client.post("/restores", {"seq": gone - 1, "only": ["presets"]}).ok()
    assert owner() == (ADA.uid, ["bin"])
    with peers.as_(ADA):
        client.send("DELETE", "/preset-definitions/letters").ok()
        client.post("/preset-definitions/letters/undo", {}).ok()
        put(client, "/owners/preset", {"thing_id": "letters", "to": str(BOB.uid)}).ok()
    assert owner() == (BOB.uid, ["bin"])
    with peers.as_(BOB):
        client.send("DELETE", "/preset-definitions/letters").ok()
        client.post("/preset-definitions/letters/undo", {}).ok()
        client.send("DELETE", "/preset-definitions/letters").ok()
    with peers.as_(ADA):
        # Made anew it is another one, and of who makes it.
        put(client, "/preset-definitions/letters", made).ok()
    assert owner() == (ADA.uid, [])


def test_a_file_does_not_replace_anothers_preset(client: Client, peers: Peers) -> None:
    with peers.as_(ADA):
        put(client, "/preset-definitions/mine", {"made_from": "quick_test"}).ok()
        text = client.send("GET", "/preset-definitions/mine/file").body.decode()
    with peers.as_(BOB):
        client.post("/preset-definitions", {"text": text, "replace": True}).refused(403, "not_permitted")
        client.post("/preset-definitions", {"text": text}).refused(409, "preset_exists")


def test_nobody_overtakes_others_or_their_own_highest_priority(client: Client, peers: Peers) -> None:
    def asked(who: Actor, name: str, **more: Any) -> str:
        with peers.as_(who):
            return client.start(name=name, dataset_id=f"of-{who.name}", **more)

    for who in (ADA, BOB):
        with peers.as_(who):
            client.add_dataset(rows(), f"of-{who.name}")
    first, hers, his, hers_too = (asked(who, "") for who in (ADA, ADA, BOB, ADA))
    with peers.as_(ADA):
        client.post(f"/queue/{hers}/move", {"before": first}).ok()
        client.post(f"/queue/{hers_too}/move", {"to": "first"}).refused(403, "not_permitted")
        client.post(f"/queue/{hers}/move", {"to": "last"}).ok()
        client.patch(f"/jobs/{hers}", {"priority": 1}).refused(403, "not_permitted")
        client.patch(f"/jobs/{hers}", {"priority": -1}).ok()
        wish = {"model_id": "tiny", "dataset_id": "of-daemon", "preset_name": "quick_test", "priority": 1}
        assert "priority=1" in client.post("/start", wish).refused(403, "not_permitted")["hint"]
    put(client, f"/access/{ADA.name}/limits", {"limits": {"priority": 3}}).ok()
    with peers.as_(ADA):
        client.patch(f"/jobs/{hers_too}", {"priority": 3}).ok()
    line = [one["job_id"] for one in client.get("/queue").ok()["waiting"]]
    assert line == [hers_too, first, his, hers]
    # An admin moves what they like.
    client.post(f"/queue/{hers}/move", {"to": "first"}).ok()


def test_a_limit_of_trainings_at_work_is_waited_for_and_holds_up_nobody_else(client: Client, peers: Peers) -> None:
    put(client, f"/access/{ADA.name}/limits", {"limits": {"running_jobs": 0}}).ok()
    with peers.as_(ADA):
        client.add_dataset(rows())
        hers = client.start(overrides={"max_steps": 5})
    client.patch("/settings", {"changes": {"queue.quiet_hours": ""}}).ok()
    wait(lambda: "an admin can change that" in client.get("/queue").ok()["waiting"][0]["waits_for"])
    client.add_dataset(rows(70), "ours")
    ours = client.start(dataset_id="ours", overrides={"num_epochs": 1000, "max_steps": 20_000})
    client.wait_until(ours, "training")
    client.post(f"/jobs/{ours}/cancel").ok()
    put(client, f"/access/{ADA.name}/limits", {"limits": {"running_jobs": None}}).ok()
    client.wait_for(hers, lambda job: job["attempt"] == 1)


def test_a_limit_of_the_disk_refuses_what_would_go_beyond_it(client: Client, peers: Peers) -> None:
    with peers.as_(ADA):
        client.add_dataset(rows())
    put(client, f"/access/{ADA.name}/limits", {"limits": {"disk_gb": 0.000_01}}).ok()
    with peers.as_(ADA):
        refused = client.send("PUT", f"/contents/{'0' * 64}", rows(400)).refused(409, "over_limit")
        assert "btmctl disk" in refused["hint"]
        for place in ("contents", "model-files"):
            unsaid = client.send("PUT", f"/{place}/{'0' * 64}", b"1\r\nx\r\n0\r\n\r\n", transfer_encoding="chunked")
            unsaid.refused(422, "invalid_value")
        asked = {"model_id": "tiny", "dataset_id": "facts", "preset_name": "quick_test"}
        client.post("/start", asked).refused(409, "over_limit")
    with peers.as_(BOB):
        client.add_dataset(rows(), "his")


def test_the_socket_lets_others_in_only_while_they_were_granted_something(daemon: ThreadedDaemon) -> None:
    def mode() -> int:
        return daemon.config.socket_path.stat().st_mode & 0o777

    client = daemon.client
    wait(lambda: mode() == 0o666)
    # The test's folder is closed to them all the same, and a person is told.
    wait(lambda: "closed to them" in client.get("/health").ok()["problems"].get("socket", ""))
    for who in (ADA, BOB):
        client.send("DELETE", f"/access/{who.name}").ok()
    wait(lambda: mode() == 0o600)
    wait(lambda: "socket" not in client.get("/health").ok()["problems"])


def test_a_folder_in_which_others_could_put_a_socket_of_theirs_is_told() -> None:
    with short_folder() as folder:
        open_to_all = folder / "open"
        open_to_all.mkdir()
        open_to_all.chmod(0o777)
        with ThreadedDaemon(config_of(folder, socket_path=open_to_all / "sock")) as daemon:
            wait(lambda: "chmod go-w" in daemon.client.get("/health").ok()["problems"].get("socket", ""))


def test_limits_are_listed_with_roles(client: Client, tmp_path: Path) -> None:
    put(client, "/access/sys/limits", {"limits": {"running_jobs": 2, "disk_gb": 1.5}}).ok()
    listed = {one["subject"]: one for one in client.get("/access").ok()}
    assert listed["sys"] == {
        "subject": "sys",
        "kernel_id": 3,
        "role": None,
        "limits": {"running_jobs": 2, "disk_gb": 1.5},
    }
    assert listed["bin"]["limits"] == {}
    put(client, "/access/sys/limits", {"limits": {"cores": 2}}).refused(422, "invalid_value")
