"""Where the files of a backup belong in a state folder."""

from pathlib import Path

from btmd.backup.artefacts import bring_back, require_plain_names
from btmd.backup.folder import BackupFolder
from btmd.backup.key_ring import KeyRing
from btmd.backup.manifests import StoredArtefact
from btmd.backup.private_files import folder_errors, make_private_folder


def bring_artefact_back(folder: BackupFolder, stored: StoredArtefact, ring: KeyRing, state_dir: Path) -> None:
    """Put a file where it lay; it stands there only when it was right to the last byte.

    Raises InvalidValue for names that are none, PartMissing, Damaged, Tampered, BackupFolderFull.
    """
    target, tmp = _target_of(stored, state_dir), state_dir / "cache"
    with folder_errors(state_dir):
        make_private_folder(tmp)
        make_private_folder(target)
        bring_back(folder, stored, ring.opening_keys, target, tmp)


def _target_of(stored: StoredArtefact, state_dir: Path) -> Path:
    """Where it lay before. Raises InvalidValue for names that are none."""
    require_plain_names(stored)
    if stored.kind == "dataset":
        return state_dir / "content" / stored.content_sha256[:2]
    if stored.kind == "answers_key":
        return state_dir / "answers-keys" / stored.owner
    job = state_dir / "jobs" / stored.owner
    return job / "result" if stored.kind == "adapter" else job
