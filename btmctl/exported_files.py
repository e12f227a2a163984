"""Files of an export, brought from the daemon to a place of the asking user's: whole, or not there at all."""

import hashlib
import os
import shutil
from dataclasses import dataclass

from btmctl.client import Document
from btmctl.errors import Refused, UsageError
from btmctl.session import Session
from btmctl.told_paths import require_inside

_SPARE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Target:
    """Where an export goes: a folder for several files, or one file."""

    path: str
    is_folder: bool

    @property
    def shown(self) -> str:
        here = os.getcwd() + os.sep
        return self.path[len(here) :] if self.path.startswith(here) else self.path

    @property
    def aside(self) -> str:
        """Where it is written until it is whole: on the same disk, and hidden."""
        folder, name = os.path.split(self.path)
        return os.path.join(folder, f".{name}.{os.getpid()}.part")

    def in_the_way(self) -> list[str]:
        """Names of what would be overwritten. Raises UsageError for what nobody wants to lose by an export."""
        if not os.path.lexists(self.path):
            return []
        if not self.is_folder:
            if os.path.isdir(self.path):
                raise UsageError(f"{self.shown} is a folder.", "One file is to be written.", "--out OTHER")
            return [os.path.basename(self.path)]
        if not os.path.isdir(self.path):
            raise UsageError(f"{self.shown} is a file.", "A folder is to be written.", "--out OTHER")
        return sorted(os.listdir(self.path))

    def require_room(self, size_bytes: int) -> None:
        """Raises Refused, UsageError where it cannot be written."""
        parent = os.path.dirname(self.path)
        try:
            os.makedirs(parent, exist_ok=True)
            space = os.statvfs(parent)
        except OSError as problem:
            raise UsageError(f"{parent} cannot be used.", problem.strerror or str(problem), "--out OTHER") from None
        if not os.access(parent, os.W_OK | os.X_OK):
            raise UsageError(f"{parent} cannot be written to.", "You may not write there.", "--out OTHER")
        free = space.f_bavail * space.f_frsize
        if free < size_bytes + _SPARE_BYTES:
            raise Refused(
                "There is not enough room for it.",
                f"It takes {size_bytes / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free at {parent}.",
                "--out OTHER",
                code="not_enough_disk",
            )


def target_of(name: str, out: str | None, *, is_folder: bool) -> Target:
    """``out`` is where it goes itself, or a folder that is there (or ends in a slash) and gets it under ``name``."""
    if out is None:
        return Target(os.path.abspath(name), is_folder)
    expanded = os.path.expanduser(out)
    single = not is_folder and os.path.splitext(expanded)[1] == os.path.splitext(name)[1]
    inside = os.path.isdir(expanded) or expanded.endswith(os.sep) or (not is_folder and not single)
    return Target(os.path.abspath(os.path.join(expanded, name) if inside else expanded), is_folder)


def fetch(made: Document, target: Target, session: Session) -> list[str]:
    """Bring all files, compare their hashes, put them in place; returns their paths. Raises Refused, UsageError."""
    require_inside(str(one["path"]) for one in made["files"])
    aside = target.aside
    try:
        try:
            if target.is_folder:
                os.mkdir(aside, 0o755)
            _bring_all(made, aside, target, session)
            return _put_in_place(made, aside, target)
        except OSError as problem:
            raise Refused(
                f"{target.shown} could not be written.",
                f"{problem.strerror or problem}. Nothing was left behind.",
                "--out OTHER",
                code="not_written",
            ) from None
    finally:
        if os.path.isdir(aside):
            shutil.rmtree(aside, ignore_errors=True)
        elif os.path.exists(aside):
            os.unlink(aside)


def _bring_all(made: Document, aside: str, target: Target, session: Session) -> None:
    total = sum(one["size_bytes"] for one in made["files"]) or 1
    done = 0
    for one in made["files"]:
        path = os.path.join(aside, one["path"]) if target.is_folder else aside
        os.makedirs(os.path.dirname(path), exist_ok=True)
        digest = hashlib.sha256()
        with open(path, "xb") as file:
            for piece in session.client.download(f"/exports/{made['export_id']}/files/{one['path']}"):
                file.write(piece)
                digest.update(piece)
                done += len(piece)
                session.output.progress(min(1.0, done / total), f"Writing {target.shown}")
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != one["sha256"]:
            raise Refused(
                "What arrived is not what was written.",
                f"{one['path']} has another hash.",
                "Try again.",
                code="damaged",
            )
    session.output.end_progress()


def _put_in_place(made: Document, aside: str, target: Target) -> list[str]:
    if not target.is_folder:
        os.replace(aside, target.path)
        return [target.path]
    names = [str(one["path"]) for one in made["files"]]
    if not os.path.isdir(target.path):
        os.rename(aside, target.path)
    else:
        for name in names:
            os.makedirs(os.path.dirname(os.path.join(target.path, name)), exist_ok=True)
            os.replace(os.path.join(aside, name), os.path.join(target.path, name))
        _remove_older(target.path, set(names))
    return [os.path.join(target.path, name) for name in names]


def _remove_older(folder: str, names: set[str]) -> None:
    """Weights of an earlier export would be read beside the new ones; anything else of the person's stays."""
    for name in os.listdir(folder):
        if name not in names and name.endswith((".safetensors", ".safetensors.index.json")):
            os.unlink(os.path.join(folder, name))
