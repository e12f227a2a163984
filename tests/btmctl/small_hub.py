"""A hub on loopback that speaks the Hugging Face protocol, with a second server for large files as the real one has."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

REVISION = "0123456789abcdef0123456789abcdef01234567"
LARGE_BYTES = 10_000


@dataclass
class SmallHub:
    """``files`` by name are served as the model org/name. The other fields make it misbehave."""

    files: dict[str, bytes]
    endpoint: str = ""
    store: str = ""
    cut_after_bytes: int | None = None
    """Each answer of the large-file server ends after so many bytes of content."""
    flip: str = ""
    """The file whose last byte arrives changed."""
    ranges: bool = True
    refusal: tuple[int, str] | None = None
    """Status and error code that files are refused with; the listing too, if ``refuse_listing``."""
    refuse_listing: bool = False
    extra: list[dict[str, Any]] = field(default_factory=list)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Server (hub or store), path and headers of every request."""

    def paths(self, server: str) -> list[str]:
        return [path for which, path, _ in self.seen if which == server]


def _listing(hub: SmallHub) -> bytes:
    siblings: list[dict[str, Any]] = []
    for name, content in hub.files.items():
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
        if len(content) >= LARGE_BYTES:
            sha256 = hashlib.sha256(content).hexdigest()
            # As on the hub: git's blob is the pointer's, not the file's.
            entry |= {"lfs": {"sha256": sha256, "size": len(content), "pointerSize": 134}, "blobId": "f" * 40}
        siblings.append(entry)
    return json.dumps({"id": "org/name", "sha": REVISION, "siblings": [*siblings, *hub.extra]}).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        hub, path = self.server.hub, urlsplit(self.path).path
        hub.seen.append((self.server.name, self.path, {name.lower(): value for name, value in self.headers.items()}))
        if self.server.name == "store":
            self._content(path.removeprefix("/"))
        elif path == "/api/models/org/name/revision/main":
            if hub.refusal is not None and hub.refuse_listing:
                self._refuse(*hub.refusal)
            else:
                self._answer(200, _listing(hub))
        elif path.startswith(f"/org/name/resolve/{REVISION}/"):
            name = path.rpartition("/")[2]
            if hub.refusal is not None:
                self._refuse(*hub.refusal)
            elif len(hub.files[name]) >= LARGE_BYTES:
                self._answer(302, b"", location=f"{hub.store}/{name}")
            else:
                self._content(name)
        else:
            self._refuse(404, "RepoNotFound")

    def _content(self, name: str) -> None:
        hub = self.server.hub
        content = hub.files[name]
        if name == hub.flip:
            content = content[:-1] + bytes([content[-1] ^ 1])
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and hub.ranges else 0
        body = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.name == "store" and hub.cut_after_bytes is not None and len(body) > hub.cut_after_bytes:
            self.wfile.write(body[: hub.cut_after_bytes])
            self.close_connection = True
            return
        self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, b"{}", x_error_code=code)

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: it would stand among a test's own output."""


class _Server(ThreadingHTTPServer):
    def __init__(self, hub: SmallHub, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub, self.name = hub, name


@contextmanager
def small_hub(files: dict[str, bytes]) -> Iterator[SmallHub]:
    """A running hub with these files."""
    hub = SmallHub(files)
    servers = [_Server(hub, name) for name in ("hub", "store")]
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True) for server in servers]
    hub.endpoint, hub.store = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()
