"""Asks one daemon, as one user, what schemathesis makes up from its OpenAPI document, and judges every answer.

A program of its own, since schemathesis lives in an environment of its own: benchmarks.api_fuzz runs it. Ids of things
that are there take the place of many that were made up, and paths stay below a folder that may be spoiled. What is
wrong is written as JSON lines, and the counts as the last of them.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import HypothesisException
from schemathesis.checks import load_all_checks
from schemathesis.core.errors import SchemathesisError
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from benchmarks.as_user import as_user

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
KNOWN = 0.7
"""How often an id that was made up gives way to one that is there."""
CASES = 5
"""Of one operation in a row, of those that fit its description and of those that do not."""
AT_ONE_S = 1.5
"""So long at most one operation is asked in a row: some take seconds for each answer."""
LAST = 0.3
"""The share of the time, at its end, in which what ends, gives away or takes back everything is asked too."""
ENDING = ("/reset", "/restore", "/access", "/owners", "/erasures")
STREAM_S = 2.0
DOWN_S = 60.0
PATH_FIELDS = ("path", "to", "folder", "folders", "command")


@dataclass
class Asked:
    """An answer as it came; ``problem`` says what kept it from being whole."""

    status: int
    headers: dict[str, list[str]]
    body: bytes
    seconds: float
    reason: str = ""
    problem: str = ""


class Fuzzer:
    """One user's requests for a while. ``known`` has ids that are there by the name of the field that takes them.

    ``sent first`` in it are contents, which are known only to who has sent them.
    """

    def __init__(self, given_: argparse.Namespace, known: dict[str, list[Any]]) -> None:
        self._given, self._known = given_, known
        self._drawn = random.Random(f"{given_.seed} {given_.user} {given_.part}")
        self._told: set[tuple[str, ...]] = set()
        self._strategies: dict[tuple[str, Any], Any] = {}
        self._out = Path(given_.out).open("a", encoding="utf-8")  # noqa: SIM115 - open for as long as the process
        self.counted: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.slowest: tuple[float, str] = (0.0, "")
        self._end = time.monotonic() + given_.seconds
        document = json.loads(self._asked("GET", "/openapi.json", {}, b"").body)
        self.schema = schemathesis.openapi.from_dict(document)
        operations = [found.ok() for found in self.schema.get_all_operations()]
        self.operations = [one for one in operations if given_.only in one.label]
        self._answered: set[str] = set()
        self._ending_too = bool(given_.only)
        self._next: list[Any] = []

    @property
    def _is_late(self) -> bool:
        return time.monotonic() > self._end

    def run(self) -> None:
        modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
        for text in self._known.pop("sent first"):
            digest = hashlib.sha256(text.encode()).hexdigest()
            self._asked("PUT", f"/api/basic-training/contents/{digest}", {}, text.encode())
        while not self._is_late:
            operation = self._drawn_operation()
            for mode in modes:
                # Nothing that fits no description can be made up for an operation that takes nothing.
                with suppress(HypothesisException):
                    self._cases(operation, mode)
                    continue
                self.counted["nothing made up"] += 1
        self._tell(
            {
                "user": self._given.user,
                "counted": self.counted,
                "statuses": self.statuses,
                "operations": len(self.operations),
                "asked": sorted(self._answered),
                "slowest": self.slowest,
            }
        )

    def _drawn_operation(self) -> Any:
        """One after the other in a drawn order, so that none is left out; each part begins elsewhere in it."""
        if not self._ending_too and self._end - time.monotonic() < LAST * self._given.seconds:
            self._ending_too = True
            ending = [one for one in self._in_order() if _ends_things(one)]
            # A reset leaves nothing to end, and nobody but the daemon's own user to ask.
            self._next = sorted(ending, key=lambda one: "/reset" in one.label) + self._next
        if not self._next:
            self._next = [one for one in self._in_order() if self._ending_too or not _ends_things(one)]
        return self._next.pop(0)

    def _in_order(self) -> list[Any]:
        order = [*self.operations]
        random.Random(f"{self._given.seed} {self._given.user}").shuffle(order)
        at = len(order) * self._given.part // self._given.parts
        return order[at:] + order[:at]

    def _cases(self, operation: Any, mode: Any) -> None:
        until = time.monotonic() + AT_ONE_S

        @seed(self._drawn.randrange(2**32))
        @settings(
            max_examples=CASES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=self._strategy(operation, mode))
        def one(case: Any) -> None:
            if not self._is_late and time.monotonic() < until:
                self._ask(case, operation)

        one()

    def _strategy(self, operation: Any, mode: Any) -> Any:
        key = (operation.label, mode)
        if key not in self._strategies:
            self._strategies[key] = operation.as_strategy(generation_mode=mode)
        return self._strategies[key]

    def _ask(self, case: Any, operation: Any) -> None:
        self._with_known(case)
        try:
            sent = case.as_transport_kwargs(base_url="http://localhost")
            request = requests.Request(**{name: value for name, value in sent.items() if value is not None}).prepare()
        except (requests.RequestException, SchemathesisError, UnicodeError):
            self.counted["could not be sent"] += 1
            return
        accepted = self._drawn.choice(_media_types(operation))
        headers = {**request.headers, "Accept": accepted}
        body = request.body.encode() if isinstance(request.body, str) else request.body or b""
        target = request.path_url
        if operation.label.startswith("PUT ") and "{sha256}" in operation.label and self._drawn.random() < KNOWN:
            # Nobody draws the hash of what they send.
            target = re.sub(r"/[^/?]*(?=\?|$)", f"/{hashlib.sha256(body).hexdigest()}", target, count=1)
        try:
            answer = self._asked(request.method or "GET", target, headers, body)
        except PermissionError:
            # The last grant was taken back, with which the socket closes to others.
            self.counted["the door was closed"] += 1
            time.sleep(0.2)
            return
        self.counted["requests"] += 1
        self.statuses[str(answer.status)] += 1
        if answer.status != 429:
            self._answered.add(operation.label)
        self._learn(answer, operation)
        if answer.seconds > self.slowest[0]:
            self.slowest = (answer.seconds, operation.label)
        wrong = [*self._judged(answer, operation), *_conforming(case, answer, request)]
        for what in wrong:
            self._note(what, operation.label, request, answer)

    def _learn(self, answer: Asked, operation: Any) -> None:
        """Exports are for who asked for them alone: their ids and files are known from the answer."""
        if answer.status != 200 or not operation.label.endswith("/exports") or not answer.body:
            return
        told = _document(answer.body.splitlines()[-1])
        made = told.get("result") or told
        if isinstance(made, dict) and "export_id" in made:
            self._known.setdefault("export_id", []).append(made["export_id"])
            self._known.setdefault("path", []).extend(one["path"] for one in made["files"])

    def _with_known(self, case: Any) -> None:
        for place in (case.path_parameters, case.query, case.body):
            if isinstance(place, dict):
                for name in place:
                    place[name] = self._value(name, place[name])

    def _value(self, name: str, value: Any) -> Any:
        if name in self._known and self._drawn.random() < KNOWN:
            return self._drawn.choice(self._known[name])
        if name in PATH_FIELDS:
            # Whatever it asks for, nothing outside may come to harm.
            if isinstance(value, str) and value.startswith("/"):
                return self._given.scratch + value.replace("..", "")
            if isinstance(value, list):
                return [self._value(name, one) for one in value]
        if isinstance(value, dict):
            return {key: self._value(key, one) for key, one in value.items()}
        return value

    def _asked(self, method: str, target: str, headers: Any, body: bytes) -> Asked:
        """The answer, once the daemon is there."""
        down_since: float | None = None
        while True:
            try:
                return self._once(method, target, headers, body)
            except (FileNotFoundError, ConnectionRefusedError):
                down_since = down_since or time.monotonic()
                if time.monotonic() - down_since > DOWN_S:
                    raise
                time.sleep(0.2)

    def _once(self, method: str, target: str, headers: Any, body: bytes) -> Asked:
        began = time.monotonic()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(self._given.limit)
            with as_user(self._given.uid, self._given.gid):
                connection.connect(self._given.socket)
            try:
                with suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(_head(method, target, headers, body) + body)
                return self._received(connection, method, began)
            except TimeoutError:
                return Asked(0, {}, b"", time.monotonic() - began, problem="no whole answer in time")
            except (OSError, http.client.HTTPException) as error:
                return Asked(0, {}, b"", time.monotonic() - began, problem=f"broken off: {type(error).__name__}")

    def _received(self, connection: socket.socket, method: str, began: float) -> Asked:
        response = http.client.HTTPResponse(connection, method=method)
        response.begin()
        found = {name.lower(): [value] for name, value in response.getheaders()}
        content, is_stream = b"", "text/event-stream" in found.get("content-type", [""])[0]
        with suppress(TimeoutError if is_stream else ()):
            while True:
                left_s = (STREAM_S if is_stream else self._given.limit) - (time.monotonic() - began)
                connection.settimeout(max(0.01, left_s))
                piece = response.read1(1 << 20)
                content += piece
                # A stream of events has no end.
                if not piece or (is_stream and b"\n\n" in content):
                    break
        return Asked(response.status, found, content, time.monotonic() - began, response.reason)

    def _judged(self, answer: Asked, operation: Any) -> Iterator[str]:
        """What no description has to say."""
        if answer.problem:
            yield answer.problem
            return
        if answer.status >= 500 and answer.status != 503:
            yield f"answered {answer.status}"
        if answer.status == 429 and not answer.headers.get("retry-after", [""])[0].isdigit():
            yield "told nobody when to ask again"
        media_type = answer.headers.get("content-type", [""])[0].partition(";")[0]
        if answer.status >= 400 and answer.body:
            if media_type != "application/problem+json":
                yield f"a refusal of the type {media_type}"
            elif _document(answer.body).get("status") != answer.status:
                yield "a problem document with another status, or none at all"
        if media_type == "application/x-ndjson" and answer.status == 200:
            last = _document(answer.body.splitlines()[-1]) if answer.body else {}
            status = (last.get("error") or {}).get("status", 200)
            if str(status) not in operation.responses.status_codes:
                yield f"told {status} at the end, which is not documented"

    def _note(self, what: str, label: str, request: Any, answer: Asked) -> None:
        self.counted["wrong"] += 1
        if (what, label) in self._told:
            return
        self._told.add((what, label))
        body = request.body if isinstance(request.body, str) else (request.body or b"").decode("utf-8", "replace")
        self._tell(
            {
                "wrong": what,
                "operation": label,
                "user": self._given.user,
                "request": f"{request.method} {request.path_url}"[:1000],
                "body": body[:2000],
                "status": answer.status,
                "answer": answer.body[:1000].decode("utf-8", "replace"),
                "seconds": round(answer.seconds, 2),
            }
        )

    def _tell(self, document: dict[str, Any]) -> None:
        self._out.write(json.dumps(document) + "\n")
        self._out.flush()


def _document(text: bytes) -> dict[str, Any]:
    """Empty for what is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _ends_things(operation: Any) -> bool:
    method, _, path = operation.label.partition(" ")
    below = path.removeprefix("/api/basic-training")
    return method == "DELETE" or (method not in ("GET", "HEAD") and below.startswith(ENDING))


