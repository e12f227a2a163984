"""Clients that cost more than they should: slow, endless, too many, too fast."""

import json
import socket
import time
from collections.abc import Iterator

import pytest

from btmd.api import events, guard, peer
from tests.fixtures.daemon import ROOT, Client, ThreadedDaemon
from tests.fixtures.peers import Peers


@pytest.fixture
def connection(daemon: ThreadedDaemon) -> Iterator[socket.socket]:
    with connected(daemon) as made:
        yield made


def connected(daemon: ThreadedDaemon) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(30)
    made.connect(str(daemon.config.socket_path))
    return made


def rest(connection: socket.socket) -> bytes:
    """All that still comes, until the daemon hangs up."""
    found = b""
    try:
        while piece := connection.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    return found


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "HEAD_S", 0.3)
    monkeypatch.setattr(guard, "BODY_S", 0.3)


@pytest.mark.parametrize("sent", [b"", b"GET /api/basic-training/status HTTP/1.1\r\nhost: x\r\n"])
def test_a_head_that_never_ends_is_not_waited_for(hurried: None, connection: socket.socket, sent: bytes) -> None:
    connection.sendall(sent)
    assert rest(connection) == b""


def test_a_second_request_is_not_waited_for_longer_than_the_first(hurried: None, connection: socket.socket) -> None:
    connection.sendall(f"GET {ROOT}/access HTTP/1.1\r\nhost: x\r\n\r\nGET".encode())
    told = rest(connection)
    assert told.startswith(b"HTTP/1.1 200")
    assert told.count(b"HTTP/1.1") == 1


def test_a_body_that_pauses_for_long_is_refused(hurried: None, connection: socket.socket) -> None:
    head = f"POST {ROOT}/start HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\ncontent-type: application/json\r\n\r\n"
    connection.sendall(head.encode() + b"{")
    assert connection.recv(65536).startswith(b"HTTP/1.1 408")


def test_an_answer_that_takes_long_is_none_that_pauses(hurried: None, client: Client) -> None:
    with client.stream("/events?follow=true", accept="text/event-stream") as response:
        assert response.status == 200
        time.sleep(1)
        client.patch("/settings", {"changes": {"training.seed": 9}}).ok()
        assert b"SettingChanged" in b"".join(response.readline() for _ in range(7))


def taken_before_it_closes(connection: socket.socket, piece: bytes) -> int:
    """How many of these are taken, of ten thousand at most."""
    for taken in range(10_000):
        try:
            connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            return taken
    return 10_000


def test_a_head_without_end_takes_no_memory_without_end(connection: socket.socket) -> None:
    connection.sendall(b"GET / HTTP/1.1\r\n")
    line = b"x-more: " + b"y" * 1000 + b"\r\n"
    assert taken_before_it_closes(connection, line) < 2000


@pytest.mark.parametrize("piece", [b"x-more: " + b"y" * 1000 + b"\r\n", b"y" * 1000])
def test_what_stands_behind_a_body_takes_no_memory_without_end(connection: socket.socket, piece: bytes) -> None:
    head = f"POST {ROOT}/start HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    connection.sendall(head.encode() + b"2\r\n{}\r\n0\r\nx: ")
    assert taken_before_it_closes(connection, piece) < 2000


def test_others_have_so_many_connections_and_those_that_end_make_room(
    daemon: ThreadedDaemon, client: Client, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "MOST_CONNECTIONS", 5)
    with peers.as_(Peers.STRANGER):
        held = [connected(daemon) for _ in range(5)]
        with connected(daemon) as more:
            assert rest(more).startswith(b"HTTP/1.1 429")
        # The daemon's own user is not in their way, nor they in ours.
        with peers.as_(None):
            client.get("/status").ok()
        held.pop().close()
        deadline = time.monotonic() + 30
        while client.get("/settings").status == 429:
            assert time.monotonic() < deadline
        client.get("/settings").refused(403, "not_permitted")
        for one in held:
            one.close()


def test_all_others_together_leave_room_for_the_daemons_own_user(
    daemon: ThreadedDaemon, client: Client, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "MOST_CONNECTIONS", 8)
    monkeypatch.setattr(peer.resource, "getrlimit", lambda _: (peer.KEPT_FILES + 16, 1000))
    with peers.as_(Peers.STRANGER):
        held = [connected(daemon) for _ in range(8)]
    with peers.as_(Peers.MEMBER):
        held += [connected(daemon) for _ in range(6)]
        with connected(daemon) as more:
            assert rest(more).startswith(b"HTTP/1.1 429")
    client.get("/status").ok()
    for one in held:
        one.close()


def test_what_is_no_http_is_refused_as_everything_is(connection: socket.socket) -> None:
    connection.sendall(b"\x16\x03\x01nonsense\r\n\r\n")
    head, _, body = rest(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n")
    assert json.loads(body)["code"] == "bad_request"


def test_digits_that_are_no_numbers_are_refused_as_words_are(client: Client) -> None:
    client.get("/events?follow=true", last_event_id="\xb2").refused(422, "invalid_value")
    assert client.get("/audit?user=%C2%B2").ok() == []


def test_a_follower_that_reads_nothing_holds_a_piece_and_nobody_else(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PIECE_BYTES", 1000)
    for seed in range(20):
        client.patch("/settings", {"changes": {"training.seed": seed}, "why": "y" * 400}).ok()
    head = client.events()[-1]["seq"]
    with client.stream("/events?after=0&follow=true") as silent, client.stream("/events?after=0&follow=true") as read:
        assert silent.status == 200
        seen = 0
        while seen < head:
            line = read.readline()
            assert line
            seen = int(line[4:]) if line.startswith(b"id: ") else seen
        client.patch("/settings", {"changes": {"training.seed": 99}}).ok()
        while b'"after":99' not in read.readline():
            pass


def test_a_page_of_many_events_comes_piece_by_piece(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(100, 112):
        client.patch("/settings", {"changes": {"training.seed": seed}}).ok()
    whole, changes = client.events(), client.events(type="SettingChanged")
    monkeypatch.setattr(events, "FOLLOWED_ROWS", 3)
    for limit in (2, 3, 6, 7, 10_000):
        asked = f"/events?after=0&limit={limit}"
        assert client.get(asked, accept="application/json").ok() == whole[:limit]
        assert client.get(f"{asked}&type=SettingChanged", accept="application/json").ok() == changes[:limit]


def test_others_ask_so_much_a_second(client: Client, peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    with peers.as_(Peers.MEMBER):
        found = {client.get("/settings").status for _ in range(guard.BURST + 100)}
        assert 429 in found
        answer = client.get("/settings")
        while answer.status != 429:
            answer = client.get("/settings")
        answer.refused(429, "too_many")
        assert int(answer.headers["retry-after"]) == 1
    client.get("/settings").ok()
