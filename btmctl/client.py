"""The daemon's REST interface as btmctl uses it: documents in, documents out, refusals as typed errors."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from btmctl.errors import ConnectionLost, ServerRefused, Unreachable, UsageError
from btmctl.unix_http import Response, Waiting, request

ROOT = "/api/basic-training"
Document = dict[str, Any]
ANSWER_S = 30.0
"""How long a question may take, or a change that is nothing but an entry in the log."""
WORK_S = 600.0
TOO_MANY = 429
MOST_WAITS = 60
PAGE = 500
"""How many entries of a list are asked for at once."""
POSITIONS = {"/preset-definitions": ("key", "after")}
"""Where a list goes on not before the ``number`` of its last entry: by which field, and how that is asked."""
_Piece = TypeVar("_Piece")
Progress = Callable[[float | None, str], None]
"""Told a share from 0 to 1 (None while unknown) and a sentence."""


class Client:
    """Talks to one daemon. Every method raises Unreachable, ConnectionLost or ServerRefused."""

    def __init__(self, socket_path: str, waiting: Waiting | None = None) -> None:
        self.socket_path = socket_path
        self._waiting = waiting
        self.daemon_version = ""
        """Of who answered last; empty before, and for one that does not say."""

    def get(self, path: str, *, timeout_s: float = ANSWER_S, **query: object) -> Any:
        return self._document("GET", path, query=query, timeout_s=timeout_s)

    def listed(self, path: str, *, most: int | None = None, **query: object) -> list[Any]:
        """All entries of a list, or the first ``most``, however many pages the daemon answers it in."""
        field, parameter = POSITIONS.get(path, ("number", "before"))
        found: list[Any] = []
        position: object = None
        while True:
            limit = PAGE if most is None else min(PAGE, most - len(found))
            asked: Document = {**query, "limit": limit, parameter: position}
            page = self.get(path, **asked)
            if position is not None and page and page[-1].get(field) == position:
                # A btmd that answers in no pages told all of it before.
                return found
            found += page
            position = page[-1].get(field) if page else None
            if position is None or len(page) < limit or len(found) == most:
                return found

    def post(self, path: str, body: Document | None = None) -> Any:
        return self._document("POST", path, body=body or {})

    def patch(self, path: str, body: Document) -> Any:
        return self._document("PATCH", path, body=body, timeout_s=ANSWER_S)

    def put(self, path: str, body: Document) -> Any:
        return self._document("PUT", path, body=body)

    def delete(self, path: str, **query: object) -> Any:
        return self._document("DELETE", path, query=query)

    def text(self, path: str, **query: object) -> Iterator[str]:
        """A text answer in pieces, as they come."""
        with self._send("GET", _target(path, query), accept="text/plain", timeout_s=None) as response:
            for chunk in self._guarded(response.chunks()):
                yield chunk.decode("utf-8", "replace")

    def download(self, path: str, **query: object) -> Iterator[bytes]:
        """The bytes of a file in pieces, as they come."""
        with self._send("GET", _target(path, query), accept="application/octet-stream", timeout_s=WORK_S) as response:
            yield from self._guarded(response.chunks())

    def stream(self, path: str, body: Document) -> Iterator[Document]:
        """POST and yield the documents of the answer, one a line, as they come."""
        with self._send(
            "POST", _target(path, {}), body=body, accept="application/x-ndjson", timeout_s=None
        ) as response:
            for line in self._guarded(response.lines()):
                if line.strip():
                    yield _parsed(line)

    def run(self, path: str, body: Document, progress: Progress) -> Document:
        """POST something that takes a while: told its progress, returns its result."""
        result: Document | None = None
        # Until it says how far it is.
        over = self._waiting() if self._waiting is not None else None
        try:
            for document in self.stream(path, body):
                if "error" in document:
                    problem = document["error"]
                    raise ServerRefused(problem, int(problem.get("status") or 500))
                if "result" in document:
                    result = document["result"]
                elif "progress" in document or "text" in document:
                    progress(document.get("progress"), str(document.get("text") or ""))
                else:
                    result = document
        finally:
            if over is not None:
                over()
        if result is None:
            raise ConnectionLost(
                "The daemon went away before it was done.", hint="btmctl status shows whether it runs."
            )
        return result

    def events(
        self, after: int | None, *, follow: bool, timeout_s: float | None = None, **query: object
    ) -> Iterator[Document | None]:
        """Events after ``after`` (None: from now on), oldest first; None now and then while nothing happens.

        With ``follow`` it goes on until the connection ends (ConnectionLost); ``timeout_s`` without even a
        keep-alive counts as that too. ``query`` may name ``type`` and ``stream``, lists allowed, and ``since_us``.
        """
        if not follow:
            yield from self._event_pages(after or 0, query)
            return
        target = _target("/events", {"after": after, "follow": "true", **query})
        with self._send("GET", target, accept="text/event-stream", timeout_s=timeout_s) as response:
            data: list[str] = []
            for line in self._guarded(response.lines()):
                if line.startswith("data:"):
                    data.append(line[5:].removeprefix(" "))
                elif not line and data:
                    yield _parsed("\n".join(data))
                    data = []
                elif line.startswith(":") or not line:
                    yield None
        raise ConnectionLost("The daemon closed the stream of events.")

    def _event_pages(self, after: int, query: Document) -> Iterator[Document]:
        while True:
            events = self.get("/events", after=after, **query)
            yield from events
            if not events:
                return
            after = events[-1]["seq"]

    def stored_bytes(self, sha256: str, place: str = "/contents") -> int | None:
        """How many bytes of this content the daemon has in ``place``: None when it has all of them."""
        with self._answered(lambda: request(self.socket_path, "HEAD", _target(f"{place}/{sha256}", {}))) as response:
            if response.status == 200:
                return None
            if response.status == 404:
                return int(response.headers.get("upload-offset", "0"))
        raise ServerRefused({"title": "The daemon does not take this file"}, response.status)

    def upload(
        self, sha256: str, pieces: Iterable[bytes], offset: int, size_bytes: int, place: str = "/contents"
    ) -> None:
        """Send the bytes of a content from ``offset`` on; ``size_bytes`` is how many those are."""
        target = _target(f"{place}/{sha256}", {"offset": offset})
        headers = {"Content-Type": "application/octet-stream", "Accept": "application/json"}
        try:
            response = request(
                self.socket_path,
                "PUT",
                target,
                headers=headers,
                body=pieces,
                body_size_bytes=size_bytes,
                timeout_s=WORK_S,
            )
        except OSError as error:
            raise _unreachable(self.socket_path, error) from None
        with response:
            self._checked(response)

    def _document(
        self,
        method: str,
        path: str,
        *,
        query: Document | None = None,
        body: Document | None = None,
        timeout_s: float = WORK_S,
    ) -> Any:
        target = _target(path, query or {})
        with self._send(method, target, body=body, accept="application/json", timeout_s=timeout_s) as response:
            content = b"".join(self._guarded(response.chunks()))
        return _parsed(content.decode("utf-8", "replace")) if content.strip() else None

    def _send(
        self, method: str, target: str, *, accept: str, timeout_s: float | None, body: Document | None = None
    ) -> Response:
        headers = {"Accept": accept}
        content = b""
        if body is not None:
            headers["Content-Type"] = "application/json"
            try:
                content = json.dumps(body, allow_nan=False).encode()
            except ValueError:
                raise UsageError("A value cannot be sent.", "It is no finite number.", "btmctl --help") from None
        return self._checked(
            self._answered(
                lambda: request(
                    self.socket_path,
                    method,
                    target,
                    headers=headers,
                    body=content,
                    timeout_s=timeout_s,
                    waiting=self._waiting,
                )
            )
        )

    def _answered(self, send: Callable[[], Response]) -> Response:
        """The answer; what was asked too fast is asked again when the daemon says so, or else in a while."""
        for _ in range(MOST_WAITS):
            try:
                response = send()
            except OSError as error:
                raise _unreachable(self.socket_path, error) from None
            if response.status != TOO_MANY:
                break
            response.close()
            wait(response.headers.get("retry-after", ""))
        return response

    def _checked(self, response: Response) -> Response:
        self.daemon_version = response.headers.get("btmd-version", "")
        if response.status < 400:
            return response
        with response:
            content = b"".join(self._guarded(response.chunks()))
        try:
            problem = json.loads(content)
        except ValueError:
            problem = {}
        raise ServerRefused(problem if isinstance(problem, dict) else {}, response.status)

    def _guarded(self, pieces: Iterable[_Piece]) -> Iterator[_Piece]:
        try:
            yield from pieces
        except OSError as error:
            raise ConnectionLost(
                "The daemon went away in the middle of an answer.",
                f"{error.strerror or error} ({self.socket_path})",
                "btmctl status shows whether it runs.",
            ) from None


def wait(told_s: str = "") -> None:
    """As long as the daemon says, or a second."""
    time.sleep(min(10, int(told_s)) if told_s.isdigit() else 1)


def _target(path: str, query: Document) -> str:
    noun, _, rest = path[1:].partition("/")
    if path == f"/{noun}/" or (noun == "jobs" and rest.startswith("/")):
        # At that address stands the list, which is not the thing that was asked for.
        raise UsageError("An id or name is empty.", "It names nothing.", f"btmctl {noun} list")
    each = [(name, one) for name, value in query.items() for one in (value if isinstance(value, list) else [value])]
    asked = "&".join(f"{name}={_quoted(str(value), b'')}" for name, value in each if value is not None)
    return ROOT + _quoted(path, b"/:@") + ("?" + asked if asked else "")


def _quoted(text: str, also: bytes) -> str:
    # urllib.parse does the same but takes as long to import as everything else here.
    plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~" + also
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in text.encode())


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ConnectionLost(
            "The daemon's answer cannot be read.",
            "It is not JSON.",
            "btmctl version shows whether both are of one version.",
        ) from None


def _unreachable(socket_path: str, error: OSError) -> Unreachable:
    if isinstance(error, PermissionError):
        why = f"{socket_path} may not be opened: that daemon belongs to somebody else."
    elif isinstance(error, TimeoutError):
        return Unreachable(
            "The daemon does not answer.",
            f"The one at {socket_path} runs, but nothing came back in time.",
            "Try again; if that does not help: btmctl doctor. Where its log is says btmctl help unreachable.",
        )
    else:
        why = f"Nothing answers at {socket_path} ({error.strerror or error})."
    return Unreachable("The daemon cannot be reached.", why, "btmctl daemon start starts one.")
