"""A daemon in the background without systemd: started by us, found by its socket, ended with its trainings saved."""

import os
import signal
import time

from btmctl import places
from btmctl.errors import DAMAGED, FAILED, REFUSED, CommandError, Refused, Unreachable
from btmctl.session import Session
from btmctl.unix_http import probe

START_S = 60.0
STOP_S = 330.0


def start(session: Session) -> tuple[str, str]:
    """Start one in the background and wait until it listens; returns its socket and its log. Raises CommandError."""
    import subprocess
    import sys

    environment = session.environment
    named = places.named_socket(session.socket_option, environment)
    socket_path = named or places.user_sockets(environment)[0]
    if probe(socket_path) is None:
        raise Refused("A daemon runs already.", f"It answers at {socket_path}.", "btmctl daemon status")
    state = places.own_state(environment)
    os.makedirs(state, mode=0o700, exist_ok=True)
    log_path = os.path.join(state, "daemon.log")
    with open(log_path, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as log:
        begin = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "btmd", "--socket", socket_path],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env={**environment, "PYTHONPATH": _own_path(environment.get("PYTHONPATH", ""))},
        )
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if probe(socket_path) is None:
            return socket_path, log_path
        session.output.progress_text("Starting the daemon...")
        time.sleep(0.05)
    if process.poll() is None:
        process.terminate()
    with open(log_path, "rb") as log:
        log.seek(begin)
        said = " ".join(log.read()[-4000:].decode("utf-8", "replace").strip().splitlines()[-3:])
    raise CommandError(
        "The daemon did not start.",
        said or f"It did not listen within {START_S:.0f} seconds.",
        f"Its log is {log_path}.",
        code="daemon_failed",
        exit_code=process.returncode if process.returncode in (REFUSED, DAMAGED) else FAILED,
    )


def stop(session: Session, *, save: bool) -> str:
    """End the daemon that answers and wait for it; returns its socket. ``save``: its trainings end, with a checkpoint.

    Raises Unreachable, CommandError.
    """
    socket_path = session.find_client(start_private=False).socket_path
    pid = _listener(socket_path)
    try:
        daemon = os.pidfd_open(pid)
    except OSError as problem:
        raise _not_ended(socket_path, str(problem.strerror)) from None
    try:
        # It listens still, so that the number is still that of this process.
        if _listener(socket_path) != pid:
            raise _not_ended(socket_path, "Another one has taken its place just now.")
        if not _is_daemon(pid):
            raise _not_ended(socket_path, "A service manager holds its socket, and stops it.")
        signal.pidfd_send_signal(daemon, signal.SIGUSR1 if save else signal.SIGTERM)
        _wait(daemon, session, socket_path, save=save)
    except PermissionError:
        raise _not_ended(socket_path, "It belongs to another user.") from None
    except ProcessLookupError:
        pass
    finally:
        os.close(daemon)
    return socket_path


def _wait(daemon: int, session: Session, socket_path: str, *, save: bool) -> None:
    import select

    ended = select.poll()
    ended.register(daemon, select.POLLIN)
    deadline = time.monotonic() + STOP_S
    while not ended.poll(500):
        if time.monotonic() > deadline:
            raise _not_ended(socket_path, f"It has not ended within {STOP_S:.0f} seconds.")
        session.output.progress_text(
            "Waiting until the trainings are saved..." if save else "Waiting until it has ended..."
        )
    session.output.end_progress()


def _listener(socket_path: str) -> int:
    """The process that listens there, as the kernel says."""
    import socket
    import struct

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.settimeout(5)
            asking.connect(socket_path)
            told = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError as problem:
            raise Unreachable("The daemon cannot be reached.", f"{socket_path}: {problem.strerror}.") from None
    return int(struct.unpack("3i", told)[0])


def _is_daemon(pid: int) -> bool:
    """Not the service manager, which listens for a daemon that is activated by its socket."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return False
    return any(word == b"btmd" or word.endswith(b"/btmd") for word in words)


def _not_ended(socket_path: str, why: str) -> CommandError:
    return CommandError(
        f"The daemon at {socket_path} was not ended.",
        why,
        "btmctl daemon status shows how it is doing.",
        code="daemon_failed",
        exit_code=FAILED,
    )


def _own_path(given: str) -> str:
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return os.pathsep.join(part for part in (root, given) if part)
