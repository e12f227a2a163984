"""The whole main job where there is no network, with every program followed by strace: nothing is sent to an address.

Daemon and commands run in a network namespace with no interface that is up. strace writes down every socket of theirs
and of whatever they start; that it finds what is sent is shown by a program that tries. ``--until STEP`` ends early,
``--dry`` records nothing.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.results import Figure, Topic, record
from benchmarks.socket_traces import HERE, KERNEL, Traces, read_traces, traced
from tests.fixtures.daemon import Client, end_trainers
from tests.fixtures.documents import docx
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

STEPS = 20
PATIENCE_S = 300.0
FORMATS = ("adapter", "merged", "gguf", "ollama", "card")
ATTEMPTS = 6
CONTROL = """
import os, socket, threading
def tries(family, kind, how):
    with socket.socket(family, kind) as one:
        try:
            how(one)
        except OSError as problem:
            print(problem.strerror)
there, there6 = ("127.0.0.1", 9), ("::1", 9)
connect = lambda: tries(socket.AF_INET, socket.SOCK_STREAM, lambda one: one.connect(there))
connect()
tries(socket.AF_INET6, socket.SOCK_STREAM, lambda one: one.connect(there6))
tries(socket.AF_INET, socket.SOCK_DGRAM, lambda one: one.sendto(b'"{sa_family=AF_UNIX', there))
tries(socket.AF_INET, socket.SOCK_DGRAM, lambda one: one.sendmsg([b"x"], [], 0, there))
thread = threading.Thread(target=connect)
thread.start(), thread.join()
child = os.fork()
if not child:
    connect()
    os._exit(0)
os.waitpid(child, 0)
"""
"""Sends in ATTEMPTS ways to this machine's own address, one of them from a thread and one from a child."""


