"""The quickstart's own daemon: a fixed state folder, and an end after ten idle minutes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from btmctl import places
from btmctl.client import Client
from btmctl.errors import DAMAGED, FAILED, REFUSED, CommandError, Unreachable
from btmctl.unix_http import probe

IDLE_EXIT_S = 600
START_TIMEOUT_S = 60.0


def has_state(environment: Mapping[str, str]) -> bool:
    """Whether a quickstart ran here before."""
    return os.path.exists(os.path.join(places.quickstart_state(environment), "btmd.db"))


def start(environment: Mapping[str, str], announce: Callable[[str], None]) -> Client:
    """Start it unless it runs, and wait until it answers. Raises CommandError with the daemon's own words."""
    socket_path = places.quickstart_socket(environment)
    if probe(socket_path) is None:
        return Client(socket_path)
    state = places.quickstart_state(environment)
    os.makedirs(state, mode=0o700, exist_ok=True)
    os.makedirs(os.path.dirname(socket_path), mode=0o700, exist_ok=True)
    log_path = os.path.join(state, "daemon.log")
    command = [sys.executable, "-m", "btmd", "--state-dir", state, "--config-dir", os.path.join(state, "config")]
    command += ["--socket", socket_path, "--idle-exit", str(IDLE_EXIT_S)]
    with open(log_path, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as log:
        begin = log.tell()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        client = _answering(socket_path)
        if client is not None:
            return client
        if process.poll() == REFUSED:
            # Another btmctl may have started one a moment ago: then that one is about to answer.
            deadline = min(deadline, time.monotonic() + 5)
        elif process.poll() is not None:
            break
        announce("Starting a daemon of its own...")
        time.sleep(0.05)
    if process.poll() is None:
        process.terminate()
    raise CommandError(
        "The private daemon did not start.",
        _last_words(log_path, begin),
        f"Its log is {log_path}.",
        code="daemon_failed",
        exit_code=process.returncode if process.returncode in (REFUSED, DAMAGED) else FAILED,
    )


def _answering(socket_path: str) -> Client | None:
    """A client of a daemon that answers. It listens before its log is open, and may end yet."""
    if probe(socket_path) is not None:
        return None
    client = Client(socket_path)
    try:
        client.get("/health")
    except Unreachable:
        return None
    return client


def _last_words(log_path: str, begin: int) -> str:
    with open(log_path, "rb") as log:
        log.seek(begin)
        lines = log.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
    return " ".join(lines[-3:]) or f"It did not answer within {START_TIMEOUT_S:.0f} seconds."
