"""Packing the bundle: where it goes, and a file without a trace of who packed it."""

import gzip
import io
import os
import tarfile
import time
from pathlib import Path
from typing import NamedTuple

from btmctl.client import Document
from btmctl.errors import NoSuchFile, Refused


class Member(NamedTuple):
    """A file in the bundle."""

    name: str
    about: str
    content: bytes

    @property
    def as_document(self) -> Document:
        return {"name": self.name, "size_bytes": len(self.content), "about": self.about}


def target_of(given: str) -> Path:
    """Where it goes: the named file, or a new one in the named folder, or here. Raises NoSuchFile, Refused."""
    usual = f"btmd-report-{time.strftime('%Y%m%d-%H%M%S')}.tar.gz"
    path = Path(given).expanduser() if given else Path(usual)
    path = path / usual if path.is_dir() else path
    if not path.parent.is_dir():
        raise NoSuchFile(f"There is no folder {path.parent}.", "The bundle has to lie somewhere.", "mkdir makes one.")
    if os.path.lexists(path):
        raise Refused(f"{path} is there already.", "It is not overwritten.", "btmctl doctor --bundle OTHER.tar.gz")
    return path


def write(members: list[Member], path: Path) -> None:
    """A file that only its owner can read, without a trace of who packed it. Raises Refused."""
    packed = io.BytesIO()
    now = int(time.time())
    with (
        # Its name would stand in the file's head.
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=now) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as archive,
    ):
        for one in members:
            entry = tarfile.TarInfo(f"btmd-report/{one.name}")
            entry.size, entry.mtime, entry.mode = len(one.content), now, 0o600
            archive.addfile(entry, io.BytesIO(one.content))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(packed.getvalue())
    except OSError as error:
        what = f"{path} could not be written."
        raise Refused(what, f"{error.strerror}.", "btmctl doctor --bundle OTHER.tar.gz", code="not_written") from None
