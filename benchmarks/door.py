"""What many clients cost: hundreds of event streams, some never read, and a thousand clients that give up, each round.

Beside them a training reports its ticks and a setting is changed twenty times a second: memory has to stay flat, no
change may wait a tenth of a second until it is kept, and ticks and other followers stay on time. As root, half of the
streams are other users'. The disk's own syncs are timed too; TMPDIR=/dev/shm takes the disk out of it.

``python -m benchmarks.door`` records; with other numbers than its own, and with ``--no-training``, it does not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import Any

from benchmarks.daemon_cost import resident_mb
from benchmarks.door_clients import AT_ONCE, GIVEN_UP, OWN_UID, Streams, give_up, request
from benchmarks.event_restarts import ENDLESS
from benchmarks.results import Figure, Topic, record
from tests.fixtures.daemon import QUICK, Client, DaemonProcess, config_of, rows
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

STREAMS, SILENT, CLIENTS, ROUNDS, QUIET_S = 200, 20, 1000, 8, 30.0
USERS = {"bin": 2, "sys": 3}
"""Accounts that every Linux system has."""
LATE_S = 0.1
EVENTS_A_STREAM = 3
"""Before anything begins; 600 of them are more than a socket holds for somebody who reads none."""
SETTLE_S = 3.0
WAIT_S = 120.0
_COUNT = "btmd_log_append_seconds_count"


@dataclass
class Measured:
    """What one phase, quiet or with clients, has shown."""

    writes_s: list[float] = field(default_factory=list)
    syncs_s: list[float] = field(default_factory=list)
    lags_s: list[float] = field(default_factory=list)
    """Of each tick, from its moment in the trainer to its record, against the quickest of all."""
    appends: int = 0
    late_appends: int = 0
    from_us: int = 0
    to_us: int = 0


class Beside:
    """Changes a setting every 50 ms, and syncs a file of its own every 200 ms, and notes how long each took."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self._path, self._folder = daemon.config.socket_path, daemon.config.state_dir.parent
        self.now = Measured()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._write, self._sync)]
        self.failure: BaseException | None = None

    def __enter__(self) -> Beside:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        if self.failure is not None:
            raise self.failure

    def _write(self) -> None:
        seed = 0
        try:
            while not self._ended.wait(0.05):
                seed += 1
                body = json.dumps({"changes": {"training.seed": seed}}).encode()
                began = time.perf_counter()
                request(self._path, "PATCH", "/settings", body)
                self.now.writes_s.append(time.perf_counter() - began)
        except (OSError, AssertionError) as error:
            self.failure = error

    def _sync(self) -> None:
        with (self._folder / "synced").open("wb") as file:
            while not self._ended.wait(0.2):
                file.seek(0)
                file.write(os.urandom(4096))
                file.flush()
                began = time.perf_counter()
                os.fdatasync(file.fileno())
                self.now.syncs_s.append(time.perf_counter() - began)


