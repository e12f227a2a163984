"""A socket that the service manager has made, reading anew, and ending: as a process that is handed its socket."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from btmd import unit_stop
from btmd.api import server
from btmd.config import read_config
from btmd.errors import InvalidValue
from tests.fixtures.daemon import PATIENCE_S, ROOT_DIR, Client
from tests.fixtures.short_folder import short_folder

HAND_OVER = """
import os, socket, sys
number = int(sys.argv[1])
if number != 3:
    os.dup2(number, 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "btmd", *sys.argv[2:]])
"""


def hand_over(listener: socket.socket, folder: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """A daemon with the socket as its descriptor 3, as systemd starts one."""
    command = [sys.executable, "-c", HAND_OVER, str(listener.fileno()), "--state-dir", str(folder / "state")]
    command += ["--config-dir", str(folder / "config"), "--device-locks", str(folder)]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command,
            pass_fds=(listener.fileno(),),
            stdin=subprocess.DEVNULL,
            stderr=log,
            cwd=ROOT_DIR,
            env={**os.environ, **environment},
            # As under a service manager: without a terminal, and hearing SIGHUP, which nohup has ignored.
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )


class Activated:
    """A socket unit's part, and the daemon behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "made" / "sock"
        self.path.parent.mkdir(mode=0o755)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(folder / "notify"))
        self.manager.settimeout(0.5)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.path))
        self.path.chmod(0o666)
        self.listener.listen(16)
        self.client = Client(self.path)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = hand_over(self.listener, self.folder, {"NOTIFY_SOCKET": str(self.folder / "notify")})
        self.wait_told(lambda said: "READY=1" in said)

    def wait_told(self, wanted: Callable[[str], bool]) -> str:
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                said = self.manager.recv(4096).decode()
            except TimeoutError:
                assert self.process is not None
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < end, (self.folder / "log").read_text()
                continue
            if wanted(said):
                return said

    def wait_for(self, wanted: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not wanted():
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.05)

    def ended(self) -> int:
        assert self.process is not None
        return self.process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def activated() -> Iterator[Activated]:
    with short_folder() as folder:
        made = Activated(folder)
        try:
            # Somebody asks before there is a daemon: that is what starts one.
            early = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            early.connect(str(made.path))
            early.sendall(b"GET /api/basic-training/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            made.start()
            early.settimeout(PATIENCE_S)
            assert early.recv(12) == b"HTTP/1.1 200"
            early.close()
            yield made
        finally:
            if made.process is not None and made.process.poll() is None:
                made.process.kill()
                made.process.wait()
            made.listener.close()
            made.manager.close()


def test_the_socket_that_was_handed_over_is_used_and_keeps_its_mode(activated: Activated) -> None:
    assert activated.client.get("/health").ok()
    assert not (activated.folder / "state" / "btmd.sock").exists()


def test_a_grant_never_changes_its_mode_and_says_when_that_keeps_others_out(activated: Activated) -> None:
    def problem() -> str:
        return str(activated.client.get("/health").ok()["problems"].get("socket", ""))

    def grant(role: str) -> None:
        body = f'{{"role": "{role}"}}'.encode()
        activated.client.send("PUT", "/access/nobody", body, content_type="application/json").ok()

    activated.path.chmod(0o600)
    grant("viewer")
    activated.wait_for(lambda: "a socket unit has made it" in problem())
    assert stat.S_IMODE(activated.path.stat().st_mode) == 0o600
    activated.path.chmod(0o666)
    grant("trainer")
    activated.wait_for(lambda: "a socket unit has made it" not in problem())
    assert stat.S_IMODE(activated.path.stat().st_mode) == 0o666


def test_sighup_has_the_settings_read_anew_and_says_so_to_the_service_manager(activated: Activated) -> None:
    assert activated.process is not None
    settings = activated.folder / "config" / "settings.toml"
    activated.wait_for(settings.exists)
    settings.write_text('[log]\nlevel = "warning"\n[training]\nseed = 77\n')
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    activated.process.send_signal(signal.SIGHUP)
    said = activated.wait_told(lambda said: said.startswith("RELOADING=1"))
    assert (at := re.search(r"^MONOTONIC_USEC=(\d+)$", said, re.MULTILINE)) is not None
    assert before_us <= int(at[1]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    activated.wait_told(lambda said: said == "READY=1")
    # Once it says that it is ready again, the change is there: nobody has to wait for the watch of the folder.
    assert activated.client.get("/settings/training.seed").ok()["value"] == 77
    log = activated.folder / "log"
    size = log.stat().st_size
    activated.process.send_signal(signal.SIGHUP)
    activated.wait_told(lambda said: said == "READY=1")
    assert "read anew" not in log.read_text()[size:], "the level of the log has not followed the setting"


def test_the_stop_program_ends_it_and_the_socket_stays_for_the_next(activated: Activated) -> None:
    assert activated.process is not None
    assert unit_stop.main(["btmd.service"], {"MAINPID": str(activated.process.pid)}) == 0
    assert activated.ended() == 0
    assert activated.path.is_socket()
    # Asked while nobody is there, answered by the next daemon: no request fails for a restart.
    early = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    early.connect(str(activated.path))
    early.sendall(b"GET /api/basic-training/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    activated.start()
    early.settimeout(PATIENCE_S)
    assert early.recv(12) == b"HTTP/1.1 200"
    early.close()
    reasons = [one["data"]["reason"] for one in activated.client.events(type="DaemonStopped")]
    assert reasons == ["stopped, trainings with a checkpoint"]


def test_what_is_no_listening_unix_socket_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    unbound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    for wrong in (socket.create_server(("127.0.0.1", 0)), unbound):
        with wrong:
            monkeypatch.setattr(server, "FIRST_HANDED_OVER", wrong.fileno())
            with pytest.raises(InvalidValue, match="no listening Unix socket") as refused:
                server.activated_sockets(1)
            assert "ListenStream=" in refused.value.hint


def test_descriptors_for_another_process_are_not_taken() -> None:
    told = {"HOME": "/h", "LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
    assert read_config([], told).systemd.listen_fds == 1
    assert read_config([], {**told, "LISTEN_PID": "1"}).systemd.listen_fds == 0
    assert read_config([], {"HOME": "/h"}).systemd.listen_fds == 0


@pytest.mark.parametrize(
    ("said", "restarts"),
    [
        ("echo '123 btmd.service restart running'", True),
        ("echo '123 btmd.service try-restart waiting'", True),
        ("echo '123 btmd.service stop running'", False),
        ("echo '123 btmd-devices.service restart running'", False),
        ("exit 1", False),
    ],
)
def test_a_restart_is_told_from_a_stop(
    said: str, restarts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\n{said}\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert unit_stop.is_restart("btmd.service", user=True) is restarts


def test_on_a_restart_the_daemon_is_not_told_to_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_stop, "is_restart", lambda unit, user: True)
    with subprocess.Popen(["sleep", "60"]) as process:
        assert unit_stop.main(["btmd.service"], {"MAINPID": str(process.pid)}) == 0
        assert process.poll() is None
        process.kill()
    assert unit_stop.main(["btmd.service"], {}) == 0
