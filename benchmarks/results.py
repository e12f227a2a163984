"""Writes figures into RESULTS.md: one section a topic, replaced when it is measured again."""

import os
import platform
import re
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

LOAD_BEFORE = os.getloadavg()[0]
"""Processes that wanted to run in the minute before this was imported: a busy machine measures differently."""

RESULTS = Path(__file__).with_name("RESULTS.md")
_TITLE = "# Results\n\nWritten by the programs in this folder; a section is replaced when its program runs again.\n"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity: the values of all rounds, and what was asked for (``>= 0.75``; empty: just reported)."""

    name: str
    values: Sequence[float]
    unit: str = ""
    target: str = ""
    digits: int = 2

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> str:
        if len(self.values) == 1:
            return "one measurement"
        return f"{min(self.values):.{self.digits}f}-{max(self.values):.{self.digits}f}, n={len(self.values)}"

    @property
    def met(self) -> bool | None:
        """Whether the median is on the right side of the target; None without one."""
        match = re.fullmatch(r"(>=|<=|<|>) *([0-9.]+).*", self.target)
        if match is None:
            return None
        limit = float(match[2])
        return {
            ">=": self.median >= limit,
            "<=": self.median <= limit,
            "<": self.median < limit,
            ">": self.median > limit,
        }[match[1]]


@dataclass(frozen=True, slots=True)
class Topic:
    """A section of RESULTS.md. ``packages`` are named with their versions; ``notes`` say how it was measured."""

    title: str
    command: str
    figures: Sequence[Figure]
    packages: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def record(topic: Topic, *, file: Path = RESULTS) -> None:
    """Put the topic's section into RESULTS.md in place of an earlier one, and print it."""
    section = _section(topic)
    text = file.read_text(encoding="utf-8") if file.exists() else _TITLE
    parts = re.split(r"(?m)^(?=## )", text)
    head, sections = parts[0], {part.splitlines()[0]: part.rstrip("\n") for part in parts[1:]}
    sections[f"## {topic.title}"] = section
    ordered = [sections[title] for title in sorted(sections)]
    file.write_text(head.rstrip("\n") + "\n\n" + "\n\n".join(ordered) + "\n", encoding="utf-8")
    print(section)


def stands(found_at: str, covered: Sequence[str]) -> bool:
    """Whether nothing in these paths has changed since that commit, so that what was measured with it still stands."""
    root = RESULTS.parents[1]
    differs = subprocess.run(
        ["git", "-C", root, "diff", "--quiet", found_at, "--", *covered], stderr=subprocess.DEVNULL
    )
    return differs.returncode == 0


def machine() -> str:
    """Processor, cores, memory and load in words."""
    return f"{hardware()}, load before {LOAD_BEFORE:.1f}"


def hardware() -> str:
    """Processor, cores and memory in words."""
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    cores = re.findall(r"^processor", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    size_gb = int(memory[1]) / 1e6 if memory else 0
    name = cpu[1] if cpu else platform.machine()
    return f"{name}, {len(cores)} cores, {size_gb:.0f} GB, {platform.system()}"


def commit() -> str:
    """The short hash of the checked-out commit, with a plus where tracked files but the figures differ from it."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True).stdout.strip()

    found = git("describe", "--always", "--abbrev=10")
    # Several proofs write their figures in turn: that changes nothing of what they measure.
    figures = (":(top,exclude)benchmarks/RESULTS.md", ":(top,exclude)benchmarks/kept")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", *figures)
    return (found + "+" if changed else found) or "unknown"


def _section(topic: Topic) -> str:
    versions = [f"Python {platform.python_version()}", f"SQLite {sqlite3.sqlite_version}"]
    versions += [f"{name} {metadata.version(name)}" for name in topic.packages]
    lines = [
        f"## {topic.title}",
        "",
        f"`{topic.command}`, {time.strftime('%Y-%m-%d', time.gmtime())}, commit {commit()}",
        "",
        f"Machine: {machine()}. {', '.join(versions)}.",
        "",
        "| figure | median | spread | target | met |",
        "|---|---|---|---|---|",
    ]
    for figure in topic.figures:
        met = {True: "yes", False: "**no**", None: ""}[figure.met]
        value = f"{figure.median:.{figure.digits}f} {figure.unit}".rstrip()
        lines.append(f"| {figure.name} | {value} | {figure.spread} | {figure.target} | {met} |")
    if topic.notes:
        lines += ["", *(f"- {note}" for note in topic.notes)]
    return "\n".join(lines)


class ProofState:
    """How far a long proof has come with the code of this commit, so that it can be taken up again."""

    def __init__(self, name: str, *, folder: Path = RESULTS.parents[1] / ".proof") -> None:
        self._path = folder / f"{name}-{commit()}"
        self.count = int(self._path.read_text()) if self._path.exists() else 0

    def add(self, count: int) -> None:
        """Note that ``count`` parts are done."""
        self.count = count
        self._path.parent.mkdir(exist_ok=True)
        self._path.write_text(str(count))