class Door:
    """One daemon, first quiet, then with its clients round after round."""

    def __init__(self, daemon: DaemonProcess, given: argparse.Namespace) -> None:
        self._daemon, self._given = daemon, given
        self._path = daemon.config.socket_path
        self._drawn = random.Random(given.seed)
        self.quiet, self.busy = Measured(), Measured()
        self.quiet_mb = 0.0
        self.open_mb: list[float] = []
        self.after_mb: list[float] = []
        self.delays_s: list[float] = []
        self.events = self.missed = self.closed = self.dropped = 0

    @property
    def _pid(self) -> int:
        assert self._daemon.process is not None
        return self._daemon.process.pid

    def run(self) -> None:
        client = self._daemon.client
        _lengthen(client, self._given.streams * EVENTS_A_STREAM)
        job_id = _training(self._daemon) if self._given.training else ""
        files = self._figure("process_open_fds")
        with Beside(self._daemon) as beside:
            time.sleep(2)
            self.quiet = self._phase(beside, self._quiet)
            self.quiet_mb = resident_mb(self._pid)
            self.busy = self._phase(beside, lambda: self._rounds(files))
        if job_id:
            self._note_lags(job_id)
            client.post(f"/jobs/{job_id}/cancel").ok()
            client.wait_until(job_id, "cancelled")

    def _phase(self, beside: Beside, work: Any) -> Measured:
        """What was measured while ``work`` went on; the log's own figures of how long it took are the daemon's."""
        before, late, begun_us = self._figure(_COUNT), self._late(), time.time_ns() // 1000
        beside.now = found = Measured()
        work()
        beside.now = Measured()
        found.appends, found.late_appends = int(self._figure(_COUNT) - before), int(self._late() - late)
        found.from_us, found.to_us = begun_us, time.time_ns() // 1000
        return found

    def _quiet(self) -> None:
        time.sleep(self._given.quiet)

    def _rounds(self, files: float) -> None:
        for number in range(self._given.rounds):
            self._round()
            self._settle(files)
            self.after_mb.append(resident_mb(self._pid))
            print(f"round {number + 1}: {self.open_mb[-1]:.1f} MB, then {self.after_mb[-1]:.1f} MB", flush=True)

    def _round(self) -> None:
        given, streams = self._given, Streams(self._path)
        # A training and settings write meanwhile: whoever is opened later begins where the others are by then.
        head = json.loads(request(self._path, "GET", "/health"))["store"]["head_seq"]
        silent = given.streams * SILENT // STREAMS
        others = [*USERS.values()] if OWN_UID == 0 else [OWN_UID] * len(USERS)
        streams.open(silent, OWN_UID, after=0, silent=True)
        for uid in others:
            streams.open(given.streams // 4, uid, after=head)
        streams.open(given.streams - silent - given.streams // 4 * len(others), OWN_UID, after=head)
        kinds = [self._drawn.choice([*GIVEN_UP]) for _ in range(given.clients)]
        give_up(self._path, kinds, self._drawn.randrange(2**32))
        self.dropped += len(kinds)
        self._until_all_have(streams)
        self.open_mb.append(resident_mb(self._pid))
        streams.close()
        self.delays_s += streams.delays_s
        self.events, self.missed = self.events + streams.events, self.missed + streams.missed
        self.closed += streams.closed

    def _until_all_have(self, streams: Streams) -> None:
        """Every follower that reads has what there is now."""
        head = json.loads(request(self._path, "GET", "/health"))["store"]["head_seq"]
        deadline = time.monotonic() + WAIT_S
        while streams.lowest < head:
            assert time.monotonic() < deadline, f"a follower is at {streams.lowest} of {head}"
            time.sleep(0.05)

    def _settle(self, files: float) -> None:
        """Until the daemon has let go of all connections; a few files are its own."""
        deadline = time.monotonic() + WAIT_S
        while (now := self._figure("process_open_fds")) > files + 16:
            assert time.monotonic() < deadline, f"{now:.0f} files are open, {files:.0f} were"
            time.sleep(0.2)
        time.sleep(min(SETTLE_S, self._given.quiet))

    def _figure(self, name: str) -> float:
        lines = request(self._path, "GET", "/metrics").decode().splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))

    def _late(self) -> float:
        return self._figure(_COUNT) - self._figure(f'btmd_log_append_seconds_bucket{{le="{LATE_S}"}}')

    def _note_lags(self, job_id: str) -> None:
        found = []
        for one in _ticks(self._daemon.client, job_id):
            recorded_s = datetime.fromisoformat(one["recorded_at"]).timestamp()
            found.append((recorded_s * 1e6, recorded_s - one["data"]["elapsed_s"]))
        quickest_s = min(lag_s for _, lag_s in found)
        for phase in (self.quiet, self.busy):
            phase.lags_s = [lag_s - quickest_s for at_us, lag_s in found if phase.from_us <= at_us <= phase.to_us]
            assert phase.lags_s, "the training reported nothing meanwhile"


def _lengthen(client: Client, events: int) -> None:
    for number in range(events):
        client.patch("/settings", {"changes": {"training.seed": number}, "why": "y" * 500}).ok()
    for name in USERS if OWN_UID == 0 else ():
        client.send("PUT", f"/access/{name}", b'{"role": "viewer"}', content_type="application/json").ok()


def _training(daemon: DaemonProcess) -> str:
    client = daemon.client
    client.patch("/settings", {"changes": {**QUICK, "training.tick_every_s": 0.25, "backup.every_hours": 0}}).ok()
    client.add_model(make_tiny_llama(daemon.config.state_dir.parent / "tiny"))
    client.add_dataset(rows())
    job_id = client.start(overrides=ENDLESS)
    client.wait_for(job_id, lambda job: job["step"] > 10)
    return job_id


