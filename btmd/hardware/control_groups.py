"""The control groups this process is in, versions 1 and 2, with every group above them.

A limit anywhere on the way up holds, so all of them are looked at. In a container the paths of ``/proc/self/cgroup``
start at the host's root while only a part of the tree is mounted; the mount's own root is taken off for that.
"""

from pathlib import Path, PurePosixPath

from msgspec import Struct


class ControlGroup(Struct, frozen=True):
    """One folder of limits; ``version`` is 1 or 2."""

    version: int
    folder: Path

    def read_number(self, name: str) -> int | None:
        """The number in file ``name``; None when the file is missing or says ``max``."""
        text = read_text(self.folder / name)
        try:
            return int(text)
        except ValueError:
            return None

    def read_stat(self, name: str, key: str) -> int:
        """The number after ``key`` in the table ``name``; 0 when it is not there."""
        for line in read_text(self.folder / name).splitlines():
            found, _, number = line.partition(" ")
            if found == key and number.strip().isdigit():
                return int(number)
        return 0


def read_text(path: Path) -> str:
    """The file's text; empty when it cannot be read, as with files a kernel does not offer."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def control_groups(controller: str, root: Path = Path("/"), process: str = "self") -> list[ControlGroup]:
    """The groups that may limit ``controller`` (``cpu`` or ``memory``), the process's own first."""
    mounts = _mounts(root)
    groups: list[ControlGroup] = []
    for line in read_text(root / "proc" / process / "cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            version, mounted = 2, mounts.get("")
        elif controller in controllers.split(","):
            version, mounted = 1, mounts.get(controller)
        else:
            continue
        if mounted is not None:
            groups += [ControlGroup(version, folder) for folder in _folders(root, *mounted, path)]
    return groups


def _mounts(root: Path) -> dict[str, tuple[str, str]]:
    """Mount root and mount point by controller; version 2 under the empty name."""
    found: dict[str, tuple[str, str]] = {}
    for line in read_text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, options = before.split(), after.split()
        if len(fields) < 5 or len(options) < 3:
            continue
        if options[0] == "cgroup2":
            found.setdefault("", (fields[3], fields[4]))
        elif options[0] == "cgroup":
            for name in options[2].split(","):
                found.setdefault(name, (fields[3], fields[4]))
    return found


def _folders(root: Path, mount_root: str, mount_point: str, path: str) -> list[Path]:
    top = root / mount_point.lstrip("/")
    try:
        inside = PurePosixPath(path).relative_to(mount_root)
    except ValueError:
        return [top]
    if ".." in inside.parts:
        return [top]
    folder = top / inside
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(top))] if folder != top else [top]
