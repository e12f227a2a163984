"""The files that a backup consists of, for an admin who takes a copy with their own rights."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from btmd.backups.folders import MANIFEST_NAME, gone
from btmd.errors import NotFound
from btmd.projections.backup import BackupRow

_PLACES = re.compile(r"manifests/[0-9a-f]{64}|objects/([0-9a-f]{2})/\1[0-9a-f]{62}|rings/[0-9a-f]{32}")
"""Names that are made from hashes only: none leads out of the folder."""


def files_of(row: BackupRow, objects: Iterable[str]) -> list[tuple[str, int]]:
    """Path below the folder and size in bytes of each, in the order in which they are to be written.

    The manifest is the last: with it the copy counts. Raises PartMissing.
    """
    rings = sorted(os.listdir(os.path.join(row.folder, "rings")))
    names = [f"objects/{one[:2]}/{one}" for one in objects]
    names += [f"rings/{one}" for one in rings if not one.startswith(".")]
    names += [f"manifests/{row.name}"] if MANIFEST_NAME.fullmatch(row.name) else []
    try:
        return [(one, os.lstat(os.path.join(row.folder, one)).st_size) for one in names]
    except FileNotFoundError:
        raise gone(row) from None


def path_of(row: BackupRow, name: str) -> Path:
    """Where a file of the backup stands. Raises NotFound."""
    path = Path(row.folder, name)
    if _PLACES.fullmatch(name) is None or path.is_symlink() or not path.is_file():
        raise NotFound(f"The backup {row.backup_id} has no such file any more.", hint="Take the copy again.")
    return path
