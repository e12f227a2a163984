"""How long every command of `btmctl` takes as a whole process, cold, with a daemon running.

`status`, and what only reads the store, against `python -c pass`, interleaved; every other command until the first
thing that a person sees, at a terminal; and names of every kind completed by a shell. ``--only`` takes some commands,
``--rounds`` fewer rounds, and then nothing is recorded.
"""

import argparse
import fcntl
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
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.cli_commands import REFUSED, Command, every_command, filled
from benchmarks.results import Figure, Topic, record
from btmctl.completion_names import KINDS
from btmctl.places import SYSTEM_SOCKET, quickstart_socket
from tests.fixtures.daemon import QUICK, Client, DaemonProcess, config_of, rows
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

ROUNDS, SHOWING_ROUNDS = 21, 5
STATUS_TARGET, READING_TARGET = 4.0, 6.0
COMPLETION_TARGET_MS, FIRST_LINE_TARGET_S = 100, 1.0
NOTHING_S, GRACE_S = 60.0, 1.0
"""A command that shows nothing is given up; one that goes on after its first line is ended."""
COMING_UP_S = 30.0
"""How long the quickstart's daemon may take until it can be ended."""
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
        own = {"EDITOR": "true", "TERM": "xterm-256color", "LANG": "C.UTF-8", "BTMD_DEVICE_LOCKS": str(home)}
        return kept | dict.fromkeys(names, str(home)) | own | ({"BTMD_SOCKET": str(home / "sock")} if named else {})

    @contextmanager
    def typed(self, command: Command, number: int = 0) -> Iterator[tuple[list[str], list[str]]]:
        """The words of what comes before a command and of itself, with a training that waits where one is named."""
        made = {"job": self.job_id, "folder": str(self.folder), "number": str(number)}
        if "WAITING" in (*command.before, *command.arguments):
            # The quiet hours never end.
            made["waiting"] = self.client.start()
        yield filled(command.before, **made), command.filled(**made)
        # Or more and more would wait, and no reset be possible.
        for state in ("queued", "paused"):
            for job in self.client.get(f"/jobs?state={state}").ok():
                self.client.post(f"/jobs/{job['job_id']}/cancel")


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


def whole(command: list[str], environment: dict[str, str], *, must_tell: bool = False) -> float:
    """Wall-clock seconds of one process; infinite where it must tell something and does not. Raises SystemExit."""
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True)
    taken_s = time.perf_counter() - start
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.decode()}")
    return taken_s if done.stdout or not must_tell else float("inf")


def first_sight(command: Sequence[str], environment: dict[str, str], grace_s: float = GRACE_S) -> tuple[float, int]:
    """Seconds until something can be read at a terminal, a line, a bar or a question; infinite where nothing comes.

    And the exit code; 0 where it would have gone on for longer than ``grace_s``.
    """
    start = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(_btmctl(), ["btmctl", *command], environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))
    code = None
    try:
        seen_s = _until_seen(terminal, start)
        code = _left_to_end(pid, terminal, grace_s)
        return seen_s, code or 0
    finally:
        if code is None:
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


def _left_to_end(pid: int, terminal: int, grace_s: float) -> int | None:
    """Its exit code; what only has to print the rest ends in a moment. None for what asks, or works for long."""
    end = time.perf_counter() + grace_s
    reading = True
    while (left := end - time.perf_counter()) > 0:
        if reading and select.select([terminal], [], [], min(left, 0.05))[0]:
            reading = bool(_read(terminal))
        elif not reading:
            time.sleep(0.005)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
    return None


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""


def _btmctl() -> str:
    return str(Path(sys.executable).with_name("btmctl"))


@dataclass(slots=True)
class Measured:
    nothing: list[float] = field(default_factory=list)
    ratios: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By command, how many times as long as the `python -c pass` just before it."""
    completing_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By kind of name."""
    seen: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failed: set[str] = field(default_factory=set)
    """Those of which only a refusal was seen."""


