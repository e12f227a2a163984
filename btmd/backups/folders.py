"""Backup folders and what a child tells of them, as the daemon sees them: names only, never a key."""

import os
import re

import msgspec

from btmd.backup.requests import ListedBackup
from btmd.domain.backup import BackupFacts
from btmd.errors import BackupFolderUnusable, BackupNotFound, BtmdError, PartMissing, all_errors
from btmd.projections.backup import BackupRow

MANIFEST_NAME = re.compile(r"[0-9a-f]{64}")


def facts_of(listed: ListedBackup) -> BackupFacts:
    """A listed backup as the domain keeps it."""
    values = msgspec.structs.asdict(listed)
    del values["freed_bytes"]
    return BackupFacts(**values)


def fault_of(code: str, detail: str, hint: str = "") -> BtmdError:
    """The error that a check or a drill told of."""
    kind = all_errors().get(code, all_errors()["damaged"])
    return kind(detail, hint=hint or "`btmctl backup list` shows the others; nothing was changed.")


def manifests_in(folder: str) -> frozenset[str] | None:
    """The names of the manifests that stand there; None where the folder is out of reach."""
    try:
        return frozenset(
            name for name in os.listdir(os.path.join(folder, "manifests")) if MANIFEST_NAME.fullmatch(name)
        )
    except OSError:
        return None


def require_reach(row: BackupRow) -> None:
    """Raises BackupFolderUnusable where the folder is not there."""
    if manifests_in(row.folder) is None:
        raise BackupFolderUnusable(
            f"The backup {row.backup_id} is in {row.folder}, which is out of reach.", hint="Is the disk or stick there?"
        )


def gone(row: BackupRow) -> PartMissing:
    """The error for a backup that vanished."""
    return PartMissing(
        f"The backup {row.backup_id} is gone from {row.folder}, and nobody deleted it through btmd.",
        hint=f"Put its files back from a copy; `btmctl backup delete {row.backup_id}` strikes it off the list.",
    )


def deleted_meanwhile(name: str) -> BackupNotFound:
    """The error for a backup that somebody deleted while another thing was to be done with it."""
    return BackupNotFound(
        f"The backup {name[:16]} was deleted meanwhile.", hint="`btmctl backup list` shows the others."
    )
