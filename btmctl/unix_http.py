"""HTTP/1.1 over a Unix socket, as much of it as btmctl needs, without the import cost of a library.

One request a connection. Answers may have a length, be chunked, or end with the connection.
"""

import os
import select
import socket
from collections.abc import Callable, Iterable, Iterator

_MAX_HEAD_BYTES = 65_536
_READ_BYTES = 65_536
_QUICK_S = 0.4

Waiting = Callable[[], Callable[[], None]]
"""Told when an answer lets itself be waited for; what it returns is called once it comes."""


class ProtocolError(OSError):
    """What came back is not HTTP, or it ended too early."""


class Response:
    """An answer whose body has not been read yet; header names are lower-case."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""
        head = self._read_head()
        while head.startswith(b"HTTP/1.1 100"):
            head = self._read_head()
        first, *lines = head.decode("latin-1").split("\r\n")
        parts = first.split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
            raise ProtocolError(f"the answer does not begin like HTTP: {first[:80]!r}")
        self.status = int(parts[1])
        self.headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()

    def __enter__(self) -> "Response":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def read(self) -> bytes:
        """The whole body. Raises ProtocolError when it ends too early."""
        return b"".join(self.chunks())

    def lines(self) -> Iterator[str]:
        """The body line by line, each as soon as it has arrived, without its line end."""
        rest = b""
        for chunk in self.chunks():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line.rstrip(b"\r").decode("utf-8", "replace")
        if rest:
            yield rest.decode("utf-8", "replace")

    def chunks(self) -> Iterator[bytes]:
        """The body in pieces as they arrive."""
        if self.status in (204, 304):
            return
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunked()
        elif "content-length" in self.headers:
            left = int(self.headers["content-length"])
            while left:
                piece = self._take_some(left)
                left -= len(piece)
                yield piece
        else:
            if self._buffer:
                yield self._buffer
                self._buffer = b""
            while piece := self._connection.recv(_READ_BYTES):
                yield piece

    def _chunked(self) -> Iterator[bytes]:
        while True:
            size_text = self._take_line().split(b";")[0].strip()
            try:
                left = int(size_text, 16)
            except ValueError:
                raise ProtocolError("the answer's pieces cannot be told apart") from None
            if left == 0:
                return
            while left:
                piece = self._take_some(left)
                left -= len(piece)
                yield piece
            self._take_line()

    def _read_head(self) -> bytes:
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise ProtocolError("the answer's head is too long")
            self._fill()
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        return head

    def _take_line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise ProtocolError("a line of the answer is too long")
            self._fill()
        line, self._buffer = self._buffer.split(b"\r\n", 1)
        return line

    def _take_some(self, at_most: int) -> bytes:
        if not self._buffer:
            self._fill()
        piece, self._buffer = self._buffer[:at_most], self._buffer[at_most:]
        return piece

    def _fill(self) -> None:
        piece = self._connection.recv(_READ_BYTES)
        if not piece:
            raise ProtocolError("the connection ended in the middle of an answer")
        self._buffer += piece


def request(
    socket_path: str,
    method: str,
    target: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes | Iterable[bytes] = b"",
    body_size_bytes: int | None = None,
    timeout_s: float | None = 60.0,
    waiting: Waiting | None = None,
) -> Response:
    """Send one request and return its answer, the body still unread.

    ``body`` may come in pieces; then ``body_size_bytes`` says how many bytes they are together. ``timeout_s`` is for
    each wait on the socket. Raises OSError (ProtocolError for an answer that is not HTTP).
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(timeout_s)
        connection.connect(socket_path)
        size = len(body) if isinstance(body, bytes) else body_size_bytes
        fields = {"Host": "btmd", "Connection": "close", **(headers or {})}
        if size or method in ("POST", "PUT", "PATCH"):
            fields["Content-Length"] = str(size or 0)
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        try:
            connection.sendall(head.encode("latin-1") + b"\r\n" + (body if isinstance(body, bytes) else b""))
            if not isinstance(body, bytes):
                for piece in body:
                    connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses an upload answers and closes while we are still sending: its answer says why.
            return Response(connection)
        if waiting is None or select.select([connection], [], [], _QUICK_S)[0]:
            return Response(connection)
        over = waiting()
        try:
            return Response(connection)
        finally:
            over()
    except BaseException:
        connection.close()
        raise


def probe(path: str) -> str | None:
    """Why nothing answers at this socket, or None when something accepts connections there."""
    if len(os.fsencode(path)) > 107:
        return "the path is too long for a socket"
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(5)
        connection.connect(path)
    except FileNotFoundError:
        return "not there"
    except ConnectionRefusedError:
        return "nobody is listening"
    except PermissionError:
        return "it belongs to somebody else"
    except OSError as error:
        return error.strerror or str(error)
    finally:
        connection.close()
    return None