def measure(place: Place, commands: Sequence[Command], rounds: int, showing_rounds: int) -> Measured:
    """All of it, in one run: each round has every command once."""
    found = Measured()
    environment = place.environment()
    nothing = [sys.executable, "-c", "pass"]
    for number in range(rounds):
        for command in commands:
            if command.name == "status" or command.reads:
                with place.typed(command) as (_, words):
                    found.nothing.append(whole(nothing, environment))
                    found.ratios[command.name].append(whole([_btmctl(), *words], environment) / found.nothing[-1])
        for kind in KINDS:
            found.nothing.append(whole(nothing, environment))
            completed_s = whole([_btmctl(), "__complete", kind, ""], environment, must_tell=True)
            found.completing_ms[kind].append((completed_s - found.nothing[-1]) * 1000)
        if number < showing_rounds:
            for command in commands:
                if command.name != "status" and not command.reads:
                    _see(place, command, number, found)
    return found


def _see(place: Place, command: Command, number: int, found: Measured) -> None:
    environment = place.environment(alone=command.alone, named=command.name != "quickstart")
    ends_itself = command.alone and command.name not in ("quickstart", "daemon run")
    with place.typed(command, number) as (before, words):
        if before:
            whole([_btmctl(), *before], environment)
        try:
            seen_s, code = first_sight(words, environment, NOTHING_S if ends_itself else GRACE_S)
        finally:
            if command.alone:
                _end_daemons(environment, COMING_UP_S if command.name == "quickstart" else 0)
    found.seen[command.name].append(seen_s)
    if code:
        found.failed.add(command.name)


def _end_daemons(environment: dict[str, str], coming_up_s: float) -> None:
    """With their trainings, those that a command left running in the folders without one."""
    end = time.monotonic() + coming_up_s
    for path in (environment.get("BTMD_SOCKET"), quickstart_socket(environment)):
        command = [_btmctl(), "--socket", str(path), "daemon", "stop"]
        while path and subprocess.run(command, env=environment, capture_output=True).returncode != 0:
            if time.monotonic() > end:
                break
            time.sleep(0.2)


def _figures(found: Measured) -> list[Figure]:
    figures = [Figure("python -c pass", [value * 1000 for value in found.nothing], "ms", digits=0)]
    for name, values in found.ratios.items():
        target = STATUS_TARGET if name == "status" else READING_TARGET
        figures.append(Figure(f"btmctl {name} / python -c pass", values, "x", f"<= {target:.0f}"))
    for kind, values in found.completing_ms.items():
        name = f"completing names of {kind.replace('-', ' ')} - python -c pass"
        figures.append(Figure(name, values, "ms", f"<= {COMPLETION_TARGET_MS}", digits=0))
    target = f"<= {FIRST_LINE_TARGET_S:.0f}"
    for name in _slowest(found)[:SLOWEST]:
        figures.append(Figure(f"btmctl {name}: first line or bar", found.seen[name], "s", target))
    late = [name for name in found.seen if statistics.median(found.seen[name]) > FIRST_LINE_TARGET_S]
    others = f"of the other {len(found.seen)} commands, those that show nothing for a second"
    figures.append(Figure(others, [len(late)], "", "<= 0", digits=0))
    refused = found.failed - set(REFUSED)
    figures.append(Figure("- that only refuse what they are for", [len(refused)], "", "<= 0", digits=0))
    for name in sorted(refused | set(late)):
        print(f"btmctl {name}: {'refused' if name in refused else 'late'}", file=sys.stderr)
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
    if os.path.exists(SYSTEM_SOCKET):
        raise SystemExit(f"The quickstart would train with the daemon at {SYSTEM_SOCKET}: stop that first.")
    with furnished() as place:
        found = measure(place, commands, given.rounds, min(given.rounds, SHOWING_ROUNDS))
    figures = _figures(found)
    notes = [
        "Whole processes, interleaved, each after a `python -c pass` of its own; the daemon's own time to answer is"
        " part of it. First lines: at a terminal, from the start of the process.",
        f"Every command that btmctl's parser knows, with sample arguments: {len(commands)}. Of those that do more than"
        f" read the {SLOWEST} slowest are shown. Refused, as no training asks or runs: {', '.join(REFUSED)}.",
    ]
    if given.rounds < ROUNDS or wanted:
        for figure in figures:
            print(f"{figure.name}: {figure.median:.2f} {figure.unit} {figure.target}")
    else:
        record(Topic("Command line", "make proof-cli", figures, notes=notes))
    return 0 if all(figure.met is not False for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
