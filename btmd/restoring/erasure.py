"""User data and the disk: how much of it a backup would hold, what it would not, and taking it away."""

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from btmd.backup.requests import Inventory
from btmd.config import Config
from btmd.files.durable import sync_folder
from btmd.registry.content import ContentStore
from btmd.registry.model_upload import ARRIVING

ADAPTER_FILE = "adapter_config.json"


class Part(Struct, frozen=True):
    """So many things of one kind, in words, and what they take on the disk."""

    what: str
    count: int
    size_bytes: int
    then: str = ""


def held_by_backup(inventory: Inventory) -> int:
    """How many bytes of files a backup with artefacts takes along, before they are compressed."""
    total = sum(_size(file.path) for one in inventory.datasets if one.allowed for file in one.files)
    for job in inventory.jobs:
        if Path(job.result, ADAPTER_FILE).is_file():
            total += folder_size(Path(job.result))
        total += _size(job.answers) if job.answers_allowed else 0
    return total


def not_held(inventory: Inventory, kept_contents: Iterable[Path], models_dir: Path, jobs_dir: Path) -> list[Part]:
    """What no backup holds and is gone for good, or lies elsewhere. ``kept_contents`` belong to no dataset any more."""
    checkpoints = [size for size in (folder_size(job / "checkpoints") for job in _folders(jobs_dir)) if size]
    working = [size for size in map(_working_size, _folders(jobs_dir)) if size]
    unallowed = [_size(file.path) for one in inventory.datasets if not one.allowed for file in one.files]
    whole = [Path(job.result) for job in inventory.jobs if not Path(job.result, ADAPTER_FILE).is_file()]
    whole_sizes = [size for size in map(folder_size, whole) if size]
    kept_sizes = [_size(path) for path in kept_contents]
    converted = [folder_size(path) for path in _folders(models_dir) if path.name != ARRIVING]
    parts = [
        Part("contents of datasets that may not go into backups", len(unallowed), sum(unallowed), "Keep your files."),
        Part("contents of datasets that were taken away before", len(kept_sizes), sum(kept_sizes), "Keep your files."),
        Part("models trained as a whole", len(whole_sizes), sum(whole_sizes), "Copy their result folders first."),
        Part(
            "checkpoints of jobs",
            len(checkpoints),
            sum(checkpoints),
            "A training that was ended cannot go on from them: copy those that you need first.",
        ),
        Part(
            "logs and working files of jobs",
            len(working),
            sum(working),
            "What the trainings measured is in the backup: `btmctl jobs logs` shows the rest only until then.",
        ),
        Part("models kept here, converted or sent", len(converted), sum(converted), "Add them again."),
        Part("base models", inventory.models, inventory.models_bytes, "They stay where they lie; nothing is deleted."),
    ]
    return [part for part in parts if part.count]


def _working_size(job: Path) -> int:
    """The log, the spool and whatever else lies beside the checkpoints, the result and the answers of a job."""
    apart = sum(folder_size(job / name) for name in ("checkpoints", "result"))
    return folder_size(job) - apart - _size(job / "answers.json")


def free_bytes(folder: Path) -> int:
    """The room on the disk that holds ``folder`` or will."""
    while not folder.exists():
        folder = folder.parent
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize


def erase(
    config: Config,
    contents: ContentStore,
    *,
    jobs: Iterable[str],
    models: Iterable[str],
    named: Iterable[str],
    still_needed: set[str],
) -> int:
    """Take folders of jobs and converted models and the ``named`` contents away; the bytes that this freed.

    What is gone already is no error, so that it can be called again after it was cut off. Raises OSError.
    """
    freed = contents.remove_lists(named, still_needed)
    for root, names in ((config.jobs_dir, jobs), (config.models_dir, models)):
        for name in names:
            folder = root / Path(name).name
            # A link in its place is taken away, not what it leads to.
            if folder.is_symlink():
                folder.unlink()
            elif folder.is_dir():
                freed += folder_size(folder)
                shutil.rmtree(folder)
        sync_folder(root)
    # What was sent and no model came of yet is user data too.
    shutil.rmtree(config.models_dir / ARRIVING, ignore_errors=True)
    for measured in config.cache_dir.glob("tokens-*"):
        measured.unlink(missing_ok=True)
    if not _folders(config.jobs_dir):
        shutil.rmtree(config.answers_keys_dir, ignore_errors=True)
    return freed


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def folder_size(folder: Path) -> int:
    """The bytes of the files in a folder; links count nothing, and neither does what goes away meanwhile."""
    # rglob would end where a trainer at work takes a folder away.
    return sum(_size(os.path.join(root, name)) for root, _, names in os.walk(folder) for name in names)


def _size(path: str | Path) -> int:
    """Raises nothing where there is no such file."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
