"""Clients of a daemon that comes and goes: followers of its events, writers, and some that only ask something.

Each runs in a thread of its own until it is told to end, and goes on where it was when the daemon is back.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from random import Random

from btmctl.client import Client as ProductClient
from btmctl.errors import ServerRefused, Unreachable
from tests.fixtures.daemon import Client

AGAIN_S = 0.05
"""Before asking anew a daemon that is not there."""
SILENCE_S = 60.0
"""Longer than between two signs of life of a stream."""
QUESTIONS = ("/status", "/health", "/settings", "/jobs", "/backups", "/datasets", "/events?limit=5", "/metrics")


class Follower(threading.Thread):
    """Notes the number of every event as it comes; ``stream``: only of that one. Ends at ``upto``, once that is set."""

    def __init__(self, name: str, path: Path, *, pause_s: float = 0.0, stream: str = "") -> None:
        super().__init__(name=name, daemon=True)
        self.path, self.stream = path, stream
        self.seen: list[int] = []
        self.breaks = 0
        self.upto: int | None = None
        self._pause_s = pause_s

    @property
    def last(self) -> int:
        return self.seen[-1] if self.seen else 0

    def run(self) -> None:
        while not self._is_done():
            with suppress(OSError, HTTPException, Unreachable, ServerRefused):
                for seq in self.events(self.last):
                    self.seen.append(seq)
                    if self._is_done():
                        return
                    # In the end it has to catch up with the others.
                    if self._pause_s and self.upto is None:
                        time.sleep(self._pause_s)
            self.breaks += 1
            time.sleep(AGAIN_S)

    def _is_done(self) -> bool:
        return self.upto is not None and self.last >= self.upto

    def events(self, after: int) -> Iterator[int]:
        """As a browser would: plain HTTP, ``Last-Event-ID`` after a break."""
        asked = f"/events?follow=true{'&after=0' if not after else ''}{f'&stream={self.stream}' if self.stream else ''}"
        more = {"last_event_id": str(after)} if after else {}
        with Client(self.path).stream(asked, **more) as response:
            if response.status != 200:
                return
            yield from _numbers(response)


def _numbers(response: HTTPResponse) -> Iterator[int]:
    """Of whole events only: one that was cut off has no empty line behind it."""
    number, data = 0, ""
    while line := response.readline().decode():
        if line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("data: "):
            data = line[6:]
        elif line == "\n" and data:
            assert json.loads(data)["seq"] == number
            yield number
            data = ""


class ProductFollower(Follower):
    """With the client that btmctl and the Python client use; ``after`` after a break."""

    def events(self, after: int) -> Iterator[int]:
        query = {"stream": self.stream} if self.stream else {}
        for event in ProductClient(str(self.path)).events(after, follow=True, timeout_s=SILENCE_S, **query):
            if event is not None:
                yield event["seq"]


class CommandFollower(Follower):
    """``btmctl events --follow --json``, one process from beginning to end."""

    def run(self) -> None:
        command = [sys.executable, "-m", "btmctl", "--socket", str(self.path), "events", "--follow", "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            for line in process.stdout:
                told = json.loads(line)
                if "seq" not in told:
                    raise AssertionError(f"{self.name}: {told}")
                self.seen.append(told["seq"])
                if self._is_done():
                    break
            process.terminate()


class Writer(threading.Thread):
    """Changes a setting again and again, each time to a value and with a word of its own, sent once."""

    def __init__(self, number: int, path: Path, ended: threading.Event, *, pause_s: float = 0.03) -> None:
        super().__init__(name=f"writer {number}", daemon=True)
        self._number = number
        self._client, self._ended, self._pause_s = Client(path), ended, pause_s
        self.sent: list[str] = []
        self.acknowledged: list[str] = []

    def run(self) -> None:
        while not self._ended.wait(self._pause_s):
            word = f"{self.name} {len(self.sent)}"
            self.sent.append(word)
            with suppress(OSError, HTTPException):
                # A value that another one has just set would be no change.
                body = {"changes": {"training.seed": 10 * len(self.sent) + self._number}, "why": word}
                if self._client.patch("/settings", body).status == 200:
                    self.acknowledged.append(word)


class Asker(threading.Thread):
    """Asks plain questions without an end: each is answered, or fails, within ``limit_s``.

    ``unanswered`` is called at once where one does neither, while everything still stands as it was.
    """

    def __init__(
        self, name: str, path: Path, ended: threading.Event, limit_s: float, unanswered: Callable[[str], None]
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._path, self._ended, self._limit_s, self._unanswered = path, ended, limit_s, unanswered
        self._drawn = Random(name)
        self.took_s: list[float] = []
        self.failed: Counter[str] = Counter()
        self.unanswered = 0

    def run(self) -> None:
        while not self._ended.wait(0.02):
            question = self._drawn.choice(QUESTIONS)
            began = time.monotonic()
            try:
                status = answered(self._path, question, self._limit_s)
            except TimeoutError:
                self.unanswered += 1
                self._unanswered(f"{self.name}: GET {question}, nothing for {time.monotonic() - began:.1f} s")
            except (OSError, HTTPException) as error:
                self.failed[type(error).__name__] += 1
            else:
                self.failed[f"status {status}"] += status != 200
                self.took_s.append(time.monotonic() - began)


def answered(path: Path, question: str, limit_s: float) -> int:
    """The status of a whole answer. Raises TimeoutError after ``limit_s``, OSError where the connection breaks."""
    deadline = time.monotonic() + limit_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(limit_s)
        connection.connect(str(path))
        connection.sendall(
            f"GET /api/basic-training{question} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
        )
        found = b""
        while piece := connection.recv(65536):
            found += piece
            connection.settimeout(max(0.01, deadline - time.monotonic()))
    head = found.partition(b"\r\n")[0].split()
    if len(head) < 2:
        raise ConnectionResetError("closed before the answer")
    return int(head[1])
