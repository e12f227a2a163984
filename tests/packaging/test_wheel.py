"""The wheel alone, in an environment with only what it asks for, does the main job."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.fixtures.tiny_model import make_tiny_llama

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("btmd", "btmctl", "migrations", "presets", "pyproject.toml", "README.md", "LICENSE")
INSTALL_TIMEOUT_S = 1500

pytestmark = pytest.mark.timeout(INSTALL_TIMEOUT_S + 600)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Built from a copy: what an earlier build left in the tree must not get into the wheel.
    source = tmp_path_factory.mktemp("source")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, source / part)
    built = tmp_path_factory.mktemp("wheel")
    _run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(built), str(source)])
    (found,) = built.glob("btmd-*.whl")
    return found


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a fresh environment with the wheel and what it asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    _run([*pip, "install", "--quiet", "--no-compile", "--no-deps", "--no-index", str(wheel)])
    there = Path(_run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())
    (ours,) = metadata.distributions(name="btmd", path=[str(there)])
    for distribution in _asked_for(ours):
        for name in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
            if not (there / name).exists():
                (there / name).symlink_to(Path(str(distribution.locate_file(name))))
    return folder / "bin"


def _asked_for(first: metadata.Distribution) -> list[metadata.Distribution]:
    """What ``first`` requires, and what that requires, as installed beside the tests: fetching it takes minutes."""
    found: dict[tuple[str, str], metadata.Distribution] = {}
    waiting = [(first, "")]
    while waiting:
        distribution, extra = waiting.pop()
        for needed in map(Requirement, distribution.requires or ()):
            if needed.marker is not None and not needed.marker.evaluate({"extra": extra}):
                continue
            installed = metadata.distribution(needed.name)
            assert needed.specifier.contains(installed.version, prereleases=True), needed
            for one in ("", *needed.extras):
                if (needed.name, one) not in found:
                    found[needed.name, one] = installed
                    waiting.append((installed, one))
    return list(found.values())


def test_the_wheel_carries_migrations_presets_and_demo_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, endings in (
        ("migrations", (".sql",)),
        ("presets", (".toml",)),
        ("btmd/demo", (".jsonl", ".json")),
        ("btmctl/units/system", (".service", ".socket", ".conf", ".rules")),
        ("btmctl/units/user", (".service", ".socket")),
        ("btmctl/units/examples", (".conf",)),
    ):
        shipped = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).iterdir() if path.suffix in endings}
        assert shipped
        assert shipped <= names
    assert not any(name.startswith("tests/") for name in names)


class Installed:
    """The installed programs with folders of their own, run from elsewhere than the source tree."""

    def __init__(self, programs: Path, folder: str) -> None:
        self.programs = programs
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "XDG_STATE_HOME": folder,
            "XDG_CONFIG_HOME": folder,
            "BTMD_SOCKET": os.path.join(folder, "s"),
            "BTMD_DEVICE_LOCKS": folder,
        }

    def btmctl(self, *arguments: str) -> Any:
        done = _run(
            [str(self.programs / "btmctl"), *arguments, "--json"], cwd=self.folder, environment=self.environment
        )
        return [json.loads(line) for line in done.splitlines()] if "--watch" in arguments else json.loads(done)


@pytest.fixture
def installed(programs: Path) -> Iterator[Installed]:
    # pytest's own folders are too deep for a socket's path.
    with tempfile.TemporaryDirectory(prefix="btmd-") as folder:
        made = Installed(programs, folder)
        daemon = subprocess.Popen([str(programs / "btmd")], cwd=folder, env=made.environment)
        try:
            while daemon.poll() is None and not os.path.exists(made.environment["BTMD_SOCKET"]):
                time.sleep(0.05)
            yield made
        finally:
            daemon.terminate()
            daemon.wait(timeout=30)


def test_the_main_job_runs_from_the_wheel(installed: Installed, tmp_path: Path) -> None:
    make_tiny_llama(tmp_path / "tiny")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"question": "What is {n}?", "answer": "It is {n}."}}\n' for n in range(40)))

    assert installed.btmctl("status")["available_presets"] >= 4
    model = installed.btmctl("models", "add", str(tmp_path / "tiny"))
    dataset = installed.btmctl("datasets", "add", str(rows), "--consent", "--purpose", "a test")
    line = ["train", model["model_id"], dataset["dataset_id"], "--preset", "quick_test", "--set", "max_steps=4"]
    last = installed.btmctl(*line, "--watch")[-1]
    assert (last["state"], last["progress_percentage"]) == ("completed", 100.0)

    result = installed.btmctl("jobs", "result", last["job_id"])
    assert result["success"] is True
    assert (Path(result["model_path"]) / "adapter_model.safetensors").is_file()
    answer = installed.btmctl("chat", last["job_id"], "--prompt", "What is 7?")
    assert set(answer["answers"]) == {"tuned"}


def _run(command: list[str], *, cwd: str | None = None, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
    return done.stdout
