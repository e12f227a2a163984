"""How long every command of `btmctl` takes as a whole process, cold, with a daemon running.

`status`, and what only reads the store, against `python -c pass`, interleaved; every other command until the first
thing that a person sees, at a terminal; and a name completed by a shell. ``--only`` takes some commands, ``--rounds``
fewer rounds, and then nothing is recorded.
"""

import argparse
import fcntl
import json
import os
import pty
import re
import select
import signal
import statistics
import struct
import subprocess
import sys
import termios
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cli_commands import Command, every_command
from benchmarks.quickstart import end_daemon
from benchmarks.results import Figure, Topic, record
from tests.fixtures.daemon import QUICK, Client, DaemonProcess, config_of, rows
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

ROUNDS, SHOWING_ROUNDS = 21, 5
STATUS_TARGET, READING_TARGET = 4.0, 6.0
COMPLETION_TARGET_MS, FIRST_LINE_TARGET_S = 100, 1.0
NOTHING_S, GRACE_S = 60.0, 1.0
"""A command that shows nothing is given up; one that goes on after its first line is ended."""
SLOWEST = 5
_STEERING = re.compile(rb"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|.)")


@dataclass(frozen=True, slots=True)
class Place:
    """A daemon with a finished training, data, a model, a preset and a backup; and folders that have none."""

    folder: Path
    client: Client
    job_id: str

    def environment(self, *, alone: bool = False, named: bool = True) -> dict[str, str]:
        """That of a person whose folders are all here; ``alone``: where no daemon is; ``named``: the socket is."""
        home = self.folder / "alone" if alone else self.folder
        names = ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR")
        dropped = ("BTMD_", "DBUS_", "LISTEN_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        own = {"EDITOR": "true", "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        return kept | dict.fromkeys(names, str(home)) | own | ({"BTMD_SOCKET": str(home / "sock")} if named else {})

    def waiting_job(self) -> str:
        """A training that waits, for the quiet hours never end."""
        return self.client.start()

    def words(self, command: Command, waiting: str) -> list[str]:
        return ["btmctl", *command.filled(job=self.job_id, waiting=waiting, folder=str(self.folder))]


@contextmanager
def furnished() -> Iterator[Place]:
    with short_folder() as folder, DaemonProcess(config_of(folder), "--log-level", "error") as daemon:
        client = daemon.client
        client.patch("/settings", {"changes": QUICK}).ok()
        client.add_model(make_tiny_llama(folder / "tiny"))
        make_tiny_llama(folder / "other", vocab=300)
        client.add_dataset(rows(), scopes=("train", "export", "backup"))
        (folder / "other.jsonl").write_bytes(rows(40))
        (folder / "alone").mkdir(mode=0o700)
        job_id = client.start(overrides={"max_steps": 3, "sample_answers": 1})
        client.wait_until(job_id, "completed")
        client.patch("/settings", {"changes": {"queue.quiet_hours": "00:00-24:00"}}).ok()
        place = Place(folder, client, job_id)
        for words in (
            ["presets", "create", "mine", "--from", "quick_test"],
            ["presets", "export", "mine", "--out", str(folder / "preset.toml")],
            ["backup", "create"],
        ):
            subprocess.run([_btmctl(), *words], env=place.environment(), check=True, capture_output=True)
        yield place


def whole(command: list[str], environment: dict[str, str]) -> float:
    """Wall-clock seconds of one process. Raises SystemExit when it fails."""
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    taken_s = time.perf_counter() - start
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.decode()}")
    return taken_s


def first_sight(command: Sequence[str], environment: dict[str, str]) -> float:
    """Seconds until something can be read at a terminal: a line, a bar or a question; infinite where nothing comes."""
    start = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(_btmctl(), list(command), environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))
    try:
        return _until_seen(terminal, start)
    finally:
        _let_end(terminal)
        # It leads a session of its own: with all it has started.
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def _until_seen(terminal: int, start: float) -> float:
    shown = b""
    while (now := time.perf_counter()) - start < NOTHING_S:
        if select.select([terminal], [], [], NOTHING_S - (now - start))[0]:
            told = _read(terminal)
            if not told:
                break
            shown += told
            if _STEERING.sub(b"", shown).strip():
                return time.perf_counter() - start
    return float("inf")


