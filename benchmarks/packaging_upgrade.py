"""A new wheel over an earlier one while a training runs, and what became of training and log."""

import json
import re
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.packaging_home import LONGEST_S, Home, required, said, train
from bundle.wheel import PIP, build_wheel
from tests.packaging.environment import install, linked_environment

EARLIER = "0.0.9"
"""The version that a wheel of an earlier commit gets: before a release they all have the same."""
FEW = 20
_COMPARED = ("seq", "stream", "version", "event_id", "type", "recorded_at", "wall_at", "actor")


class Program:
    """An environment with btmd. ``linked``: what it asks for is that of this environment."""

    def __init__(self, folder: Path, *, linked: bool, constraints: Path) -> None:
        self.folder, self._linked, self._constraints = folder, linked, constraints
        self.programs = folder / "bin"

    def wheel_of(self, source: Path, to: Path) -> Path:
        """The wheel of an earlier commit, marked as one of an earlier version."""
        for path, name in ((source / "pyproject.toml", "version"), (source / "btmd" / "__init__.py", "__version__")):
            path.write_text(re.sub(f'(?m)^{name} = ".*"', f'{name} = "{EARLIER}"', path.read_text(), count=1))
        return build_wheel(to, source=source)

    def install(self, wheel: Path, *, everything: bool = False) -> None:
        """Put it there, over an earlier one; ``everything``: also all that it asks for, though it is there already."""
        if self._linked and not self.folder.exists():
            linked_environment(self.folder, wheel)
        elif self._linked:
            install(self.folder, wheel)
        else:
            if not self.folder.exists():
                venv.create(self.folder, with_pip=False)
            pip = [*PIP, "--python", str(self.programs / "python"), "install", "--quiet"]
            again = ["--force-reinstall"] if everything else []
            said([*pip, *again, "--constraint", str(self._constraints), str(wheel)])


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What became of it."""

    replaced_s: float
    attempts: int
    steps_after: int
    compared: int
    lost: int
    steps_missing: int


def upgraded(home: Home, replace: Callable[[], None], *, minutes: float, notes_at_start: bool) -> Upgraded:
    """Train for so long, and ``replace`` the program meanwhile. Raises Unfit.

    ``notes_at_start``: whether the earlier release notes at the start of a training the versions that do it.
    """
    home.start_plain()
    before = home.btmctl("status")
    home.run("btmctl", "config", "set", "backup.keep_daily=9", "training.tick_every_s=0.5")
    finished = train(home, "--set", "max_steps=8")["job_id"]
    forever = f"--preset quick_test --set num_epochs=1000 --set patience=0 --time {minutes * 60:.0f}s".split()
    job_id = home.btmctl("train", home.btmctl("models", "list")[0]["model_id"], "questions", *forever)["job_id"]
    _wait(home, job_id, lambda job: int(job["step"] or 0) >= FEW)
    trainer = json.loads((home.state / "jobs" / job_id / "pid").read_text())["pid"]
    acknowledged = home.lines("events")

    begun = time.monotonic()
    replace()
    replaced_s = time.monotonic() - begun
    _restart(home, before["version"])
    _still_runs(trainer, job_id)
    at_restart = int(_progress(home, job_id)["step"])

    # By way of "recovering" where it stumbled: how often it was begun is told below.
    _wait(home, job_id, lambda job: job["state"] == "completed")
    events = home.lines("events")
    ticks = [one["data"] for one in events if one["stream"] == f"ticks-{job_id}"]
    steps = {step for tick in ticks for step in tick["steps"]}
    record = json.loads((home.state / "jobs" / job_id / "result" / "training.json").read_text())
    own = record["versions"]["btmd"] == before["version"]
    required(own or not notes_at_start, f"The record names versions that did not train: {record['versions']}")
    _all_there(home, (job_id, finished))
    return Upgraded(
        replaced_s=replaced_s,
        attempts=max(int(tick["attempt"]) for tick in ticks),
        steps_after=int(record["steps"]) - at_restart,
        compared=len(acknowledged),
        lost=_lost(acknowledged, events),
        steps_missing=len(set(range(1, int(record["steps"]) + 1)) - steps),
    )


def _restart(home: Home, version: str) -> None:
    """Do what somebody is told to do whose daemon is still of this version."""
    told = home.run("btmctl", "status")
    required("btmctl daemon restart" in told, f"Nobody says that the daemon is to be restarted: {told}")
    home.run("btmctl", "daemon", "restart")
    after = home.btmctl("status")
    required(after["version"] != version, f"The daemon is still of version {version}.")
    required(after["problems"] == {}, f"The new daemon is not well: {after['problems']}")


def _all_there(home: Home, jobs: tuple[str, ...]) -> None:
    for one in jobs:
        required(home.btmctl("jobs", "result", one)["success"], f"The training {one} has no result.")
        answers = home.btmctl("chat", one, "--prompt", "What is 7 plus 7?")["answers"]
        required(set(answers) == {"tuned"}, f"No answer: {answers}")
    required(home.btmctl("config", "get", "backup.keep_daily")["value"] == 9, "The setting is gone.")
    home.run("btmctl", "audit", "verify")


def _lost(before: list[Any], after: list[Any]) -> int:
    """How many of the events from before are not there as they were; a newer release may say more of each."""
    now = {one["seq"]: one for one in after}
    return sum(
        one["seq"] not in now
        or any(now[one["seq"]][name] != one[name] for name in _COMPARED)
        or not one["data"].items() <= now[one["seq"]]["data"].items()
        for one in before
    )


def _progress(home: Home, job_id: str) -> Any:
    return home.btmctl("jobs", "show", job_id)


def _wait(home: Home, job_id: str, wanted: Callable[[Any], bool]) -> Any:
    """The job once it is as wanted. Raises Unfit."""
    end = time.monotonic() + LONGEST_S
    while not wanted(job := _progress(home, job_id)):
        required(job["state"] not in ("failed", "cancelled", "needs_attention"), f"The training: {job}")
        required(time.monotonic() < end, f"It takes too long: {job}")
        time.sleep(1)
    return job


def _still_runs(pid: int, job_id: str) -> None:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        words = b""
    required(job_id.encode() in words, f"The trainer {pid} of {job_id} has ended.")
