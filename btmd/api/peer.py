"""Who is at the other end of a Unix socket, as the kernel tells it."""

import asyncio
import errno
import logging
import os
import pwd
import socket
import struct
from functools import lru_cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from btmd.domain.event import Actor

log = logging.getLogger("btmd.api")

_CREDENTIALS = struct.Struct("3i")
_SO_PEERGROUPS = 59
_LONGEST_OPTION_BYTES = 1024


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
    """Uvicorn's protocol, with the peer put into every request's state as ``peer``."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection: Any = transport.get_extra_info("socket")
        try:
            # One connection, one peer: the state is this connection's own copy.
            self.app_state = {**self.app_state, "peer": actor_of(connection)}
        except OSError as problem:
            # Whoever cannot be known is not answered.
            log.warning("a connection without credentials was closed: %s", problem)
            transport.abort()
