"""Putting a rebuilt database in the place of the one that is there: killed at any moment, it is the old or the new."""

import os
from pathlib import Path

import msgspec

from btmd.errors import Damaged
from btmd.files.durable import sync_folder, write_atomically


class _Swap(msgspec.Struct, frozen=True):
    """The marker's content: names in the database's folder."""

    rebuilt: str
    kept: str


def swap_in(path: Path, rebuilt: Path, kept: Path) -> None:
    """``rebuilt`` becomes ``path``; what was there is kept as ``kept`` with its write-ahead log.

    Call it while nobody has the database open; all three are in one folder.
    """
    descriptor = os.open(rebuilt, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    # Three files have to change place, and an old write-ahead log must never be read into the new database: from the
    # marker on, the rest is done by whoever opens the database next, if not by this process.
    write_atomically(_marker(path), msgspec.json.encode(_Swap(rebuilt.name, kept.name)))
    finish_swap(path)


def finish_swap(path: Path) -> None:
    """Do what is left of a swap that was cut off; nothing if there was none. Raises Damaged."""
    marker = _marker(path)
    if not marker.exists():
        return
    try:
        swap = msgspec.json.decode(marker.read_bytes(), type=_Swap)
    except msgspec.MsgspecError as error:
        raise Damaged(f"{marker} cannot be read.", hint="`btmctl recover` rebuilds the database again.") from error
    rebuilt, kept = path.with_name(Path(swap.rebuilt).name), path.with_name(Path(swap.kept).name)
    if rebuilt.exists():
        _beside(path, "-shm").unlink(missing_ok=True)
        for suffix in ("-wal", ""):
            if _beside(path, suffix).exists():
                os.replace(_beside(path, suffix), _beside(kept, suffix))
        sync_folder(path.parent)
        os.replace(rebuilt, path)
        sync_folder(path.parent)
    marker.unlink()
    sync_folder(path.parent)


def _marker(path: Path) -> Path:
    return _beside(path, ".swap")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
