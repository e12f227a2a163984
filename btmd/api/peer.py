"""Who is at the other end of a Unix socket, as the kernel tells it."""

import asyncio
import errno
import logging
import os
import pwd
import resource
import socket
import struct
from collections import Counter
from functools import lru_cache
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from btmd.domain.event import Actor

log = logging.getLogger("btmd.api")

_CREDENTIALS = struct.Struct("3i")
_SO_PEERGROUPS = 59
_LONGEST_OPTION_BYTES = 1024
HEAD_S = 20.0
"""From a connection, or a request's first byte, to the end of its head."""
MOST_HEAD_BYTES = 64 * 1024
MOST_CONNECTIONS = 128
"""Of one user at once; the daemon's own and root may have as many as there are files."""
KEPT_FILES = 256
_TOO_MANY = (
    b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/problem+json\r\nconnection: close\r\n"
    b"retry-after: 1\r\n\r\n"
    b'{"type":"urn:btmd:error:too_many","title":"Too much at once","status":429,"code":"too_many",'
    b'"detail":"You have too many connections open.","hint":"Close some of them."}'
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


@lru_cache(maxsize=256)
def user_name(uid: int) -> str:
    """The user's name, or the number where the machine knows none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


class PeerProtocol(HttpToolsProtocol):
    """Uvicorn's protocol, with the peer put into every request's state as ``peer``.

    It bounds what costs us something before anybody is known to ask for anything: connections of one user, the size of
    a request's head, and the time it takes to arrive.
    """

    _open: ClassVar[Counter[int]] = Counter()
    """Connections by user id; there is one server in a process."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._peer_uid: int | None = None
        self._head_bytes = 0
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
        if self._open[actor.uid] > _most_connections(actor.uid):
            log.warning("the user %s has too many connections; another one was closed", actor.name)
            transport.write(_TOO_MANY)
            transport.close()
            return
        # One connection, one peer: the state is this connection's own copy.
        self.app_state = {**self.app_state, "peer": actor}
        self._await_head()

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
        super().data_received(data)
        if self._head_due is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._have_head()
                self.send_400_response("The request's head is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._have_head()
        super().on_headers_complete()

    def _await_head(self) -> None:
        if self._head_due is None:
            self._head_bytes = 0
            self._head_due = self.loop.call_later(HEAD_S, self._head_is_late)

    def _have_head(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _head_is_late(self) -> None:
        self._head_due = None
        self.transport.close()


def _most_connections(uid: int) -> int:
    if uid not in (os.getuid(), 0):
        return MOST_CONNECTIONS
    # Files of our own have to be opened all the same.
    return max(MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - KEPT_FILES)
