"""The whole API asked by everybody for twenty minutes, with what schemathesis makes up from the OpenAPI document.

The time is split between the daemon's own user, an admin, a trainer who owns the things there are, a trainer and a
viewer whom they were shared with, a viewer, and somebody without any role. Each part has a daemon of its own with a
dataset, a model, a preset, a backup, and trainings that wait, were cancelled and have a result; a daemon that ends is
started again. Every second part asks a daemon without budgets, which end the other ones' changes with a 429. Wrong is:
an answer that is not documented, a 5xx but 503, a question without a whole answer within the limit, and an operation
that one of them was not answered but by a 429.

``python -m benchmarks.api_fuzz`` records and takes root; ``--minutes 1 --roles viewer,stranger`` is a short form that
does not. What was wrong is kept in .proof/api-fuzz, and parts that are done are not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from pwd import getpwnam
from typing import Any

from benchmarks.results import Figure, Topic, commit, record
from btmd.config import Config
from tests.fixtures.daemon import QUICK, Client, DaemonProcess, config_of
from tests.fixtures.every_operation import THINGS, furnish, put
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

ROOT_DIR = Path(__file__).resolve().parents[1]
PROOF = ROOT_DIR / ".proof" / "api-fuzz"
VENV = PROOF / "venv"
SCHEMATHESIS = "schemathesis==4.32.5"
MINUTES, PARTS, LIMIT_S = 20.0, 2, 60.0
MORE_WAITING = 3
"""Trainings beside the first one: whoever may end it has done so after a moment."""
ROWS = b'{"question": "Who?", "answer": "Me, said the bee."}\n{"question": "When?", "answer": "At noon."}\n'
"""A file that whoever may have sent it may make a dataset of."""
OWNER, GROUP = "bin", "sys"
"""Accounts and a group that every Linux system has: whose the things are, and whom they are shared with."""


@dataclass(frozen=True)
class Who:
    """A user of the machine: ``role`` is what was granted; None for the daemon's own user and for a stranger."""

    name: str
    account: str = ""
    group: str = ""
    role: str | None = None

    @property
    def uid(self) -> int:
        return getpwnam(self.account).pw_uid if self.account else os.geteuid()

    @property
    def gid(self) -> int:
        return getpwnam(self.group or self.account).pw_gid if self.account else os.getegid()


EVERYBODY = (
    Who("owner"),
    Who("admin", "daemon", role="admin"),
    Who("trainer", OWNER, role="trainer"),
    Who("member", "games", GROUP, role="trainer"),
    Who("looker", "man", GROUP, role="viewer"),
    Who("viewer", "lp", role="viewer"),
    Who("stranger", "mail"),
)


class SpoiledDaemon(DaemonProcess):
    """Stands in the folder that may be spoiled: what is written to a relative path lands there."""

    def __init__(self, config: Config, *, has_budgets: bool) -> None:
        super().__init__(config)
        self._module = "btmd" if has_budgets else "benchmarks.daemon_without_budgets"

    def spawn(self, command: list[str], log: Any) -> subprocess.Popen[bytes]:
        command = [self._module if word == "btmd" else word for word in command]
        scratch = self.config.state_dir.parent / "scratch"
        scratch.mkdir(exist_ok=True)
        environment = os.environ | {"PYTHONPATH": str(ROOT_DIR)}
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, cwd=scratch, env=environment)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api_fuzz")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of all roles together")
    parser.add_argument("--parts", type=int, default=PARTS, help="for each role, each with a daemon of its own")
    parser.add_argument("--roles", default=",".join(one.name for one in EVERYBODY))
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds within which everything is answered")
    parser.add_argument("--only", default="", help="a part of method and path, of operations to ask alone")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    given = parser.parse_args()
    chosen = [one for one in EVERYBODY if one.name in given.roles.split(",")]
    if os.geteuid() != 0 and any(one.account for one in chosen):
        print("Only root can be several users: only the daemon's own is asked, and nothing is recorded.", flush=True)
        chosen = [one for one in chosen if not one.account]
    PROOF.mkdir(parents=True, exist_ok=True)
    python = _python()
    found: list[dict[str, Any]] = []
    for number in range(given.parts):
        for who in chosen:
            found += _part(who, number, len(chosen), given, python)
    wrong = [one for one in found if "wrong" in one]
    for one in wrong:
        print(json.dumps(one, indent=1, ensure_ascii=False))
    totals = [one for one in found if "counted" in one]
    if given.minutes >= MINUTES and len(chosen) == len(EVERYBODY) and not given.only:
        _record(totals, wrong, chosen, given)
    else:
        print(f"requests: {sum(one['counted']['requests'] for one in totals)}, wrong: {len(wrong)}")
    return 1 if wrong else 0


