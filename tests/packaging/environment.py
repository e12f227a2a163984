"""A virtual environment with a wheel of btmd and what it asks for, linked to where the tests have it installed."""

import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

INSTALL_TIMEOUT_S = 1500


def linked_environment(folder: Path, wheel: Path) -> Path:
    """Make it, with nothing else in it; returns its folder of programs. Fetching the packages would take minutes."""
    venv.create(folder, with_pip=False)
    install(folder, wheel)
    python = folder / "bin" / "python"
    there = Path(run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())
    (ours,) = metadata.distributions(name="btmd", path=[str(there)])
    for distribution in _asked_for(ours):
        for name in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
            if not (there / name).exists():
                (there / name).symlink_to(Path(str(distribution.locate_file(name))))
    return folder / "bin"


def install(folder: Path, wheel: Path) -> None:
    """Put this wheel into the environment, in place of one of an earlier version, and nothing that it asks for."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(folder / "bin" / "python")]
    run([*pip, "install", "--quiet", "--no-compile", "--no-deps", "--no-index", str(wheel)])


def _asked_for(first: metadata.Distribution) -> list[metadata.Distribution]:
    """What ``first`` requires, and what that requires, as installed beside the tests."""
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


def run(command: list[str], *, cwd: str | None = None, environment: dict[str, str] | None = None) -> str:
    """What it prints; it must succeed."""
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
    return done.stdout
