"""A person's home with btmd in it, and the main job as it is typed there."""

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bundle.wheel import PIP
from tests.fixtures.tiny_model import make_tiny_llama

ROWS = 400
LONGEST_S = 7200.0
PRESETS = 8


class Unfit(Exception):
    """Something is not as it should be; the message says what."""


def required(is_so: bool, otherwise: str) -> None:
    """Raises Unfit."""
    if not is_so:
        raise Unfit(otherwise)


def said(command: Sequence[str], *, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """What a command prints on both channels. Raises Unfit where it fails."""
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=LONGEST_S,
    )  # fmt: skip
    required(done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-4000:]}")
    return done.stdout


def fetching(environment: Mapping[str, str]) -> dict[str, str]:
    """What of a person's settings pip has to be told in another home than theirs: indexes, proxies, its cache."""
    found = {
        name: value
        for name, value in environment.items()
        if name.startswith(("PIP_", "SSL_CERT_")) or name.lower().endswith("_proxy") or name == "REQUESTS_CA_BUNDLE"
    }
    home = Path(environment.get("HOME") or Path.home())
    own = (Path(environment.get("XDG_CONFIG_HOME") or home / ".config", "pip", "pip.conf"), home / ".pip" / "pip.conf")
    for path in own:
        if path.is_file():
            found.setdefault("PIP_CONFIG_FILE", str(path))
    done = subprocess.run([*PIP, "cache", "dir"], env=dict(environment), capture_output=True, text=True)
    if done.returncode == 0:  # otherwise there is to be none
        found["PIP_CACHE_DIR"] = done.stdout.strip()
    return found


def prepared(place: Path) -> None:
    """Put a model and a table there, before any network is taken away."""
    make_tiny_llama(place / "model", hidden=256, layers=4)
    rows = "".join(f'"What is {n} plus {n}?","It is {2 * n}, said bee number {n}."\n' for n in range(ROWS))
    (place / "questions.csv").write_text("question,answer\n" + rows)


class Home:
    """Commands are run as typed in it, with ``programs`` first on the PATH, each after ``prefix``."""

    def __init__(self, folder: Path, programs: Path, *, prefix: Sequence[str] = ()) -> None:
        self.folder, self.programs, self._prefix = folder, programs, tuple(prefix)
        folder.mkdir(mode=0o700)
        (folder / "run").mkdir(mode=0o700)
        self.environment = {
            "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "BTMD_DEVICE_LOCKS": str(folder),
            "LANG": "C.UTF-8",
        }
        self.state = folder / ".local" / "state" / "btmd"
        self.model, self.table = folder.parent / "model", folder.parent / "questions.csv"

    def run(self, *command: str) -> str:
        """What it prints. Raises Unfit where it fails."""
        return said([*self._prefix, *command], cwd=self.folder, environment=self.environment)

    def lines(self, *arguments: str) -> list[Any]:
        """What btmctl answers, a document a line. Raises Unfit."""
        command = [*self._prefix, "btmctl", *arguments, "--json", "--yes"]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=LONGEST_S,
        )  # fmt: skip
        if done.returncode != 0:
            raise Unfit(f"{command} ended with {done.returncode}: {done.stdout[-2000:]} {done.stderr[-2000:]}")
        try:
            return [json.loads(done.stdout)]
        except json.JSONDecodeError:
            return [json.loads(line) for line in done.stdout.splitlines()]

    def btmctl(self, *arguments: str) -> Any:
        """What btmctl answers, of a stream the last. Raises Unfit."""
        return self.lines(*arguments)[-1]

    def start(self) -> None:
        self.run("btmctl", "daemon", "start")

    def start_plain(self) -> None:
        """A daemon as a process that nobody looks after, as any release can be started. Raises Unfit."""
        with (self.folder / "btmd.log").open("ab") as log:
            started = subprocess.Popen(
                [*self._prefix, "btmd"], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + LONGEST_S
        while not (self.folder / "run" / "btmd" / "btmd.sock").exists():
            required(started.poll() is None and time.monotonic() < end, (self.folder / "btmd.log").read_text())
            time.sleep(0.1)

    def __enter__(self) -> "Home":
        return self

    def __exit__(self, *_: object) -> None:
        """End its daemons, the quickstart's own too, with their trainings."""
        for name in ("btmd", "btmd-quickstart"):
            path = self.folder / "run" / name / "btmd.sock"
            with suppress(Unfit):
                self.run("btmctl", "--socket", str(path), "daemon", "stop")


def main_job(home: Home) -> float:
    """From a table to a model that answers, and what only files of the package can say; seconds. Raises Unfit.

    The daemon runs on afterwards.
    """
    begun = time.monotonic()
    home.start()
    required(home.btmctl("status")["status"] == "operational", "The daemon is not well.")
    required(len(home.btmctl("presets", "list", "--all")) >= PRESETS, "Presets are missing.")
    last = train(home, "--set", "max_steps=8")
    result = home.btmctl("jobs", "result", last["job_id"])
    required(result["success"], f"No success: {result}")
    required((Path(result["model_path"]) / "adapter_model.safetensors").is_file(), "There is no adapter.")
    answer = home.btmctl("chat", last["job_id"], "--prompt", "What is 7 plus 7?")
    required(set(answer["answers"]) == {"tuned"}, f"No answer: {answer}")
    required("1." in home.run("btmctl", "help", "job_not_found"), "Help texts are missing.")
    units = home.folder / "units"
    home.run("btmctl", "daemon", "install", "--system", "--root", str(units), "--python", "/opt/btmd/bin/python3")
    required((units / "etc/systemd/system/btmd.socket").is_file(), "Service files are missing.")
    return time.monotonic() - begun


def train(home: Home, *options: str) -> Any:
    """Train to the end; returns the last progress. Raises Unfit."""
    asked = ("--preset", "quick_test", "--consent", "--purpose", "a proof", "--watch")
    last = home.btmctl("train", str(home.model), str(home.table), *asked, *options)
    required(last["state"] == "completed", f"The training ended as {last['state']}: {last}")
    return last