def _let_end(terminal: int) -> None:
    """For a moment: what only has to print the rest is done then, what asks or works goes on for long."""
    end = time.perf_counter() + GRACE_S
    while (left := end - time.perf_counter()) > 0:
        if select.select([terminal], [], [], left)[0] and not _read(terminal):
            return


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""


def _btmctl() -> str:
    return str(Path(sys.executable).with_name("btmctl"))


@dataclass(slots=True)
class Measured:
    nothing: list[float]
    ratios: dict[str, list[float]]
    """By command, how many times as long as the `python -c pass` just before it."""
    completing_ms: list[float]
    seen: dict[str, list[float]]


def measure(place: Place, commands: Sequence[Command], rounds: int, showing_rounds: int) -> Measured:
    """All of it, in one run: each round has every command once."""
    found = Measured([], defaultdict(list), [], defaultdict(list))
    environment = place.environment()
    nothing = [sys.executable, "-c", "pass"]
    for number in range(rounds):
        for command in commands:
            if command.name == "status" or command.reads:
                found.nothing.append(whole(nothing, environment))
                words = [_btmctl(), *place.words(command, "")[1:]]
                found.ratios[command.name].append(whole(words, environment) / found.nothing[-1])
        found.nothing.append(whole(nothing, environment))
        completed = whole([_btmctl(), "__complete", "settings", ""], environment)
        found.completing_ms.append((completed - found.nothing[-1]) * 1000)
        if number < showing_rounds:
            waiting = place.waiting_job()
            for command in commands:
                if command.name != "status" and not command.reads:
                    own = place.environment(alone=command.alone, named=command.name != "quickstart")
                    found.seen[command.name].append(first_sight(place.words(command, waiting), own))
            _end_what_was_started(place)
    return found


def _end_what_was_started(place: Place) -> None:
    """Daemons that `daemon start` and `quickstart` left running in the folders without one."""
    for named in (True, False):
        environment = place.environment(alone=True, named=named)
        asked = [_btmctl(), "daemon", "status", "--json"]
        done = subprocess.run(asked, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if done.returncode == 0:
            end_daemon(int(json.loads(done.stdout)["pid"]))


def _figures(found: Measured) -> list[Figure]:
    figures = [Figure("python -c pass", [value * 1000 for value in found.nothing], "ms", digits=0)]
    for name, values in found.ratios.items():
        target = STATUS_TARGET if name == "status" else READING_TARGET
        figures.append(Figure(f"btmctl {name} / python -c pass", values, "x", f"<= {target:.0f}"))
    figures.append(
        Figure("completing a name - python -c pass", found.completing_ms, "ms", f"<= {COMPLETION_TARGET_MS}", digits=0)
    )
    target = f"<= {FIRST_LINE_TARGET_S:.0f}"
    for name in _slowest(found)[:SLOWEST]:
        figures.append(Figure(f"btmctl {name}: first line or bar", found.seen[name], "s", target))
    late = [name for name in found.seen if statistics.median(found.seen[name]) > FIRST_LINE_TARGET_S]
    others = f"of the other {len(found.seen)} commands, those that show nothing for a second"
    figures.append(Figure(others, [len(late)], "", "<= 0", digits=0))
    return figures


def _slowest(found: Measured) -> list[str]:
    return sorted(found.seen, key=lambda name: -statistics.median(found.seen[name]))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cli_start")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", default="", metavar="COMMANDS", help="these, with commas: 'jobs list,chat'")
    given = parser.parse_args()
    wanted = [name for name in given.only.split(",") if name]
    commands = [one for one in every_command() if not wanted or one.name in wanted]
    with furnished() as place:
        found = measure(place, commands, given.rounds, min(given.rounds, SHOWING_ROUNDS))
    figures = _figures(found)
    notes = [
        "Whole processes, interleaved, each after a `python -c pass` of its own; the daemon's own time to answer is"
        " part of it. First lines: at a terminal, from the start of the process.",
        f"Every command that btmctl's parser knows, with sample arguments: {len(commands)}. Of those that do more than"
        f" read the {SLOWEST} slowest are shown.",
    ]
    if given.rounds < ROUNDS or wanted:
        for figure in figures:
            print(f"{figure.name}: {figure.median:.2f} {figure.unit} {figure.target}")
    else:
        record(Topic("Command line", "make proof-cli", figures, notes=notes))
    return 0 if all(figure.met is not False for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
