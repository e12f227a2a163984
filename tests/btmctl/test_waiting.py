"""Who types a command sees something soon, also where the daemon is slow or there is nothing to show."""

import os
import pty
import subprocess
import sys
import threading
import time

from tests.btmctl.conftest import Btmctl
from tests.btmctl.small_server import Request, SmallServer, reply

PATIENCE_S = 60.0
WAITING = "Waiting for the daemon..."


def test_a_slow_answer_is_waited_for_in_words_that_go_when_it_comes(server: SmallServer) -> None:
    seen = threading.Event()

    def slow(request: Request) -> None:
        seen.wait(PATIENCE_S)
        reply(request, [], 200)

    server.does("GET", "/access", slow)
    terminal, other = pty.openpty()
    command = [sys.executable, "-m", "btmctl", "--socket", server.socket_path, "access", "list"]
    with subprocess.Popen(command, stdin=other, stdout=other, stderr=other) as process:
        os.close(other)
        shown = _until(terminal, WAITING)
        seen.set()
        shown += _until(terminal, "Nobody was granted anything")
        assert process.wait(PATIENCE_S) == 0
    os.close(terminal)
    assert shown.index(WAITING) < shown.index("\r\x1b[K", shown.index(WAITING)) < shown.index("Nobody was granted")


def test_work_that_has_not_said_how_far_it_is_shows_at_once(server: SmallServer) -> None:
    seen = threading.Event()

    def slow(request: Request) -> None:
        request.handler.send_response(200)
        request.handler.end_headers()
        seen.wait(PATIENCE_S)
        request.handler.wfile.write(b'{"result": {"backups": []}}\n')
        request.handler.close_connection = True

    server.does("POST", "/backups/verify", slow)
    terminal, other = pty.openpty()
    command = [sys.executable, "-m", "btmctl", "--socket", server.socket_path, "backup", "verify"]
    with subprocess.Popen(command, stdin=other, stdout=other, stderr=other) as process:
        os.close(other)
        _until(terminal, WAITING)
        seen.set()
        _until(terminal, "\r\x1b[K")
        process.kill()
    os.close(terminal)


def test_a_program_is_told_nothing_of_that(btmctl: Btmctl, server: SmallServer) -> None:
    def slow(request: Request) -> None:
        time.sleep(0.6)
        reply(request, [], 200)

    server.does("GET", "/access", slow)
    assert btmctl("access", "list", "--json") == (0, "[]\n", "")


def test_a_log_without_a_line_is_told(btmctl: Btmctl, server: SmallServer) -> None:
    server.answers("GET", "/jobs/last", {"job_id": "j1"})
    server.does("GET", "/jobs/last/logs", _nothing)
    assert btmctl("jobs", "logs", "last") == (0, "", "The trainer has written nothing.\n")


def _nothing(request: Request) -> None:
    request.handler.send_response(200)
    request.handler.send_header("content-length", "0")
    request.handler.end_headers()


def _until(terminal: int, text: str) -> str:
    shown = ""
    while text not in shown:
        shown += os.read(terminal, 4096).decode()
    return shown
