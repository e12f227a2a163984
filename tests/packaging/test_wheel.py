"""The wheel alone, in an environment with only what it asks for, does the main job."""

import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bundle import wheel as bundle_wheel
from bundle.wheel import build_wheel
from tests.fixtures.tiny_model import make_tiny_llama
from tests.packaging.environment import INSTALL_TIMEOUT_S, linked_environment, run

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(INSTALL_TIMEOUT_S + 600)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linked_environment(tmp_path_factory.mktemp("environment"), wheel)


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


def test_an_older_wheel_in_dist_gives_way_and_one_elsewhere_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(to: Path) -> Path:
        (to / "btmd-2-py3-none-any.whl").touch()
        return to / "btmd-2-py3-none-any.whl"

    monkeypatch.setattr(bundle_wheel, "build_wheel", built)
    monkeypatch.chdir(tmp_path)
    for folder, arguments, left in (("dist", [], 1), ("elsewhere", ["elsewhere"], 2)):
        Path(folder).mkdir()
        (Path(folder) / "btmd-1-py3-none-any.whl").touch()
        monkeypatch.setattr(sys, "argv", ["bundle.wheel", *arguments])
        assert bundle_wheel.main() == 0
        assert len(list(Path(folder).iterdir())) == left


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
        done = run([str(self.programs / "btmctl"), *arguments, "--json"], cwd=self.folder, environment=self.environment)
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
