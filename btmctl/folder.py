"""A folder into the daemon's keeping: walked with the asking user's rights, file by file; what is left out is named."""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

from btmctl.errors import NoSuchFile, UsageError
from btmctl.session import Session
from btmctl.upload import content_of, upload, upload_bytes

ENDINGS = (
    *(".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", ".md", ".markdown", ".docx", ".odt"),
    *(".html", ".htm", ".xhtml", ".pdf"),
)
MOST_FILES = 10_000


class Found(NamedTuple):
    """A file by its name relative to the folder; ``reason`` says why it is left out, and is empty for one that goes."""

    name: str
    path: str
    reason: str


class FolderListing(NamedTuple):
    """What is sent of a folder: ``content`` is the list of its files."""

    content: bytes
    files: tuple[tuple[str, str], ...]
    """Path and SHA-256 of each."""
    changed_us: int

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def listing(folder: str, session: Session) -> FolderListing:
    """Look the folder over and hash its files. Raises NoSuchFile, UsageError for too many, CommandError."""
    try:
        found = list(_walk(folder))
    except OSError as error:
        raise NoSuchFile(f"{folder} cannot be read.", f"{error.strerror}.", f"ls -ld {folder} shows who may.") from None
    chosen = [one for one in found if not one.reason]
    if len(found) > MOST_FILES:
        raise UsageError(
            f"{folder} has more than {MOST_FILES:,} files.", "They would be one dataset.", "Add a part of it."
        )
    files: list[dict[str, Any]] = []
    changed_us = _newest_change_us(folder, chosen)
    for number, one in enumerate(chosen):
        session.output.progress(number / len(chosen), "Reading the folder")
        files.append({"name": one.name, "sha256": content_of(one.path, session)})
    left_out = [{"name": one.name, "reason": one.reason} for one in found if one.reason]
    session.output.end_progress()
    content = json.dumps({"files": files, "left_out": left_out}, ensure_ascii=True, separators=(",", ":")).encode()
    sent = tuple((one.path, str(file["sha256"])) for one, file in zip(chosen, files, strict=True))
    return FolderListing(content, sent, changed_us)


def newest_change_us(folder: str) -> int:
    """When anything in the folder was written, added or taken away last. Raises OSError."""
    return _newest_change_us(folder, [one for one in _walk(folder) if not one.reason])


def _newest_change_us(folder: str, files: list[Found]) -> int:
    """When a file, or what is in a folder, changed last, in microseconds since the epoch."""
    folders = {folder, *(os.path.dirname(one.path) for one in files)}
    times = [os.stat(path).st_mtime_ns // 1000 for path in (*folders, *(one.path for one in files))]
    return max(times)


def send(folder: str, session: Session) -> str:
    """Bring the files and their list to the daemon unless it has them; returns the list's SHA-256."""
    listed = listing(folder, session)
    for path, sha256 in listed.files:
        upload(path, session, sha256)
    return upload_bytes(listed.content, session)


def _walk(folder: str) -> Iterator[Found]:
    """Every file below the folder in the order of their names; links are not followed. Raises OSError."""
    pending = [""]
    while pending:
        below = pending.pop()
        with os.scandir(os.path.join(folder, below) if below else folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
        deeper = []
        for entry in ordered:
            name = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith("."):
                    deeper.append(name)
                continue
            yield Found(_printable(name), os.path.join(folder, name), _why_not(entry))
        pending += reversed(deeper)


def _why_not(entry: "os.DirEntry[str]") -> str:
    """Why this is left out; empty if it is not."""
    if entry.name.startswith("."):
        return "hidden"
    if entry.is_symlink():
        return "a link"
    held = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(held.st_mode):
        return "not an ordinary file"
    if not entry.name.lower().endswith(ENDINGS):
        return "no kind of file that can be read"
    if held.st_size == 0:
        return "empty"
    return "" if os.access(entry.path, os.R_OK) else "may not be read"


def _printable(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")