def _media_types(operation: Any) -> list[str]:
    found = operation.definition.raw.get("responses", {}).get("200", {}).get("content", {})
    return [*found] or ["*/*"]


def _head(method: str, target: str, headers: Any, body: bytes) -> bytes:
    told = {name: value for name, value in headers.items() if name.lower() not in ("connection", "content-length")}
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in told.items()]
    if body or method not in ("GET", "HEAD"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def _conforming(case: Any, answer: Asked, request: Any) -> Iterator[str]:
    """What the description has to say: status, type and form."""
    if answer.problem:
        return
    response = schemathesis.Response(
        answer.status, answer.headers, answer.body, request, answer.seconds, verify=False, message=answer.reason
    )
    try:
        case.validate_response(response, checks=CHECKS)
    except FailureGroup as failures:
        for one in failures.exceptions:
            yield f"{type(one).__name__}: {str(one).splitlines()[0]} ({answer.status})"
    except Failure as failure:
        yield f"{type(failure).__name__}: {str(failure).splitlines()[0]} ({answer.status})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api_fuzzer")
    for name in ("--socket", "--user", "--known", "--out", "--scratch"):
        parser.add_argument(name, required=True)
    parser.add_argument("--only", default="")
    for name in ("--uid", "--gid", "--seed", "--part", "--parts"):
        parser.add_argument(name, type=int, required=True)
    for name in ("--seconds", "--limit"):
        parser.add_argument(name, type=float, required=True)
    asked = parser.parse_args()
    known = json.loads(Path(asked.known).read_text())
    load_all_checks()
    Fuzzer(asked, known).run()


if __name__ == "__main__":
    main()
