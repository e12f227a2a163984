"""The disk that holds the state folder."""

import os
import re
import shutil
from pathlib import Path

from msgspec import Struct

from btmd.domain.hardware import Disk
from btmd.hardware.control_groups import read_text

VIRTUAL_DISKS = ("vd", "xvd")
"""Disks of a virtual machine say that they turn, whatever is behind them."""


class _Mount(Struct, frozen=True):
    point: Path
    device_number: str
    filesystem: str
    source: str


def read_disk(folder: Path, root: Path = Path("/")) -> Disk:
    """Room and kind of the file system of ``folder``, or of the nearest folder above it that is there."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    usage = shutil.disk_usage(there)
    mount = _mount_of(Path(os.path.realpath(there)), root)
    if mount is None:
        return Disk(usage.total, usage.free)
    return Disk(usage.total, usage.free, mount.filesystem, _rotational(mount, root))


def _mount_of(folder: Path, root: Path) -> _Mount | None:
    """The innermost mount around ``folder``; of several on one folder, the last one covers the others."""
    found: _Mount | None = None
    for line in read_text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 2:
            continue
        mount = _Mount(Path(_unescaped(fields[4])), fields[2], kind[0], _unescaped(kind[1]))
        inner = found is None or len(mount.point.parts) >= len(found.point.parts)
        if inner and folder.is_relative_to(mount.point):
            found = mount
    return found


def _unescaped(text: str) -> str:
    """Spaces and tabs are written as octal numbers there."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _rotational(mount: _Mount, root: Path) -> bool | None:
    """Asked of the disk, or of the disk that a partition is on.

    Some file systems (btrfs) have a device number of their own, so the name of the source is asked for as well.
    """
    names = [root / "sys/dev/block" / mount.device_number]
    if mount.source.startswith("/dev/"):
        names.append(root / "sys/class/block" / Path(mount.source).name)
    for block in names:
        for queue in (block / "queue", block / ".." / "queue"):
            answer = read_text(queue / "rotational").strip()
            if answer == "1" and queue.resolve().parent.name.startswith(VIRTUAL_DISKS):
                return None
            if answer in ("0", "1"):
                return answer == "1"
    return None
