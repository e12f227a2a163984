"""Room on the disk for a job that ran out of it: what is its own to give, and how much it needs."""

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from btmd.domain.units import MIB
from btmd.job_folder import JobFolder

MARGIN = 1.2
LEAST_BYTES = 4 * MIB


def free_bytes(path: Path) -> int:
    """What an ordinary user may still write where ``path`` is."""
    space = os.statvfs(path)
    return space.f_bavail * space.f_frsize


def needed_bytes(checkpoint_bytes: int) -> int:
    """Enough for one more checkpoint beside those there, the report and the result."""
    return int(MARGIN * checkpoint_bytes) + LEAST_BYTES


def free_own(folder: JobFolder, keep: Collection[str]) -> int:
    """Remove half-written files and checkpoints that are not in ``keep``; the bytes that made free.

    Of checkpoints that ``keep`` does not know the newest stays too. The job must have no trainer.
    """
    found = sorted(path.name for path in folder.checkpoints.glob("step-*") if path.is_dir())
    kept = {*keep, *found[-1:]}
    doomed = [folder.checkpoints / name for name in found if name not in kept]
    doomed += [*folder.checkpoints.glob(".tmp-*"), *folder.tmp.glob("*")]
    freed = 0
    for path in doomed:
        freed += _size_bytes(path)
        if path.is_dir() and not path.is_symlink():
            _remove(path)
        else:
            path.unlink(missing_ok=True)
    return freed


def _remove(folder: Path) -> None:
    """In one rename first, so that no half of it is ever taken for a checkpoint."""
    doomed = folder if folder.name.startswith(".tmp-") else folder.with_name(f".tmp-doomed-{folder.name}")
    if doomed != folder:
        os.rename(folder, doomed)
    shutil.rmtree(doomed)


def _size_bytes(path: Path) -> int:
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(one.lstat().st_size for one in path.rglob("*") if one.is_file())
