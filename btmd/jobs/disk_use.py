"""What the folders of jobs take, and what of it could go."""

import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from msgspec import Struct, field

from btmd.job_folder import JobFolder

DOOMED = ".deleted-"
"""Begins the name of a job's folder that is going."""
LEFT_OVERS, CANCELLED, COMPLETED, FAILED, CACHES = "left-overs", "cancelled", "completed", "failed", "caches"
KINDS = (LEFT_OVERS, CACHES, CANCELLED, COMPLETED, FAILED)
"""What can be freed, the most dispensable first. Of jobs, by how they ended: checkpoints."""


class JobUse(Struct):
    """What one job's folder takes, in bytes. A file with several names counts for the first folder it is found in."""

    job_id: str
    total_bytes: int = 0
    result_bytes: int = 0
    checkpoints: dict[str, int] = field(default_factory=dict)
    """By name, oldest first."""
    left_overs_bytes: int = 0

    @property
    def checkpoints_bytes(self) -> int:
        return sum(self.checkpoints.values())


class Removable(Struct, frozen=True):
    """Something that could go: ``names`` are checkpoints, files or folders, of which ``size_bytes`` would be free."""

    kind: str
    job_id: str
    names: tuple[str, ...]
    size_bytes: int


def job_use(path: Path, seen: set[tuple[int, int]] | None = None) -> JobUse:
    """What a job's folder takes now; what goes meanwhile is not counted. ``seen`` are files already counted."""
    seen = set() if seen is None else seen
    folder = JobFolder(path)
    use = JobUse(path.name)
    for name in checkpoint_names(folder):
        use.checkpoints[name] = _size_bytes(folder.checkpoints / name, seen)
    use.result_bytes = _size_bytes(folder.result, seen)
    use.left_overs_bytes = sum(_size_bytes(one, seen) for one in left_overs(folder))
    rest = _size_bytes(path, seen)
    use.total_bytes = use.checkpoints_bytes + use.result_bytes + use.left_overs_bytes + rest
    return use


def jobs_use(jobs_dir: Path) -> dict[str, JobUse]:
    """By job, what all folders take; those that are going among them."""
    seen: set[tuple[int, int]] = set()
    return {path.name: job_use(path, seen) for path in sorted(_folders(jobs_dir))}


def folder_bytes(path: Path) -> int:
    """What a file or a folder takes; nothing where there is none."""
    return _size_bytes(path, set())


def checkpoint_names(folder: JobFolder) -> list[str]:
    """The whole checkpoints of a job, oldest first."""
    return sorted(one.name for one in _children(folder.checkpoints) if one.name.startswith("step-") and one.is_dir())


def left_overs(folder: JobFolder) -> list[Path]:
    """What a crash left half done, and what was set aside; no trainer may live in the folder."""
    hidden = [Path(one.path) for one in _children(folder.checkpoints) if one.name.startswith(".")]
    return [*hidden, *(Path(one.path) for one in _children(folder.tmp))]


def without_use(use: JobUse, keep: Collection[str]) -> tuple[str, ...]:
    """The checkpoints that are not to be kept."""
    return tuple(name for name in use.checkpoints if name not in keep)


def remove_checkpoints(folder: JobFolder, names: Iterable[str]) -> list[Path]:
    """Take checkpoints away, each in one rename, so that no half of one is ever taken for one.

    Returns what has still to be removed. Raises OSError.
    """
    doomed = []
    for name in names:
        aside = folder.checkpoints / f".tmp-doomed-{name}"
        try:
            os.rename(folder.checkpoints / name, aside)
        except FileNotFoundError:
            continue
        doomed.append(aside)
    return doomed


def remove(paths: Iterable[Path]) -> None:
    """Remove files and whole folders; what is gone already is well. Raises OSError."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=False, onerror=_unless_gone)
        else:
            path.unlink(missing_ok=True)


def doom(path: Path) -> Path | None:
    """Put a job's folder where nobody finds it any more, in one rename; None where there is none. Raises OSError."""
    going = path.with_name(f"{DOOMED}{path.name}")
    if going.exists():
        # The same job, deleted by a daemon that died in the middle.
        remove([going])
    try:
        os.rename(path, going)
    except FileNotFoundError:
        return None
    return going


def _unless_gone(function: object, path: str, error: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(error[1], FileNotFoundError):
        raise error[1]


def _folders(jobs_dir: Path) -> Iterator[Path]:
    return (Path(one.path) for one in _children(jobs_dir) if one.is_dir(follow_symlinks=False))


def _children(path: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(path) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _size_bytes(path: Path, seen: set[tuple[int, int]]) -> int:
    try:
        about = path.lstat()
    except FileNotFoundError:
        return 0
    if path.is_symlink() or not path.is_dir():
        known = (about.st_dev, about.st_ino) in seen
        seen.add((about.st_dev, about.st_ino))
        return 0 if known else about.st_size
    return sum(_size_bytes(Path(one.path), seen) for one in _children(path))