class Place:
    """A daemon and commands of a user whose folders are all below one, each with a trace of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.traces = folder, folder / "traces"
        self.socket = folder / "sock"
        names = ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BTMD_")}
        # A training of another btmd on this machine would be waited for.
        own = {"BTMD_SOCKET": str(self.socket), "BTMD_DEVICE_LOCKS": str(folder)}
        self.environment = kept | dict.fromkeys(names, str(folder)) | own
        self._count = 0

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """A daemon that answers, behind a strace that has written all of it down afterwards. Raises SystemExit."""
        where = ["--state-dir", str(self.folder / "state"), "--config-dir", str(self.folder / "config")]
        command = traced([sys.executable, "-P", "-m", "btmd", *where, "--log-level", "warning"], self.traces / "daemon")
        strace = subprocess.Popen(command, env=self.environment, cwd=self.folder, start_new_session=True)
        try:
            end = time.monotonic() + PATIENCE_S
            while not self.socket.exists():
                if strace.poll() is not None or time.monotonic() > end:
                    raise SystemExit("The daemon did not start.")
                time.sleep(0.05)
            # It listens before its log is open.
            pid = int(Client(self.socket).get("/health").ok()["pid"])
            try:
                yield
            finally:
                os.kill(pid, signal.SIGTERM)
                strace.wait(PATIENCE_S)
        finally:
            if strace.poll() is None:
                # With what it follows: by itself it would only let go of it.
                os.killpg(strace.pid, signal.SIGKILL)
                end_trainers(self.folder / "state" / "jobs")

    def btmctl(self, *arguments: str) -> Any:
        """What a command answers; a stream's last line. Raises SystemExit where it fails."""
        self._count += 1
        command = [sys.executable, "-P", "-m", "btmctl", "--json", "--yes", *arguments]
        done = subprocess.run(
            traced(command, self.traces / f"btmctl-{self._count:02}"),
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise SystemExit(f"btmctl {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        try:
            return json.loads(done.stdout)
        except json.JSONDecodeError:
            lines = done.stdout.splitlines()
            return json.loads(lines[-1]) if lines else None


def main_job(place: Place, formats: Iterable[str]) -> Iterable[tuple[str, tuple[str, ...]]]:
    """The steps, each with its command: a model and data are added, a training made and looked at, taken away, kept."""
    make_tiny_llama(place.folder / "tiny")
    facts = "".join(f"What is {n} plus {n}?,It is {2 * n} said the bee.\n" for n in range(60))
    (place.folder / "facts.csv").write_text("question,answer\n" + facts)
    (place.folder / "guide.docx").write_bytes(
        docx("# Bees", *(f"Bee number {n} flies to hive {n % 7}." for n in range(40)))
    )
    out = place.folder / "out"
    out.mkdir()
    yield "models add", ("models", "add", "tiny", "--name", "tiny")
    yield "datasets add", ("datasets", "add", "facts.csv", "--name", "facts", "--consent", "--purpose", "a proof")
    yield "a document", ("datasets", "add", "guide.docx", "--name", "guide", "--consent")
    yield "config set", ("config", "set", "training.threads=1", "training.tick_every_s=0.1")
    yield "plan", ("plan", "tiny", "facts", "--preset", "quick_test")
    yield "train", ("train", "tiny", "facts", "--preset", "quick_test", "--set", f"max_steps={STEPS}", "--watch")
    yield "result", ("jobs", "result", "last", "--answers")
    yield "chat", ("chat", "last", "--both", "--prompt", "What is 2 plus 2?")
    for name in formats:
        yield f"export {name}", ("jobs", "export", "last", "--format", name, "--out", str(out / name))
    yield "backup create", ("backup", "create", "--with-artefacts")
    yield "backup verify", ("backup", "verify")
    yield "backup drill", ("backup", "drill")
    yield "audit verify", ("audit", "verify")
    yield "status", ("status",)


def inside(folder: Path, formats: Iterable[str], until: str) -> int:
    """All of it, in the namespace that this process is in already. Writes what was done beside the traces."""
    place = Place(folder)
    place.traces.mkdir()
    control = subprocess.run(
        traced([sys.executable, "-c", CONTROL], place.traces / "control"), check=True, stdout=subprocess.PIPE, text=True
    )
    done: list[str] = []
    with place.daemon():
        for name, command in main_job(place, formats):
            began = time.monotonic()
            answer = place.btmctl(*command)
            if name == "result" and not answer["success"]:
                raise SystemExit(f"The training failed: {answer}")
            print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
            done.append(name)
            if name == until:
                break
    facts = {"done": done, "control": control.stdout.split("\n")[:-1], "namespace": os.readlink("/proc/self/ns/net")}
    (folder / "facts.json").write_text(json.dumps(facts))
    return 0


def enter() -> list[str]:
    """What goes in front of a program to put it where there is no network. Raises SystemExit with the remedy."""
    if not shutil.which("strace"):
        raise SystemExit("strace is missing: apt-get install strace (Debian, Ubuntu), dnf install strace (Fedora).")
    ways = [["unshare", "--net"]] if os.geteuid() == 0 else [["unshare", "--map-current-user", "--net"]]
    for way in ways:
        if shutil.which("unshare") and subprocess.run([*way, "true"], capture_output=True).returncode == 0:
            return way
    raise SystemExit("This system does not let you leave the network: run it as root, outside of a container.")


def _figures(facts: dict[str, Any], control: Traces, service: Traces, commands: Traces) -> list[Figure]:
    return [
        Figure("steps of the main job that were done", [len(facts["done"])], digits=0),
        Figure("attempts of the control that are found", [len(control.reached)], "", f">= {ATTEMPTS}", digits=0),
        Figure("- and that the namespace let nowhere", [len(facts["control"])], "", f">= {ATTEMPTS}", digits=0),
        Figure("sent beyond this machine's sockets by daemon, trainer or child", [len(service.reached)], "", "<= 0", 0),
        Figure("- by btmctl", [len(commands.reached)], "", "<= 0", 0),
        Figure("programs that the daemon ran, itself included", [service.programs.total()], digits=0),
        Figure("- of them trainers", [service.programs["btmd.trainer"]], "", ">= 1", digits=0),
        Figure("- of them in a network namespace of their own", [service.left_the_network.total()], digits=0),
        Figure("calls looked at", [service.lines + commands.lines], digits=0),
    ]


def _notes(facts: dict[str, Any], service: Traces, commands: Traces, folder: Path) -> list[str]:
    everything = (("the daemon and what it started", service), ("btmctl", commands))
    notes = [
        f"Steps: {', '.join(facts['done'])}. A tiny model, {STEPS} steps; daemon and commands in a network namespace"
        " with a loopback that is down, and nothing else.",
        "Programs: " + ", ".join(f"{name} ({count})" for name, count in sorted(service.programs.items())) + ".",
        "In a network namespace of their own besides: "
        + (", ".join(f"{name} ({count})" for name, count in sorted(service.left_the_network.items())) or "none")
        + ".",
    ]
    for who, traces in everything:
        families = "; ".join(
            f"{family} in {', '.join(sorted(whose))}" for family, whose in sorted(traces.families.items())
        )
        paths = {path.strip('"').replace(str(folder), "FOLDER") for path in traces.named}
        notes.append(
            f"Families of sockets, {who}: {families or 'none'}. Unix sockets asked for: {', '.join(sorted(paths))}."
        )
        for one in traces.bound:
            notes.append(f"An address was taken and nobody waited for, {one.program}: `{one.line}`.")
    opened = {family for _, traces in everything for family in traces.families}
    if others := opened - HERE - KERNEL:
        notes.append(f"Sockets of {', '.join(sorted(others))} were opened; whether anything was sent is counted above.")
    if asked := opened & KERNEL:
        notes.append(f"The other end of {', '.join(sorted(asked))} is the kernel.")
    return notes


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.offline")
    parser.add_argument("--formats", default=",".join(FORMATS), help="which exports are made, with commas")
    parser.add_argument(
        "--until", default="", metavar="STEP", help="end after this step, as it is called in the output"
    )
    parser.add_argument("--dry", action="store_true", help="print what was found and record nothing")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    formats = [name for name in given.formats.split(",") if name]
    if given.inside is not None:
        return inside(given.inside, formats, given.until)
    way = enter()
    with short_folder() as folder:
        again = [sys.executable, "-m", "benchmarks.offline", "--inside", str(folder)]
        asked = ["--formats", given.formats, "--until", given.until]
        if (code := subprocess.run([*way, *again, *asked]).returncode) != 0:
            return code
        facts = json.loads((folder / "facts.json").read_text())
        traces = folder / "traces"
        control, service = read_traces([traces / "control"]), read_traces([traces / "daemon"])
        commands = read_traces(sorted(traces.glob("btmctl-*")))
    figures = _figures(facts, control, service, commands)
    for one in (*service.reached, *commands.reached):
        print(f"{one.program}: {one.line}", file=sys.stderr)
    notes = _notes(facts, service, commands, folder)
    if given.dry or given.until:
        for figure in figures:
            print(f"{figure.name}: {figure.median:.0f} {figure.target}")
        print("\n".join(notes))
    else:
        record(Topic("Without a network", "make proof-offline", figures, ("torch", "transformers"), notes))
    return 0 if all(figure.met is not False for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
