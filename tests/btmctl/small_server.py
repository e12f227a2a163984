"""A small real HTTP server on a Unix socket, for what btmctl sends and how it takes what comes back."""

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

ROOT = "/api/basic-training"


@dataclass
class Request:
    """What arrived. ``body`` is read only when a route asks for it, as a server that refuses an upload would."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    handler: "Handler"

    def body(self) -> bytes:
        return self.handler.rfile.read(int(self.headers.get("content-length", "0")))

    def json(self) -> Any:
        return json.loads(self.body())


Route = Callable[[Request], None]


@dataclass
class SmallServer:
    socket_path: str
    routes: dict[tuple[str, str], Route] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)

    def answers(self, method: str, path: str, document: object, status: int = 200) -> None:
        """Answer this request with a JSON document."""
        self.routes[method, ROOT + path] = lambda request: reply(request, document, status)

    def does(self, method: str, path: str, route: Route) -> None:
        self.routes[method, ROOT + path] = route


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, parts.path, parse_qs(parts.query), headers, self)
        self.server.small.seen.append((self.command, self.path))
        route = self.server.small.routes.get((self.command, parts.path))
        self.close_connection = True
        if route is None:
            problem = {"title": "There is no such thing", "detail": f"Nothing at {parts.path}.", "code": "not_found"}
            reply(request, problem, 404)
        else:
            route(request)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_any

    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests look at ``seen``."""


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    small: SmallServer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that left early is part of some tests."""


def reply(request: Request, document: object, status: int = 200) -> None:
    content = json.dumps(document).encode()
    handler = request.handler
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json" if status < 400 else "application/problem+json")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    if request.method != "HEAD":
        handler.wfile.write(content)


def chunked(request: Request, pieces: list[bytes], *, media_type: str, complete: bool = True) -> None:
    """Answer in chunks; without ``complete`` the connection ends before the last one."""
    handler = request.handler
    handler.send_response(200)
    handler.send_header("Content-Type", media_type)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for piece in pieces:
        handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        handler.wfile.flush()
    if complete:
        handler.wfile.write(b"0\r\n\r\n")


@contextmanager
def small_server() -> Iterator[SmallServer]:
    # pytest's own folders are too deep for a socket's path.
    with tempfile.TemporaryDirectory(prefix="btmctl-") as folder:
        path = os.path.join(folder, "s")
        server = _Server(path, Handler)
        server.small = SmallServer(path)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.small
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def rows_file(folder: Path, rows: int = 3) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(f'{{"question": "q{n}", "answer": "a{n}"}}\n' for n in range(rows)))
    return path
