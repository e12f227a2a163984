"""Who is at the other end of a Unix socket, as the kernel tells it."""

import asyncio
import errno
import logging
import os
import resource
import socket
import struct
from collections import Counter
from typing import Any, ClassVar

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from btmd.accounts import user_name
from btmd.api.budgets import Budgets
from btmd.domain.event import Actor
from btmd.errors import BadRequest, TooMany

log = logging.getLogger("btmd.api")

_CREDENTIALS = struct.Struct("3i")
_SO_PEERGROUPS = 59
_LONGEST_OPTION_BYTES = 1024
HEAD_S = 20.0
"""From a connection, or a request's first byte, to the end of its head."""
MOST_HEAD_BYTES = 64 * 1024
MOST_CONNECTIONS = 128
"""Of one user at once; the daemon's own and root may have as many as there is room for."""
KEPT_FILES = 256
"""Files that the daemon can open however many connections there are."""


def _whole_answer(first_line: bytes, code: str, title: str, detail: str, hint: str, *more: bytes) -> bytes:
    """A problem document from below the application, which never hears of the request."""
    status = int(first_line.split()[0])
    told = {"type": f"urn:btmd:error:{code}", "title": title, "status": status, "detail": detail, "code": code}
    body = msgspec.json.encode({**told, "hint": hint})
    heads = (
        b"HTTP/1.1 " + first_line,
        b"content-type: application/problem+json",
        b"content-length: %d" % len(body),
        b"connection: close",
        *more,
    )
    return b"\r\n".join(heads) + b"\r\n\r\n" + body


_TOO_MANY = _whole_answer(
    b"429 Too Many Requests",
    TooMany.code,
    TooMany.title,
    "There are too many connections open.",
    "Close some of yours, or try again in a moment.",
    b"retry-after: 1",
)


def actor_of(peer: socket.socket) -> Actor:
    """The process that connected, with its uid, gid and groups at that moment. Raises OSError."""
    pid, uid, gid = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Actor(uid=uid, gid=gid, pid=pid, groups=_groups(peer, uid, gid), name=user_name(uid))


def _groups(peer: socket.socket, uid: int, gid: int) -> tuple[int, ...]:
    try:
        raw = peer.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _LONGEST_OPTION_BYTES)
    except OSError as problem:
        if problem.errno != errno.ERANGE:
            raise
        # More than 256 groups do not fit into what Python reads: then the ones of the user data base.
        return tuple(sorted(os.getgrouplist(user_name(uid), gid)))
    return tuple(sorted(set(struct.unpack(f"{len(raw) // 4}I", raw))))


def own_actor() -> Actor:
    """The daemon itself, as the cause of what it does without being asked."""
    return Actor(uid=os.getuid(), gid=os.getgid(), pid=os.getpid(), groups=tuple(os.getgroups()), name="daemon")


class PeerProtocol(HttpToolsProtocol):
    """Uvicorn's protocol, with the peer put into every request's state as ``peer``, and how to close as ``break_off``.

    It bounds what costs us something before anybody is known to ask for anything: connections of one user, the size of
    a request's head, and the time it takes to arrive.
    """

    _open: ClassVar[Counter[int]] = Counter()
    """Connections by user id; there is one server in a process."""
    _told: ClassVar[Budgets] = Budgets(5, 0.1)
    """How often it is logged that a user has too many."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._peer_uid: int | None = None
        self._head_bytes = 0
        self._beside_bytes = 0
        """Received since the last of a body: what stands around its pieces, and behind them."""
        self._head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection: Any = transport.get_extra_info("socket")
        try:
            actor = actor_of(connection)
        except OSError as problem:
            # Whoever cannot be known is not answered.
            log.warning("a connection without credentials was closed: %s", problem)
            transport.abort()
            return
        self._peer_uid = actor.uid
        self._open[actor.uid] += 1
        if not self._has_room(actor.uid):
            more = self._told.take(actor.uid)
            if more is not None:
                said = "the user %s has too many connections, or all have; another one was closed (%d more before it)"
                log.warning(said, actor.name, more)
            transport.write(_TOO_MANY)
            transport.close()
            return
        # One connection, one peer: the state is this connection's own copy.
        self.app_state = {**self.app_state, "peer": actor, "break_off": transport.abort}
        self._await_head()

    def _has_room(self, uid: int) -> bool:
        # An answer opens files too: there have to be some left, however many users come.
        together = max(MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - KEPT_FILES)
        if uid in (os.getuid(), 0):
            return self._open.total() <= together
        # Nor do others, all together, keep the daemon's own user out.
        return self._open[uid] <= MOST_CONNECTIONS and self._open.total() <= together * 7 // 8

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_head()
        if self._peer_uid is not None:
            self._open[self._peer_uid] -= 1
            if not self._open[self._peer_uid]:
                del self._open[self._peer_uid]
            self._peer_uid = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._beside_bytes += len(data)
        super().data_received(data)
        if self._head_due is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._have_head()
                self.send_400_response("The request's head is too large.")
        elif self._beside_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            # Fields may come behind a body that is sent in pieces, and are kept as those of the head are.
            self.send_400_response("What stands behind the request's body is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._have_head()
        self._beside_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._beside_bytes = 0
        super().on_body(body)

    def _await_head(self) -> None:
        if self._head_due is None:
            self._head_bytes = 0
            self._head_due = self.loop.call_later(HEAD_S, self._head_is_late)

    def _have_head(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def send_400_response(self, msg: str) -> None:
        """In the form that all errors have; uvicorn's own is plain text."""
        hint = "What speaks HTTP/1.1 can ask: curl --unix-socket, or btmctl."
        self.transport.write(_whole_answer(b"400 Bad Request", BadRequest.code, BadRequest.title, msg, hint))
        self.transport.close()

    def _head_is_late(self) -> None:
        self._head_due = None
        self.transport.close()
