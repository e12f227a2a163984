"""What a page of the documentation tells to type, and a home with a daemon and a terminal to type it in."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.fixtures.daemon import PATIENCE_S, Client

DOCS = Path(__file__).parents[2] / "docs"
QUESTION = re.compile(
    r"(?:\[y/N\] |[Kk]ey.*: |[Pp]assphrase.*: |Enter [^\n]*[)\]] |(?:^|\x1b\[\?2004h)> )\Z", re.MULTILINE
)


def recipes(page: str) -> dict[str, list[str]]:
    """By heading, the steps in their order: commands, ``stop`` and ``start``."""
    found: dict[str, list[str]] = {}
    heading, in_block = "", False
    for line in (DOCS / page).read_text().splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
            found[heading] = []
        elif line.startswith("```"):
            in_block = not in_block
        elif in_block:
            found[heading].append(line)
        elif line in ("Stop the daemon.", "Start the daemon."):
            found[heading].append(line.split()[0].lower())
    return found


class Place:
    """A person's home with a daemon in it, and a terminal."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.state = home / ".local" / "state" / "btmd"
        self.config = home / ".config" / "btmd"
        self.socket = home / "run" / "btmd" / "btmd.sock"
        self.client = Client(self.socket)
        self.environment = {
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home / "run"),
            "BTMD_DEVICE_LOCKS": str(home),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "LANG": "C.UTF-8",
        }
        self.typed = "y"
        self.said = ""
        self.daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.home / "btmd.log").open("ab") as log:
            self.daemon = subprocess.Popen(
                [sys.executable, "-m", "btmd"], env=self.environment, stdin=subprocess.DEVNULL, stderr=log
            )
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            with suppress(FileNotFoundError, ConnectionError):
                self.client.get("/health").ok()
                return
            assert self.daemon.poll() is None, (self.home / "btmd.log").read_text()
            time.sleep(0.05)
        raise AssertionError((self.home / "btmd.log").read_text())

    def stop(self) -> None:
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGTERM)
            self.daemon.wait(PATIENCE_S)

    def reply(self, question: str) -> str:
        """What the person types who is asked this."""
        return self.typed

    def at_terminal(self, command: str, *, until: str = "", patience_s: float = PATIENCE_S) -> int:
        """Run a line as a person does who answers every question; returns the exit code, keeps what was said.

        Ctrl-C is typed once what is said matches the regular expression ``until``.
        """
        master, slave = pty.openpty()
        process = subprocess.Popen(
            ["bash", "-c", command], env=self.environment, stdin=slave, stdout=slave, stderr=slave, close_fds=True,
            start_new_session=True, cwd=self.home, preexec_fn=_own_terminal,
        )  # fmt: skip
        os.close(slave)
        said, answered = "", 0
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    piece = os.read(master, 65536)
                except OSError:
                    break
                said += piece.decode(errors="replace")
                if asked := QUESTION.search(said[answered:]):
                    answered = len(said)
                    os.write(master, self.reply(asked[0]).encode() + b"\n")
                if until and re.search(until, said):
                    until = ""
                    os.write(master, b"\x03")
            elif process.poll() is not None:
                break
        else:
            os.killpg(process.pid, signal.SIGKILL)
        # Before the terminal goes: its end would be a hang-up for a command that is about to end by itself.
        code = process.wait(PATIENCE_S)
        os.close(master)
        self.said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
        return code

    def btmctl(self, *arguments: str, typed: str = "") -> str:
        """Something that a person did before the accident."""
        done = subprocess.run(
            [sys.executable, "-m", "btmctl", *arguments, "--yes"],
            env=self.environment, input=typed, capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def setting(self, key: str) -> object:
        return self.client.get(f"/settings/{key}").ok()["value"]

    def names(self, what: str) -> set[str]:
        return {one.get("key") or one["name"] for one in self.client.get(what).ok()}

    def wait_for(self, wanted: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not wanted():
            assert time.monotonic() < end
            time.sleep(0.05)


def _own_terminal() -> None:
    import fcntl
    import termios

    # A shell that began the tests in the background has had Ctrl-C ignored, which would be inherited.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
