"""The disk that holds the state folder."""

import shutil
from pathlib import Path

from btmd.domain.hardware import Disk


def read_disk(folder: Path) -> Disk:
    """Room on the file system of ``folder``, or of the nearest folder above it that is there."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    usage = shutil.disk_usage(there)
    return Disk(total_bytes=usage.total, free_bytes=usage.free)
