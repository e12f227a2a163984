"""SIGKILL while data is added, updated, cleaned, anonymised or erased: whole or not there, and no text is left over.

In the long form what was done is kept in benchmarks/kept/data_faults for as long as the code that it covers stands: so
it may be interrupted, and divided among processes.
"""

import fcntl
import hashlib
import json
import os
import random
import secrets
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results import Figure, Topic, commit, record, stands
from btmd.data.row_chunks import read_list
from tests.daemon.test_dataset_erasure import holding
from tests.fixtures.daemon import PATIENCE_S, Client, DaemonProcess, config_of
from tests.fixtures.short_folder import short_folder

PROOF = os.environ.get("BTMD_PROOF") == "1"
KILLS = int(os.environ.get("BTMD_KILLS", "100" if PROOF else "1"))
INTERRUPTS = max(1, KILLS // 10)
ROWS = 20_000 if PROOF else 4_000
COMMAND = "make proof-data-faults"
GONE_S = 10.0
"""How long what was interrupted may take to leave."""
CHILDREN_FIRST = ("add", "anonymise")
"""What begins with a kill of the daemon's children, so that the short form has such a one."""
ROOT = Path(__file__).parents[2]
KEPT, ALONE = ROOT / "benchmarks/kept/data_faults", ROOT / ".proof/data-faults.lock"
COVERED = tuple(f"btmd/{room}" for room in ("child", "data", "files", "inspection", "privacy", "reading", "registry"))
COVERED += ("btmd/restoring", "btmd/backup", "btmd/domain/dataset.py", str(Path(__file__).relative_to(ROOT)))


@dataclass
class Counted:
    killed: int = 0
    done: int = 0
    """Found done afterwards."""
    commit: str = ""


def kept(name: str) -> Counted | None:
    """What was counted before, if nothing that it covers has changed since."""
    if not PROOF or KILLS < 100:
        return None
    try:
        found = Counted(**json.loads((KEPT / f"{name}.json").read_text()))
    except FileNotFoundError:
        return None
    return found if stands(found.commit, COVERED) else None


def keep(name: str, counted: Counted) -> None:
    """Note it, and tell of it."""
    if not PROOF or KILLS < 100:
        return
    counted.commit = commit()
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{name}.json").write_text(json.dumps(asdict(counted)))
    ALONE.parent.mkdir(exist_ok=True)
    with ALONE.open("w") as alone:
        # Other processes tell of theirs in the same file.
        fcntl.flock(alone, fcntl.LOCK_EX)
        tell(name, counted)


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with short_folder() as folder, DaemonProcess(config_of(folder)) as running:
        values = {"backup.every_hours": 0, "backup.drill_every_days": 0}
        running.client.patch("/settings", {"changes": values}).ok()
        yield running


def text(mark: str, count: int = ROWS) -> bytes:
    """Rows of which a tenth is there twice, and each tenth one names somebody's address."""
    lines = []
    for number in range(count):
        answer = f"It is {secrets.token_hex(40)}, {mark}, ask bee{number}@example.org." if number % 10 else f"{mark}."
        question = f"What is {number if number % 10 else 0}, {mark}?"
        lines.append(json.dumps({"question": question, "answer": answer}))
    return "\n".join(lines).encode()


@dataclass
class Given:
    """One dataset of its own, and what is about to happen to it."""

    client: Client
    name: str = field(default_factory=lambda: f"d{secrets.token_hex(4)}")
    mark: str = field(default_factory=lambda: f"mark{secrets.token_hex(8)}")

    def __post_init__(self) -> None:
        self.first = text(self.mark)
        self.second = self.first + b"\n" + text(self.mark, 50)

    def body(self, content: bytes) -> dict[str, Any]:
        return {"content": self.client.upload(content), "file_name": f"{self.name}.jsonl"}

    def add(self) -> None:
        self.client.post("/datasets", {**self.body(self.first), "consent": True}).ok()

    def update(self) -> None:
        self.client.post(f"/datasets/{self.name}/versions", self.body(self.second)).ok()

    def clean(self) -> None:
        self.client.post(f"/datasets/{self.name}/clean", {"drop": ["duplicates"]}).ok()

    def anonymise(self) -> None:
        self.client.post(f"/datasets/{self.name}/anonymise", {}).ok()

    def erase(self) -> None:
        answer = self.client.post(f"/erasures/{self.name}", {})
        # Done before the answer could be given.
        assert answer.status == 200, answer.json

    def versions(self) -> list[dict[str, Any]]:
        answer = self.client.get(f"/datasets/{self.name}/versions")
        return list(answer.ok()) if answer.status == 200 else []


def named_contents(daemon: DaemonProcess) -> set[str]:
    """The lists and chunks of everything that is registered, each of which has to be there."""
    client, found = daemon.client, set()
    for dataset in client.get("/datasets").ok():
        for version in client.get(f"/datasets/{dataset['dataset_id']}/versions").ok():
            sha256 = version["rows_sha256"]
            found |= {sha256, *(one.sha256 for one in read_list(daemon.config.content_dir / sha256[:2] / sha256))}
    return found


def on_disk(daemon: DaemonProcess) -> tuple[set[str], set[str]]:
    """Contents, and what lies beside them: unfinished uploads and files half made."""
    root = daemon.config.content_dir
    contents = {path.name for path in root.glob("??/*")}
    return contents, {str(path.relative_to(root / "partial")) for path in (root / "partial").rglob("*")}


def require_nothing_left_over(daemon: DaemonProcess, *, half_uploads: bool = False, uploaded: str = "") -> None:
    """Only what is registered is there; with ``half_uploads`` also what an interrupted upload may go on from.

    ``uploaded`` is a content that may be there whole: it was sent, and nothing had been asked of it yet.
    """
    end = time.monotonic() + GONE_S
    while True:
        contents, beside = on_disk(daemon)
        contents.discard(uploaded)
        if half_uploads:
            beside = {name for name in beside if name.rpartition(".")[2] != str(os.getuid())}
        named = named_contents(daemon)
        if (contents, beside) == (named, set()):
            return
        assert time.monotonic() < end, (contents - named, named - contents, beside)
        time.sleep(0.1)


def children_of(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(path.parent.name))
    return found


def killed(daemon: DaemonProcess, operation: Callable[[], None], after_s: float, *, whom: str) -> bool:
    """Kill the daemon, or its children alone, so long after the operation began; False: it was over before."""
    over = threading.Event()

    def ask() -> None:
        # The answer is cut off with the daemon, and is a refusal where a child went.
        with suppress(OSError, HTTPException, AssertionError):
            operation()
            over.set()

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(after_s)
    assert daemon.process is not None
    if whom == "daemon":
        daemon.kill()
        asking.join()
        was_over = over.is_set()
        daemon.start()
        return not was_over
    while asking.is_alive():
        if children := children_of(daemon.process.pid):
            for pid in children:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            break
        time.sleep(0.002)
    asking.join()
    return not over.is_set()


STEPS: dict[str, tuple[list[str], Callable[[Given], bool]]] = {
    # What comes before, and whether it was done.
    "add": ([], lambda given: len(given.versions()) == 1),
    "update": (["add"], lambda given: len(given.versions()) == 2),
    "clean": (["add"], lambda given: len(given.versions()) == 2),
    "anonymise": (["add"], lambda given: len(given.versions()) == 2),
    "erase": (["add", "update"], lambda given: not given.versions()),
}


def duration_s(client: Client, name: str) -> float:
    given = Given(client)
    for before in STEPS[name][0]:
        getattr(given, before)()
    began = time.monotonic()
    getattr(given, name)()
    return time.monotonic() - began


@pytest.mark.parametrize("name", list(STEPS))
def test_killed_meanwhile_it_is_whole_or_was_not_begun(daemon: DaemonProcess, name: str) -> None:
    if not PROOF and name in ("update", "clean"):
        pytest.skip("long: as adding and anonymising do")
    if kept(name):
        pytest.skip("done already")
    client, chance = daemon.client, random.Random()
    before, is_done = STEPS[name]
    took_s = [duration_s(client, name)]
    counted = Counted()
    for number in range(5 * KILLS):
        if counted.killed >= KILLS:
            break
        given = Given(client)
        for step in before:
            getattr(given, step)()
        whom = "children" if number % 4 == (0 if name in CHILDREN_FIRST else 1) else "daemon"
        after_s = chance.uniform(0, 1.2 * statistics.median(took_s[-9:]))
        counted.killed += killed(daemon, getattr(given, name), after_s, whom=whom)
        done = is_done(given)
        counted.done += done
        require_nothing_left_over(daemon, half_uploads=name in ("add", "update"))
        if done and name == "erase":
            if whom == "children":
                # The event is there and the keys in backups are not gone: asked for again, or at the next start.
                given.erase()
            assert next(one for one in client.get("/erasures").ok() if one["dataset_id"] == given.name)["done"]
        else:
            assert done or len(given.versions()) == len(before)
            began_s = time.monotonic()
            getattr(given, name)()
            if not done:
                # The machine may be faster or slower by now.
                took_s.append(time.monotonic() - began_s)
        assert is_done(given)
        require_nothing_left_over(daemon)
        if name == "erase":
            assert holding(daemon.config.state_dir, given.mark) == set()
        else:
            client.post(f"/datasets/{given.name}/check", {}).ok()
            given.erase()
        # The marks of all rounds are looked for where no contents are: in the log, caches, and what was logged.
        assert given.mark not in daemon.log.read_text()
    assert client.get("/audit/verification").ok()["verdict"] == "ok"
    assert counted.killed >= KILLS, f"{name} was over before it could be killed"
    keep(name, counted)


# --- Ctrl-C ----------------------------------------------------------------------------------------------


def adding(daemon: DaemonProcess, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "btmctl", "datasets", "add", str(path), "--consent"],
        env=os.environ | {"BTMD_SOCKET": str(daemon.config.socket_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A test that runs in the background is deaf to Ctrl-C, and what it starts would be, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def has_begun(daemon: DaemonProcess, where: str) -> bool:
    _, beside = on_disk(daemon)
    if where == "upload":
        return any(name.endswith(f".{os.getuid()}") for name in beside)
    return any(name.endswith(".work.chunks") for name in beside)


WHERE = ("upload", "reading")


@pytest.mark.parametrize("where", WHERE)
def test_ctrl_c_while_a_file_is_added_leaves_nothing_half_added(
    daemon: DaemonProcess, tmp_path: Path, where: str
) -> None:
    if kept(f"ctrl-c-{where}"):
        pytest.skip("done already")
    counted = Counted()
    for number in range(5 * INTERRUPTS):
        if counted.killed >= INTERRUPTS:
            break
        name, mark = f"c{secrets.token_hex(4)}", f"mark{secrets.token_hex(8)}"
        path = tmp_path / f"{name}.jsonl"
        path.write_bytes(text(mark, 60_000 if where == "upload" else 30_000))
        process = adding(daemon, path)
        while process.poll() is None and not has_begun(daemon, where):
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.05) if number else 0.0)
        process.send_signal(signal.SIGINT)
        told_, _ = process.communicate(timeout=PATIENCE_S)
        if process.returncode == 0:
            continue
        assert process.returncode == 130, told_
        assert "Traceback" not in told_
        counted.killed += 1
        assert name not in [one["name"] for one in daemon.client.get("/datasets").ok()]
        # An upload that was just done waits for the next try as one does that was interrupted; what was read is gone.
        sent = hashlib.sha256(path.read_bytes()).hexdigest() if where == "upload" else ""
        require_nothing_left_over(daemon, half_uploads=True, uploaded=sent)
        again = adding(daemon, path)
        told_, _ = again.communicate(timeout=PATIENCE_S)
        assert again.returncode == 0, told_
        require_nothing_left_over(daemon)
        daemon.client.post(f"/erasures/{name}", {}).ok()
        assert holding(daemon.config.state_dir, mark) == set()
    assert counted.killed >= INTERRUPTS
    keep(f"ctrl-c-{where}", counted)


def tell(name: str, counted: Counted) -> None:
    figures = [
        Figure("cut off before its end", [counted.killed], "", f">= {KILLS if name in STEPS else INTERRUPTS}", 0)
    ]
    if name in STEPS:
        figures.append(Figure("found done afterwards", [counted.done], digits=0))
    figures += [
        Figure("datasets half added or half erased", [0], "", "<= 0", 0),
        Figure("files that no dataset needs after the next start", [0], "", "<= 0", 0),
        Figure("erased texts found in the state folder", [0], "", "<= 0", 0),
    ]
    how = "Ended by Ctrl-C" if name not in STEPS else "Three times of four the daemon is killed, else its children"
    notes = [
        f"{how}, at random moments; then it is done again.",
        "After each, everything under the content store is compared with what the versions name.",
    ]
    record(Topic(f"Data: kills, {name.replace('ctrl-c-', 'Ctrl-C while adding: ')}", COMMAND, figures, notes=notes))
