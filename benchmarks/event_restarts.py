"""Events followed through restarts of the daemon: every follower sees every event once, and no question hangs.

The daemon is killed, or stopped, at random moments, in the middle of its start too, while several clients write, a
training reports its ticks, and others ask questions. Where a question is neither answered nor refused within the limit,
what all threads of the daemon were doing is kept in .proof/events.

``python -m benchmarks.event_restarts`` records; ``--restarts 3 --no-training`` is a short form that does not.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.event_followers import Asker, CommandFollower, Follower, ProductFollower, Writer, answered
from benchmarks.results import Figure, Topic, record
from tests.fixtures.daemon import QUICK, DaemonProcess, config_of, rows, trainer_pid
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

KEPT = Path(__file__).parents[1] / ".proof" / "events"
RESTARTS, LIMIT_S, SLOW_S = 50, 10.0, 0.05
START_S, CATCH_UP_S = 120.0, 600.0
KILLED, KILLED_WHILE_STARTING = 0.65, 0.2
"""The shares of restarts that begin with SIGKILL, and of those with another one before the daemon answered."""
ENDLESS: dict[str, Any] = {
    "num_epochs": 1000,
    "max_steps": 100_000,
    "eval_every": 50_000,
    "save_every": 200,
    "sample_answers": 0,
    "precision": "fp32",
}


@dataclass
class Found:
    """What came of it."""

    ended_by: Counter[str] = field(default_factory=Counter)
    starts_s: list[float] = field(default_factory=list)
    trainers_killed: int = 0
    events: int = 0
    ticks: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    """Acknowledged changes that the log does not have, or has twice."""
    missed: dict[str, int] = field(default_factory=dict)
    """By follower, events that it did not see."""
    repeated: dict[str, int] = field(default_factory=dict)
    """By follower, events that came twice or out of order."""
    breaks: dict[str, int] = field(default_factory=dict)
    took_s: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    unanswered: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """What must not be, in words."""
        missed = [f"{name} missed {count} events" for name, count in self.missed.items() if count]
        repeated = [f"{name} saw {count} again" for name, count in self.repeated.items() if count]
        return [*missed, *repeated, *(f"lost or doubled: {word}" for word in self.lost), *self.unanswered]


class Restarting:
    """One daemon through its restarts, and all who follow it meanwhile."""

    def __init__(self, folder: Path, seed: int, *, limit_s: float, training: bool, askers: int) -> None:
        self.daemon = DaemonProcess(config_of(folder))
        self.found = Found()
        self._folder, self._limit_s, self._training = folder, limit_s, training
        self._drawn = random.Random(seed)
        self._ended, self._turn = threading.Event(), threading.Lock()
        path = self.daemon.config.socket_path
        self.followers = [
            Follower("HTTP, Last-Event-ID", path),
            Follower("HTTP, a slow reader", path, pause_s=SLOW_S),
            Follower("HTTP, one stream", path, stream="settings"),
            ProductFollower("the product's client", path),
            CommandFollower("btmctl events --follow", path),
        ]
        self.writers = [Writer(number, path, self._ended) for number in range(3)]
        self.askers = [
            Asker(f"asker {number}", path, self._ended, limit_s, self.note_unanswered) for number in range(askers)
        ]

    def run(self, restarts: int) -> Found:
        """Everything from the first start to the comparison; the daemon is stopped afterwards."""
        with self.daemon:
            job_id = self._prepare()
            for thread in (*self.followers, *self.writers, *self.askers):
                thread.start()
            # A command that finds no daemon at its start ends, as it should.
            while not all(one.seen for one in self.followers):
                time.sleep(0.05)
            for number in range(restarts):
                time.sleep(self._drawn.uniform(0.1, 1.5))
                if job_id and number % 5 == 4:
                    self._kill_trainer(job_id)
                self._restart()
                print(f"restart {number + 1}: {self.found.starts_s[-1:]} s", flush=True)
            self._ended.set()
            for thread in (*self.writers, *self.askers):
                thread.join()
            if job_id:
                self.daemon.client.post(f"/jobs/{job_id}/cancel").ok()
                self.daemon.client.wait_until(job_id, "cancelled")
            self._compare()
        return self.found

    def _prepare(self) -> str:
        client = self.daemon.client
        changes = {**QUICK, "jobs.crash_resumes": 100, "recovery.attempts": 20, "backup.every_hours": 0}
        client.patch("/settings", {"changes": changes}).ok()
        if not self._training:
            return ""
        client.add_model(make_tiny_llama(self._folder / "tiny"))
        client.add_dataset(rows())
        job_id = client.start(overrides=ENDLESS)
        client.wait_for(job_id, lambda job: job["step"] > 1)
        return job_id

    def _kill_trainer(self, job_id: str) -> None:
        """Just before the daemon goes: it then begins with a recovery."""
        try:
            os.kill(trainer_pid(self.daemon.config.jobs_dir, job_id), signal.SIGKILL)
        except ProcessLookupError:
            return
        self.found.trainers_killed += 1

    def _restart(self) -> None:
        with self._turn:
            if self._drawn.random() < KILLED:
                self.daemon.kill()
                self.found.ended_by["SIGKILL"] += 1
            else:
                self.daemon.stop()
                self.found.ended_by["SIGTERM"] += 1
            time.sleep(self._drawn.uniform(0.0, 0.3))
            if self._drawn.random() < KILLED_WHILE_STARTING:
                self.daemon.launch()
                time.sleep(self._drawn.uniform(0.1, 1.0))
                self.daemon.kill()
                self.found.ended_by["SIGKILL while starting"] += 1
            self.daemon.launch()
        self._await_answer()

    def _await_answer(self) -> None:
        """Until it answers. Without the turn: a question that hangs now is looked into now."""
        began = time.monotonic()
        while time.monotonic() - began < START_S:
            assert self.daemon.process is not None
            assert self.daemon.process.poll() is None, self.daemon.log.read_text()[-5000:]
            try:
                answered(self.daemon.config.socket_path, "/health", self._limit_s)
            except TimeoutError:
                self.note_unanswered(f"the first question, {time.monotonic() - began:.1f} s after the start")
                return
            except OSError:
                time.sleep(0.02)
            else:
                self.found.starts_s.append(time.monotonic() - began)
                return
        raise AssertionError(f"no answer for {START_S:g} s: {self.daemon.log.read_text()[-5000:]}")

    def note_unanswered(self, what: str) -> None:
        """Keep what can be known of the daemon, have it say what its threads do, and start it again."""
        with self._turn:
            process = self.daemon.process
            assert process is not None
            self.found.unanswered.append(what)
            KEPT.mkdir(parents=True, exist_ok=True)
            kept = KEPT / f"unanswered-{time.strftime('%H%M%S')}-{len(self.found.unanswered)}.txt"
            picture = _picture(process.pid, self.daemon.config.socket_path)
            # The daemon is started so that it tells where each of its threads is, and ends.
            process.send_signal(signal.SIGABRT)
            process.wait()
            kept.write_text(f"{what}\n{picture}\n{self.daemon.log.read_text()[-20_000:]}")
            print(f"NOT ANSWERED: {what}; see {kept}", flush=True)
            self.daemon.launch()
        self._await_answer()

    def _compare(self) -> None:
        """What everybody saw with what the log holds, once they have all caught up."""
        log = list(self._log())
        head, settings = log[-1]["seq"], [one["seq"] for one in log if one["stream"] == "settings"]
        expected = {one.name: settings if one.stream else list(range(1, head + 1)) for one in self.followers}
        for one in self.followers:
            one.upto = expected[one.name][-1]
        self.daemon.client.patch("/settings", {"changes": {"training.seed": 1}, "why": "the end"}).ok()
        for one in self.followers:
            one.join(CATCH_UP_S)
            wanted, seen = expected[one.name], [seq for seq in one.seen if seq <= head]
            self.found.missed[one.name] = len(set(wanted) - set(seen))
            in_order = sum(earlier < later for earlier, later in pairwise(seen)) + bool(seen)
            self.found.repeated[one.name] = len(seen) - in_order + len(set(seen) - set(wanted))
            self.found.breaks[one.name] = one.breaks
        self.found.events, self.found.ticks = head, sum(one["type"] == "TrainingProgressed" for one in log)
        words = Counter(one["data"].get("why") for one in log if one["type"] == "SettingChanged")
        acknowledged = [word for writer in self.writers for word in writer.acknowledged]
        self.found.acknowledged = len(acknowledged)
        self.found.lost = [word for word in acknowledged if words[word] != 1]
        self.found.lost += [word for writer in self.writers for word in writer.sent if words[word] > 1]
        for asker in self.askers:
            self.found.took_s += asker.took_s
            self.found.failed += asker.failed

    def _log(self) -> Any:
        after = 0
        while page := self.daemon.client.events(after):
            yield from page
            after = page[-1]["seq"]


def _picture(pid: int, path: Path) -> str:
    """Threads, files and sockets of a process, as far as they can be read."""
    parts = []
    for task in sorted(Path(f"/proc/{pid}/task").glob("*")):
        said = [f"{name}: {_text(task / name)}" for name in ("comm", "wchan", "syscall", "stack")]
        parts.append(f"thread {task.name} " + " ".join(said))
    parts += [f"fd {one.name} -> {os.readlink(one)}" for one in Path(f"/proc/{pid}/fd").glob("*") if one.is_symlink()]
    parts += [line for line in Path("/proc/net/unix").read_text().splitlines() if str(path) in line]
    parts.append(f"load {os.getloadavg()[0]:.1f}")
    return "\n".join(parts)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        return f"({error.strerror})"


def followed_through(
    restarts: int, seed: int, *, limit_s: float = LIMIT_S, training: bool = True, askers: int = 4
) -> Found:
    """A daemon of its own through so many restarts."""
    with short_folder() as folder:
        return Restarting(folder, seed, limit_s=limit_s, training=training, askers=askers).run(restarts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.event_restarts")
    parser.add_argument("--restarts", type=int, default=RESTARTS)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds within which a question is answered")
    parser.add_argument("--no-training", action="store_true", help="without a training beside it")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    os.environ["PYTHONFAULTHANDLER"] = "1"
    found = followed_through(given.restarts, given.seed, limit_s=given.limit, training=not given.no_training)
    print(*found.wrong, f"breaks {found.breaks}, failed questions {dict(found.failed)}", sep="\n")
    if given.restarts >= RESTARTS and not given.no_training:
        _record(found, given)
    return 1 if found.wrong else 0


def _record(found: Found, given: argparse.Namespace) -> None:
    kills = found.ended_by["SIGKILL"] + found.ended_by["SIGKILL while starting"]
    figures = [
        Figure("restarts of the daemon", [given.restarts], target=f">= {RESTARTS}", digits=0),
        Figure("of them and beside them, SIGKILL", [kills], target=">= 30", digits=0),
        Figure("clean stops (SIGTERM)", [found.ended_by["SIGTERM"]], digits=0),
        Figure("trainers killed", [found.trainers_killed], digits=0),
        Figure("events", [found.events], digits=0),
        Figure("of them ticks of a training", [found.ticks], digits=0),
        Figure("followers", [len(found.missed)], digits=0),
        Figure("connections of a follower that broke", list(found.breaks.values()), digits=0),
        Figure("events that a follower missed", [sum(found.missed.values())], target="<= 0", digits=0),
        Figure("events that came twice or out of order", [sum(found.repeated.values())], target="<= 0", digits=0),
        Figure("acknowledged changes", [found.acknowledged], digits=0),
        Figure("acknowledged changes lost or doubled", [len(found.lost)], target="<= 0", digits=0),
        Figure("questions answered", [len(found.took_s)], digits=0),
        Figure(f"questions without any end for {given.limit:g} s", [len(found.unanswered)], target="<= 0", digits=0),
        Figure("longest answer", [max(found.took_s)], "s"),
        Figure("from the launch to the first answer", found.starts_s, "s"),
    ]
    notes = [
        f"Seed {given.seed}. Followers: {', '.join(found.missed)}; four threads ask, three write.",
        "A question fails where the daemon goes in the middle of it or is not there: "
        + ", ".join(f"{name} {count}" for name, count in sorted(found.failed.items()) if count)
        + ".",
    ]
    record(Topic("Events through restarts", "make proof-events", figures, packages=("uvicorn",), notes=notes))


if __name__ == "__main__":
    raise SystemExit(main())
