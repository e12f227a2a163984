"""Deleting what btmd keeps on the disk: only what is btmd's own, and not while a daemon or a trainer uses it."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress

from btmctl.errors import Refused

MOST_NAMED = 5
OURS = re.compile(
    r"\.?(btmd\..*|(answers-keys|backups|cache|config|content|exports|jobs|keys|models|presets"
    r"|daemon\.log|failed-start\.json|preset-files\.json|settings-file\.json|settings\.toml)(\..*)?)"
)
"""What lies in a folder of state or of settings, also half written or moved aside."""


def require_ours(folders: Sequence[str]) -> None:
    """Raises Refused where anything else lies in one: a folder of somebody's choosing may be their home."""
    others = [os.path.join(one, name) for one in folders for name in _names(one) if not OURS.fullmatch(name)]
    if others:
        more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        raise Refused(
            "There is more in these folders than btmd's.",
            f"{', '.join(others[:MOST_NAMED])}{more}: nobody but you can tell what may go.",
            "Move that away, or delete by hand what is to go. Without --delete-state everything stays.",
            code="not_only_ours",
        )


def size_bytes(folders: Sequence[str]) -> int:
    """What the files in them hold together; links are not followed."""
    found = 0
    for path in (os.path.join(above, name) for one in folders for above, _, names in os.walk(one) for name in names):
        with suppress(OSError):
            found += os.lstat(path).st_size
    return found


def warnings(folders: Sequence[str]) -> list[str]:
    """What would be lost besides, in sentences."""
    found = []
    made = [one for folder in folders for one in _names(os.path.join(folder, "backups")) if not one.startswith(".")]
    if made:
        found.append("The backups in it go too; those in other folders stay.")
    if any(_names(os.path.join(folder, "keys")) for folder in folders):
        found.append(
            "The keys of all backups go too: a recovery key (btmctl backup key show-recovery) or a passphrase is then "
            "all that opens those on other disks."
        )
    return found


def require_unused(folders: Sequence[str]) -> None:
    """Raises Refused while a daemon has one of the folders, or a trainer works in it."""
    for folder in folders:
        lock = os.path.join(folder, "btmd.lock")
        if _is_held(lock):
            pid = _first_line(lock)
            raise Refused(
                "A daemon uses the state.",
                f"The process {pid or 'that runs it'} works in {folder}.",
                "btmctl daemon stop ends it with its trainings saved.",
                code="already_running",
            )
        jobs = os.path.join(folder, "jobs")
        busy = [name for name in _names(jobs) if _is_held(os.path.join(jobs, name, "lock"))]
        if busy:
            raise Refused(
                "A training is under way.",
                f"The training {busy[0]} goes on without a daemon in {folder}.",
                f"btmctl daemon start, then btmctl jobs cancel {busy[0]}",
                code="already_running",
            )


def delete(folders: Sequence[str]) -> None:
    """Delete what is in them, and them; a link to one stays. Raises OSError."""
    import shutil

    for folder in folders:
        for path in (os.path.join(folder, name) for name in _names(folder)):
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        if not os.path.islink(folder):
            os.rmdir(folder)


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _is_held(lock: str) -> bool:
    """Whether a process holds it; nobody holds one that is not there."""
    import fcntl

    try:
        file = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(file)


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""