def _python() -> str:
    """An interpreter with schemathesis; what it depends on must not decide what btmd is tested with."""
    python = VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", SCHEMATHESIS], check=True)
    return str(python)


def _part(who: Who, number: int, users: int, given: argparse.Namespace, python: str) -> list[dict[str, Any]]:
    """What one user was answered; read from the file where an earlier run with this code has done it."""
    seconds = 60 * given.minutes / users / given.parts
    code = commit()
    out = PROOF / f"{who.name}-{number}-{seconds:.0f}s-{code}{'-only' if given.only else ''}.jsonl"
    # Code that is being changed is another one each time.
    if given.only or code.endswith("+") or not _is_whole(out):
        out.unlink(missing_ok=True)
        with short_folder() as folder:
            folder.chmod(0o755)
            daemon = SpoiledDaemon(config_of(folder), has_budgets=number % 2 == 0)
            with daemon:
                known = _furnished(daemon, folder)
                (folder / "known.json").write_text(json.dumps(known))
                process = _fuzzer(daemon, who, number, seconds, out, given, python)
                try:
                    ended = _watched(daemon, process, out)
                finally:
                    process.kill()
                    process.wait()
            shutil.copyfile(daemon.log, out.with_suffix(".log"))
        print(f"{who.name}, part {number + 1}: the daemon ended {ended} times", flush=True)
    return [json.loads(line) for line in out.read_text().splitlines()]


def _is_whole(out: Path) -> bool:
    return out.exists() and '"counted"' in out.read_text()


def _fuzzer(
    daemon: DaemonProcess, who: Who, number: int, seconds: float, out: Path, given: argparse.Namespace, python: str
) -> subprocess.Popen[bytes]:
    folder = daemon.config.state_dir.parent
    told = {
        "socket": daemon.config.socket_path,
        "user": who.name,
        "known": folder / "known.json",
        "out": out,
        "scratch": folder / "scratch",
        "uid": who.uid,
        "gid": who.gid,
        "seed": given.seed,
        "part": number,
        "parts": given.parts,
        "seconds": seconds,
        "limit": given.limit,
        "only": given.only,
    }
    command = [python, "-m", "benchmarks.api_fuzzer"]
    command += [word for name, value in told.items() for word in (f"--{name}", str(value))]
    return subprocess.Popen(command, cwd=ROOT_DIR, env=os.environ | {"PYTHONWARNINGS": "ignore"})


def _watched(daemon: DaemonProcess, fuzzer: subprocess.Popen[bytes], out: Path) -> int:
    """How often the daemon ended until the fuzzer was done; each time it is started again."""
    ended = 0
    while fuzzer.poll() is None:
        assert daemon.process is not None
        code = daemon.process.poll()
        if code is not None:
            ended += 1
            if code != 0:
                said = {"wrong": f"the daemon died ({code})", "log": daemon.log.read_text()[-5000:]}
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(said) + "\n")
            daemon.start()
        time.sleep(0.2)
    if fuzzer.returncode:
        raise SystemExit(f"the fuzzer ended with {fuzzer.returncode}")
    return ended


def _furnished(daemon: DaemonProcess, folder: Path) -> dict[str, list[Any]]:
    """Roles and real things; by field, what is there for it."""
    client = daemon.client
    for who in EVERYBODY:
        if who.role is not None:
            put(client, f"/access/{who.account}", {"role": who.role})
    client.patch("/settings", {"changes": {**QUICK, "backup.every_hours": 0}}).ok()
    model = make_tiny_llama(folder / "tiny")
    furnish(client, model, owner=OWNER, group=GROUP)
    put(client, "/consents/facts", {"scopes": ["train", "export", "backup"]})
    ended = client.start()
    client.post(f"/jobs/{ended}/cancel").ok()
    done = _trained(client)
    waiting = [THINGS["job"], *(client.start() for _ in range(MORE_WAITING))]
    for job_id in (*waiting[1:], done):
        put(client, "/owners/job", {"thing_id": job_id, "to": OWNER})
        client.post("/owners/job/shares", {"thing_id": job_id, "subject": f"@{GROUP}"}).ok()
    export_id = client.post("/exports", {"job_id": done, "format": "adapter"}).ok()["export_id"]
    backup_id = client.post("/backup", {"description": "before"}).ok()["backup_id"]
    [dataset] = client.get("/datasets").ok()
    found = _known(client, model, [*waiting, ended, *[done] * MORE_WAITING], dataset, backup_id)
    kept = str(folder / "scratch" / "kept")
    return {**found, "export_id": [export_id], "to": ["games", kept, "now", "5"], "sent first": [ROWS.decode()]}


