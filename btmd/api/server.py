"""The socket, bound by us, and uvicorn on it without its own signals and its own clock."""

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import uvicorn

from btmd.api.peer import PeerProtocol
from btmd.errors import InvalidValue, SocketTaken

LONGEST_PATH_BYTES = 107
"""sun_path holds 108 bytes, the closing zero byte included."""
CLOSE_GRACE_S = 3
FIRST_HANDED_OVER = 3
"""The descriptor at which those of the service manager begin (sd_listen_fds)."""


def bind_socket(path: Path) -> socket.socket:
    """Listen at ``path``, readable and writable by its owner only.

    The socket of a daemon that died is replaced. Raises SocketTaken, InvalidValue for a path too long, OSError.
    """
    length = len(os.fsencode(path))
    if length > LONGEST_PATH_BYTES:
        raise InvalidValue(
            f"The socket path has {length} bytes; the system allows {LONGEST_PATH_BYTES}: {path}",
            hint="Choose a shorter one with --socket.",
        )
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True)
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as problem:
        listener.close()
        if problem.errno == errno.EADDRINUSE:
            raise SocketTaken(f"Something else took {path} just now.", hint="Choose another with --socket.") from None
        raise
    finally:
        os.umask(before)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def activated_sockets(count: int) -> list[socket.socket]:
    """The listening sockets that the service manager has made and handed over; their files and modes are its own.

    Raises InvalidValue for one that is no listening Unix socket with a path: there, nobody could be told who asks.
    """
    taken = []
    for number in range(FIRST_HANDED_OVER, FIRST_HANDED_OVER + count):
        try:
            listener = socket.socket(fileno=number)
        except OSError as problem:
            raise InvalidValue(f"Descriptor {number} of LISTEN_FDS is no socket: {problem.strerror}.") from None
        is_stream = listener.family == socket.AF_UNIX and listener.type == socket.SOCK_STREAM
        if not (is_stream and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)) or not _path_of(listener):
            listener.detach()
            raise InvalidValue(
                f"Descriptor {number} of LISTEN_FDS is no listening Unix socket with a path.",
                hint="ListenStream= in btmd.socket has to be an absolute path.",
            )
        listener.set_inheritable(False)
        listener.setblocking(False)
        taken.append(listener)
    return taken


def _path_of(listener: socket.socket) -> str:
    """Empty for a socket in the abstract namespace, whose name is bytes."""
    name = listener.getsockname()
    return name if isinstance(name, str) else ""


def _clear(path: Path) -> None:
    """Remove a dead socket; refuse anything else that stands there."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise SocketTaken(
            f"{path} exists and is not a socket.", hint="Remove it, or choose another path with --socket."
        )
    if found.st_uid != os.getuid():
        raise SocketTaken(f"{path} belongs to another user.", hint="Choose another path with --socket.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            with suppress(FileNotFoundError):
                path.unlink()
            return
        except OSError:
            pass
    raise SocketTaken(f"Another daemon listens at {path}.", hint="Stop it, or choose another path with --socket.")


class HttpServer(uvicorn.Server):
    """Uvicorn inside our task group: it ends when ``stopping`` is set and otherwise sleeps."""

    def __init__(self, app: Any, stopping: anyio.Event) -> None:
        config = uvicorn.Config(
            app,
            http=PeerProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            # Its warnings are of requests that are no HTTP, which anybody can send without end.
            log_level="error",
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            loop="asyncio",
            timeout_keep_alive=60,
            timeout_graceful_shutdown=CLOSE_GRACE_S,
        )
        super().__init__(config)
        self._stopping = stopping

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until stopping; the daemon, not uvicorn, listens to signals."""
        await self._serve(sockets)

    async def main_loop(self) -> None:
        # Uvicorn's own loop wakes ten times a second to see whether it should end; an idle daemon must not.
        await self.on_tick(0)
        await self._stopping.wait()
        self.should_exit = True