def _ticks(client: Client, job_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while page := client.events(found[-1]["seq"] if found else 0, stream=f"ticks-{job_id}"):
        found += page
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.door")
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--clients", type=int, default=CLIENTS, help="that give up, in each round")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quiet", type=float, default=QUIET_S, help="seconds of the quiet phase")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--no-training", dest="training", action="store_false")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with short_folder() as folder:
        folder.chmod(0o755)
        with DaemonProcess(config_of(folder)) as daemon:
            door = Door(daemon, given)
            door.run()
    whole = (given.streams, given.clients, given.rounds, given.quiet, given.training)
    figures = _figures(door, given)
    if whole == (STREAMS, CLIENTS, ROUNDS, QUIET_S, True):
        _record(door, given, figures)
    else:
        for one in figures:
            print(f"{one.name}: {one.median:.4g} {one.unit} ({one.spread}; {one.target})")
    return 1 if any(one.met is False for one in figures) else 0


def _figures(door: Door, given: argparse.Namespace) -> list[Figure]:
    quiet, busy = door.quiet, door.busy
    figures = [
        Figure("event streams at once", [given.streams], target=f">= {given.streams}", digits=0),
        Figure("clients that opened and dropped", [door.dropped], target=f">= {given.clients}", digits=0),
        Figure("events told to followers that read", [door.events], digits=0),
        Figure("of them missing, twice or out of order", [door.missed], target="<= 0", digits=0),
        Figure("streams of readers that the daemon closed", [door.closed], target="<= 0", digits=0),
        Figure("memory before", [door.quiet_mb], "MB", digits=1),
        Figure("memory with all streams open", door.open_mb, "MB", digits=1),
        Figure("memory after a round", door.after_mb, "MB", digits=1),
        Figure("more after the last rounds than after the first", [_growth(door.after_mb)], "MB", "<= 3", 1),
        Figure("changes kept, quiet", [quiet.appends], digits=0),
        Figure("of them after 100 ms and more", [quiet.late_appends], digits=0),
        Figure("changes kept, with all clients", [busy.appends], digits=0),
        Figure("of these after 100 ms and more", [busy.late_appends], target="<= 0", digits=0),
    ]
    for name, values, target in (
        ("a change as its client sees it, quiet", quiet.writes_s, ""),
        ("a change as its client sees it, with all clients", busy.writes_s, ""),
        ("a sync of the disk, quiet", quiet.syncs_s, ""),
        ("a sync of the disk, with all clients", busy.syncs_s, ""),
        ("an event until a follower has it", door.delays_s, "<= 1000"),
        ("a tick until it is recorded, quiet", quiet.lags_s, ""),
        ("a tick until it is recorded, with all clients", busy.lags_s, "<= 1000"),
    ):
        if values:
            ordered = sorted(1000 * one for one in values)
            figures.append(Figure(f"{name}: median", [ordered[len(ordered) // 2]], "ms", digits=1))
            figures.append(Figure("- 99 of 100 within", [ordered[int(0.99 * (len(ordered) - 1))]], "ms", target, 1))
            figures.append(Figure("- longest", [ordered[-1]], "ms", digits=1))
    return figures


def _growth(after_mb: list[float]) -> float:
    """Between the first rounds, the very first left out, and as many at the end: the medians of each."""
    rounds = after_mb[1:] or after_mb
    some = max(1, len(rounds) // 2)
    return median(rounds[-some:]) - median(rounds[:some])


def _record(door: Door, given: argparse.Namespace, figures: list[Figure]) -> None:
    notes = [
        f"Seed {given.seed}; {given.rounds} rounds of {given.streams} streams, {SILENT} of which never read, and "
        f"{given.clients} clients, {AT_ONCE} at a time, in the middle of {', '.join(GIVEN_UP)}.",
        "As root: half of the streams are two other users', viewers; the daemon's own user may have more than 128."
        if OWN_UID == 0
        else "All streams are the daemon's own user's.",
        "How long a change takes until it is kept is the daemon's own figure, from asking the log to knowing it on the "
        "disk; it cannot be shorter than a sync of the disk, which is timed beside it in a file of its own.",
        "Ticks come every 250 ms and are recorded at most twice a second, so half a second is their usual way; counted "
        "from the quickest of all.",
    ]
    record(
        Topic("Many clients at the door", "make proof-door", figures, packages=("uvicorn", "starlette"), notes=notes)
    )


if __name__ == "__main__":
    raise SystemExit(main())
