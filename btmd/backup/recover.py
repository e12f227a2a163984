"""A lost or damaged database made anew from a backup folder and a key."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from btmd.backup.folder import BackupFolder
from btmd.backup.key_ring import KeyRing, Secret
from btmd.backup.keys import Keys
from btmd.backup.manifests import ID_DIGITS, Manifest, Summary, newest, read_manifest
from btmd.backup.private_files import folder_errors
from btmd.backup.repository import Repository
from btmd.backup.ring_copies import open_folder_ring
from btmd.backup.segments import read_chain
from btmd.domain.decider import Decider
from btmd.errors import BackupNotFound, InvalidValue, Tampered, WrongKey
from btmd.store.rebuild import rebuild_database, remove_left_over
from btmd.store.recorded import Head, genesis_hash
from btmd.store.swap import finish_swap, swap_in


class Recovered(msgspec.Struct, frozen=True):
    """The new database's head, and the backup it was made from. ``kept`` is the database that stood there before.

    ``unopened`` are newer full backups that the given key does not open; ``unreadable`` those whose manifests are
    damaged, so that nobody can tell whether they are newer.
    What the backup could not hold is in ``manifest.omissions``; its artefacts are still to be brought back.
    """

    head: Head
    backup_id: str
    manifest: Manifest
    ring: KeyRing
    kept: Path | None
    unopened: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


def recover(
    path: Path,
    folder: Path,
    secret: Secret,
    keys: Keys,
    deciders: Iterable[Decider],
    *,
    now_us: int,
    backup_id: str | None = None,
    store_id: str | None = None,
) -> Recovered:
    """Rebuild the database ``path`` from the newest full backup in ``folder`` (or the one named), as a new epoch.

    It is built aside, checked, and only then put in place; what stood there is kept beside it. Nobody may have the
    database open. Killed at any moment, the next start finds the old state or the new one.
    Raises BackupNotFound, WrongKey, Damaged, Tampered, PartMissing, BackupFolderUnusable, StoreFull, StoreFailed; then
    nothing was changed.
    """
    repository = Repository(folder, deciders)
    ring = open_folder_ring(repository.folder, secret, store_id)
    summaries = repository.summaries(ring.store_id)
    unopened: tuple[str, ...] = ()
    if backup_id is not None:
        name = repository.find(backup_id)
    else:
        name, unopened = _newest_full(repository, summaries, ring)
    manifest = read_manifest(repository.folder, name, ring.opening_keys)
    _require_full(name, manifest, ring)
    repository.verify_events(name, manifest, ring)
    aside = path.with_name(path.name + ".rebuilt")
    epochs = [summary.header.epoch for summary in summaries if summary.header is not None]
    with folder_errors(path.parent):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        finish_swap(path)
        head = rebuild_backup(repository.folder, manifest, ring, aside, new_epoch=max(epochs) + 1, now_us=now_us)
        kept = path.with_name(f"{path.name}.before-recovery-{now_us}") if path.exists() else None
        try:
            keys.adopt(ring, now_us)
            swap_in(path, aside, kept or path.with_name(f"{path.name}.left-over-{now_us}"))
        except BaseException:
            if not path.with_name(path.name + ".swap").exists():
                remove_left_over(aside)
            raise
    unreadable = tuple(one.backup_id for one in repository.unreadable())
    return Recovered(head, name[:ID_DIGITS], manifest, ring, kept, unopened, unreadable)


def rebuild_backup(
    folder: BackupFolder, manifest: Manifest, ring: KeyRing, aside: Path, *, new_epoch: int, now_us: int
) -> Head:
    """The backup's rows as the new database ``aside``, verified, at the beginning of ``new_epoch``."""
    genesis = genesis_hash(manifest.store_id)
    pages = read_chain(folder, manifest.segments, ring.opening_keys, store_id=manifest.store_id, genesis=genesis)
    head = rebuild_database(
        aside,
        pages,
        store_id=manifest.store_id,
        created_at_us=manifest.store_created_at_us,
        new_epoch=new_epoch,
        now_us=now_us,
    )
    if manifest.head_seq and head.hash.hex() != manifest.head_hash:
        remove_left_over(aside)
        raise Tampered(
            "The rebuilt log does not end where the backup says.", hint="Use another backup. Nothing was changed."
        )
    return head


def _newest_full(repository: Repository, summaries: list[Summary], ring: KeyRing) -> tuple[str, tuple[str, ...]]:
    """The newest full backup that the ring opens, and the ids of newer ones that it does not open."""
    found = newest(summaries, "full")
    if not found:
        # One whose manifest is damaged is there all the same: it is named as what it is.
        for name in repository.folder.manifest_ids():
            repository.check_bytes(name)
        raise BackupNotFound(
            f"{repository.folder.path} holds no full backup of the store {ring.store_id}.",
            hint="Configuration backups bring settings back into a running daemon: `btmctl restore --backup ID`.",
        )
    unopened: list[str] = []
    for one in found:
        if one.header is not None and one.header.key_id in ring.keys:
            return one.name, tuple(unopened)
        unopened.append(one.backup_id)
    raise WrongKey(
        f"This key opens a key ring in {repository.folder.path}, but none of its {len(found)} full backups.",
        hint="Give the key that belongs to them: key file, passphrase or a newer recovery key.",
    )


def _require_full(name: str, manifest: Manifest, ring: KeyRing) -> None:
    if manifest.backup_kind != "full" or manifest.store_id != ring.store_id:
        raise InvalidValue(
            f"{name[:ID_DIGITS]} is no full backup of this store: a database cannot be made from it.",
            hint="Choose one that `btmctl backup list` shows as full.",
        )