def _trained(client: Client) -> str:
    """A training with a result; the one that waits goes on waiting."""
    waiting = THINGS["job"]
    client.post(f"/queue/{waiting}/hold").ok()
    client.patch("/settings", {"changes": {"queue.quiet_hours": ""}}).ok()
    done = client.start(overrides={"max_steps": 4, "eval_every": 2, "save_every": 2})
    client.wait_until(done, "completed")
    client.patch("/settings", {"changes": {"queue.quiet_hours": "00:00-24:00"}}).ok()
    client.post(f"/queue/{waiting}/release").ok()
    return done


def _known(
    client: Client, model: Path, jobs: list[str], dataset: dict[str, Any], backup_id: str
) -> dict[str, list[Any]]:
    datasets = ["facts", str(dataset["dataset_id"])]
    presets = ["theirs", "quick_test", "Quick Test"]
    content = client.upload(ROWS)
    settings = [str(one["key"]) for one in client.get("/settings/schema").ok()]
    several: dict[tuple[str, ...], list[Any]] = {
        ("job_id", "other_id", "from_job"): [*jobs, "last"],
        ("dataset_id", "dataset"): datasets,
        ("model_id",): ["tiny"],
        ("key",): [*presets, *settings],
        ("preset_name", "preset", "made_from"): presets,
        ("backup_id",): [backup_id, "last"],
        ("path",): [str(model), "manifest", "card.md"],
        ("sha256", "content"): [content, "a" * 64],
        ("file_name",): ["facts.jsonl"],
        ("kind",): ["job", "dataset", "model", "preset"],
        ("thing_id",): [*jobs, *datasets, "tiny", "theirs"],
        ("subject", "user"): ["man", "games", f"@{GROUP}"],
        ("at", "from", "since", "until"): ["now", "5", "2026-01-01 00:00"],
        ("stream",): [["settings"], [f"job-{jobs[0]}"]],
        ("type",): [["SettingChanged"], ["JobSubmitted"]],
        # What would keep trainings waiting for ever, or let them begin, is left to chance.
        ("changes",): [{key: value} for key in settings for value in (None, 0, 1, "x", True, 0.5)],
    }
    return {name: values for names, values in several.items() for name in names}


def _record(
    totals: list[dict[str, Any]], wrong: list[dict[str, Any]], chosen: list[Who], given: argparse.Namespace
) -> None:
    requests: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    for one in totals:
        requests += Counter(one["counted"])
        statuses += Counter(one["statuses"])
    kinds = Counter("hang" if "in time" in one["wrong"] else "other" for one in wrong)
    slowest = max(totals, key=lambda one: float(one["slowest"][0]))["slowest"]
    operations = max(int(one["operations"]) for one in totals)
    asked = {who.name: {label for one in totals if one["user"] == who.name for label in one["asked"]} for who in chosen}
    figures = [
        Figure("time", [given.minutes], "min", f">= {MINUTES:g}", 0),
        Figure("users", [len(chosen)], target=f">= {len(EVERYBODY)}", digits=0),
        Figure("operations", [operations], digits=0),
        Figure(
            "of them answered to each user, but by 429: at least",
            [min(map(len, asked.values()))],
            target=f">= {operations}",
            digits=0,
        ),
        Figure("requests", [requests["requests"]], digits=0),
        Figure(f"questions without a whole answer in {given.limit:g} s", [kinds["hang"]], target="<= 0", digits=0),
        Figure("operations answered otherwise than documented", [kinds["other"]], target="<= 0", digits=0),
        Figure("longest answer", [slowest[0]], "s"),
    ]
    notes = [
        f"Seed {given.seed}, {SCHEMATHESIS}; who asks: {', '.join(one.name for one in chosen)}.",
        f"Answers by status: {', '.join(f'{status} {count}' for status, count in sorted(statuses.items()))}.",
        f"Longest: {slowest[1]}. The first part of each user asks the daemon as it is, the second one without budgets.",
    ]
    record(Topic("The API, fuzzed", "make proof-fuzz-api", figures, packages=("starlette", "uvicorn"), notes=notes))


if __name__ == "__main__":
    raise SystemExit(main())
