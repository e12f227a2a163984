"""Clients that a daemon has to bear: streams of events that are read or are not, and requests that are given up."""

from __future__ import annotations

import random
import re
import selectors
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from benchmarks.as_user import OWN_UID, as_user
from tests.fixtures.daemon import ROOT

HOST = "HTTP/1.1\r\nhost: x\r\n"
FOLLOW = f"GET {ROOT}/events?follow=true{{more}} {HOST}accept: text/event-stream\r\n\r\n"
GIVEN_UP = {
    "head": f"GET {ROOT}/status {HOST}x-more: ",
    "body": f"PATCH {ROOT}/settings {HOST}content-type: application/json\r\ncontent-length: 1000\r\n\r\n{{",
    "upload": f"PUT {ROOT}/contents/{'a' * 64} {HOST}content-length: 1000000\r\n\r\n{'b' * 1000}",
    "answer": f"GET /openapi.json {HOST}\r\n",
    "stream": FOLLOW.format(more="&after=0"),
}
"""By what a client is in the middle of when it drops the connection, all that it had sent."""
AT_ONCE = 40
_ID = re.compile(rb"^id: (\d+)$", re.MULTILINE)
_RECORDED = re.compile(rb'"recorded_at":"([^"]+)"')


def connected(path: Path, uid: int = OWN_UID) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(60)
    with as_user(uid, uid):
        made.connect(str(path))
    return made


def request(path: Path, method: str, target: str, body: bytes = b"") -> bytes:
    """The answer's body. Raises AssertionError for any status but 200."""
    with connected(path) as client:
        head = f"{method} {ROOT}{target} {HOST}connection: close\r\ncontent-type: application/json\r\n"
        client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        found = b""
        while piece := client.recv(65536):
            found += piece
    assert found.startswith(b"HTTP/1.1 200"), found[:1000]
    return found.partition(b"\r\n\r\n")[2]


class Streams:
    """Event streams, read as they come by a thread, but for those that are silent: they never read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._selector = selectors.DefaultSelector()
        self._silent: list[socket.socket] = []
        self._last: dict[socket.socket, int] = {}
        self._rest: dict[socket.socket, bytes] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self.events = self.missed = self.closed = 0
        self.delays_s: list[float] = []
        """From the recording of an event to its arrival, of the last one of each piece."""

    def open(self, count: int, uid: int, *, after: int, silent: bool = False) -> None:
        """Raises AssertionError where one is refused. Those that are read begin after ``after``."""
        for _ in range(count):
            stream = connected(self._path, uid)
            stream.sendall(FOLLOW.format(more=f"&after={0 if silent else after}").encode())
            if silent:
                self._silent.append(stream)
                continue
            head = b""
            while b"\r\n\r\n" not in head:
                piece = stream.recv(4096)
                assert piece, f"a stream of the user {uid} was closed: {head!r}"
                head += piece
            assert head.startswith(b"HTTP/1.1 200"), head
            stream.setblocking(False)
            self._last[stream], self._rest[stream] = after, head.partition(b"\r\n\r\n")[2]
            self._selector.register(stream, selectors.EVENT_READ)
        if not self._thread.is_alive():
            self._thread.start()

    @property
    def lowest(self) -> int:
        """The last event of that follower which has come least far."""
        return min(self._last.values())

    def close(self) -> None:
        """Drop them all, in the middle of whatever they are told."""
        self._ended.set()
        self._thread.join()
        for stream in (*self._last, *self._silent):
            stream.close()
        self._selector.close()

    def _read(self) -> None:
        while not self._ended.is_set():
            for key, _ in self._selector.select(0.2):
                stream = key.fileobj
                assert isinstance(stream, socket.socket)
                self._take(stream)

    def _take(self, stream: socket.socket) -> None:
        piece = stream.recv(1 << 20)
        now_s = time.time()
        if not piece:
            self.closed += 1
            self._selector.unregister(stream)
            return
        whole, found, rest = (self._rest[stream] + piece).rpartition(b"\n\n")
        self._rest[stream] = rest
        numbers = [int(one) for one in _ID.findall(whole)] if found else []
        for number in numbers:
            self.missed += number != self._last[stream] + 1
            self._last[stream] = number
        self.events += len(numbers)
        if numbers:
            recorded = datetime.fromisoformat(_RECORDED.findall(whole)[-1].decode()).timestamp()
            self.delays_s.append(now_s - recorded)


def give_up(path: Path, kinds: list[str], seed: int) -> None:
    """Connect for each of these, be in the middle of it for a moment, and drop the connection."""
    drawn = random.Random(seed)
    pauses = [drawn.uniform(0, 0.05) for _ in kinds]

    def one(kind: str, pause_s: float) -> None:
        with connected(path) as client:
            client.sendall(GIVEN_UP[kind].encode())
            if kind == "stream":
                client.recv(1000)
            time.sleep(pause_s)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, kinds, pauses))
