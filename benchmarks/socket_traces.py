"""What strace wrote of a program and all that it started: which sockets there were, and where anything was sent.

``COMMAND`` goes in front of a program; ``read_traces`` reads what it wrote.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_SENDING = ("connect", "sendto", "sendmsg", "sendmmsg")
_CALLS = (
    *("execve", "clone", "?clone3", "?fork", "?vfork", "unshare", "socket", "socketpair", "bind", "listen"),
    *(*_SENDING, "io_uring_setup"),
)
"""All that makes a process, a socket, or a way around these calls."""
HERE = frozenset({"AF_UNIX", "AF_LOCAL"})
"""Families of sockets that end on this machine, by name."""
KERNEL = frozenset({"AF_NETLINK", "AF_ALG"})
"""Families whose other end is the kernel: nothing leaves, and nobody else is asked."""

_LINE = re.compile(r"^(?P<task>\d+) +(?:<\.\.\. (?P<resumed>\w+) resumed>|(?P<call>\w+)\()(?P<rest>.*)$")
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"(?:\.\.\.)?')
_ADDRESS = re.compile(r"\bsa_family=(\w+)")
_DONE = re.compile(r"= (-?\d+)[^=]*$")
_PATH = re.compile(r'sun_path=(@?"[^"]*")')
_MODULE = re.compile(r'"-m", "([\w.]+)"')
_PROGRAM = re.compile(r'^"([^"]*)"')


def traced(command: Iterable[str], trace: Path) -> list[str]:
    """The command, followed with everything it starts; ``trace`` is the file that is written."""
    wanted = ["-e", "trace=" + ",".join(_CALLS), "-e", "signal=none"]
    return ["strace", "-f", "--seccomp-bpf", "-qq", "-s", "80", *wanted, "-o", str(trace), "--", *command]


@dataclass(frozen=True, slots=True)
class Reached:
    """Something that went, or was meant to go, to an address that is no Unix socket's; or waited there for others."""

    program: str
    call: str
    line: str


@dataclass(slots=True)
class Traces:
    """What one or several traces tell."""

    programs: Counter[str] = field(default_factory=Counter)
    """How often each program was started, by its name or, of Python's, the module's."""
    families: dict[str, set[str]] = field(default_factory=dict)
    """Families of sockets that were opened, and by which programs."""
    reached: list[Reached] = field(default_factory=list)
    bound: list[Reached] = field(default_factory=list)
    """Sockets that took an address of a network and wait for nobody, as a library does that looks what there is."""
    named: Counter[str] = field(default_factory=Counter)
    """How often each Unix socket was connected to."""
    left_the_network: Counter[str] = field(default_factory=Counter)
    """Programs that took a network namespace of their own."""
    lines: int = 0


def read_traces(files: Iterable[Path]) -> Traces:
    """Read what strace wrote. Raises ValueError for a line that cannot be understood."""
    found = Traces()
    for file in files:
        _Reader(found).read(file)
    return found


class _Reader:
    """One trace. A task is a thread; it is called what its process runs."""

    def __init__(self, found: Traces) -> None:
        self._found = found
        self._parents: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._waiting: dict[tuple[str, str], str] = {}
        """Calls that had not ended when another task's line was written."""
        self._network_sockets: set[tuple[str, str]] = set()
        """Descriptors with an address of a network, by the task that gave it."""

    def read(self, file: Path) -> None:
        calls = list(self._calls(file))
        for task, call, text in calls:
            if call in ("clone", "clone3", "fork", "vfork") and (done := _DONE.search(text)) and int(done[1]) > 0:
                # A child's first line may stand before the one that tells whose it is: so all of these first.
                self._parents[done[1]] = task
        for task, call, text in calls:
            self._found.lines += 1
            self._take(task, call, text)

    def _calls(self, file: Path) -> Iterator[tuple[str, str, str]]:
        """Task, call, and what stands in its brackets and after: each call once, whole."""
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                match = _LINE.match(line)
                if match is None:
                    if re.match(r"^\d+ +(\+\+\+|---) ", line):
                        continue
                    raise ValueError(f"{file.name}: {line.strip()[:200]}")
                task, text = match["task"], match["rest"]
                if match["resumed"]:
                    yield task, match["resumed"], self._waiting.pop((task, match["resumed"]), "") + text
                elif text.endswith("<unfinished ...>"):
                    self._waiting[task, match["call"]] = text.removesuffix("<unfinished ...>")
                else:
                    yield task, match["call"], text
        # Whoever was ended in the middle of a call may have sent all the same.
        for (task, call), text in self._waiting.items():
            yield task, call, text

    def _take(self, task: str, call: str, text: str) -> None:
        done = _DONE.search(text)
        worked = done is not None and int(done[1]) >= 0
        if call == "execve":
            if worked:
                self._names[task] = name = _name(text)
                self._found.programs[name] += 1
        elif call in ("socket", "socketpair"):
            self._found.families.setdefault(text.partition(",")[0].strip(), set()).add(self._name(task))
        elif call == "unshare" and worked and "CLONE_NEWNET" in text:
            self._found.left_the_network[self._name(task)] += 1
        elif call == "io_uring_setup" and worked:
            # What it does afterwards is no call, and would not be seen.
            self._reach(task, call, text)
        elif call in _SENDING or call == "bind":
            self._look_at_address(task, call, text)
        elif call == "listen" and (task, text.partition(",")[0]) in self._network_sockets:
            self._reach(task, call, text)

    def _look_at_address(self, task: str, call: str, text: str) -> None:
        if call == "connect" and (path := _PATH.search(text)):
            self._found.named[path[1]] += 1
        # Without what was sent: it may hold anything, and look like an address.
        families = set(_ADDRESS.findall(_TEXT.sub('""', text)))
        if not families - HERE - KERNEL - {"AF_UNSPEC"}:
            return
        if call == "bind":
            self._network_sockets.add((task, text.partition(",")[0]))
            self._found.bound.append(Reached(self._name(task), call, text.strip()))
        else:
            self._reach(task, call, text)

    def _reach(self, task: str, call: str, text: str) -> None:
        self._found.reached.append(Reached(self._name(task), call, f"{call}({text.strip()}"))

    def _name(self, task: str) -> str:
        while task not in self._names and task in self._parents:
            task = self._parents[task]
        return self._names.get(task, "unknown")


def _name(text: str) -> str:
    """Of the text of an execve: ``btmd.trainer`` for ``python -m btmd.trainer``, else the program's name."""
    if module := _MODULE.search(text):
        return module[1]
    program = _PROGRAM.match(text)
    return Path(program[1]).name if program else "unknown"
