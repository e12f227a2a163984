"""The backups in one folder: make, list, show, check, copy, delete, and let old ones go."""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from btmd.backup.artefacts import read_artefact
from btmd.backup.create import BackupRequest, Created, Creation
from btmd.backup.folder import BackupFolder
from btmd.backup.key_ring import KeyRing
from btmd.backup.keys import Keys
from btmd.backup.manifests import ID_DIGITS, Manifest, Summary, newest, read_manifest, read_summary
from btmd.backup.retention import Dated, Policy, kept
from btmd.backup.rewrite import would_shrink, write_anew
from btmd.backup.sealed_file import check_whole
from btmd.backup.segments import read_chain
from btmd.backup.states import States
from btmd.domain.decider import Decider
from btmd.errors import BackupNotFound, BtmdError, Tampered
from btmd.store.connection import connect_reader, storage_error
from btmd.store.recorded import genesis_hash


class Listed(msgspec.Struct, frozen=True):
    """A backup in a list. ``freed_bytes`` is what deleting it would free now."""

    summary: Summary
    freed_bytes: int


class Verified(msgspec.Struct, frozen=True):
    """What a check found to be right. ``state``: ``matches``, or ``other_code`` where a newer btmd cannot compare.

    ``erased`` artefacts cannot be read because their dataset was erased on purpose.
    """

    backup_id: str
    events: int
    artefacts: int
    erased: int
    size_bytes: int
    state: str


class Deleted(msgspec.Struct, frozen=True):
    """``deleted`` are backup ids. ``swept`` is false where an unreadable manifest forbids to clear parts away."""

    deleted: tuple[str, ...]
    freed_bytes: int
    swept: bool = True


class Pruned(msgspec.Struct, frozen=True):
    """``kept`` says by backup id why. ``over_bytes`` is by how much the folder is still above the cap."""

    deleted: Deleted
    kept: dict[str, tuple[str, ...]]
    rewritten: str | None = None
    over_bytes: int = 0


class Repository:
    """One backup folder. Plain blocking code: call it in a thread; changes take the folder's lock."""

    def __init__(self, folder: Path, deciders: Iterable[Decider]) -> None:
        self.folder = BackupFolder(folder)
        self._deciders = tuple(deciders)

    def create(self, database: Path, keys: Keys, ring: KeyRing, request: BackupRequest, now_us: int) -> Created:
        """Back up what is new in ``database``, which may be in use. Killed, there is one more backup or none.

        Raises InvalidValue, Damaged, PartMissing (an artefact's), BackupFolderFull, BackupFolderUnusable, Tampered,
        StoreFull and StoreFailed where the database cannot be read.
        """
        with self.folder.changing():
            try:
                with closing(connect_reader(database)) as connection:
                    creation = Creation(self.folder, keys, ring, self._deciders, database, connection, request, now_us)
                    return creation.run(self._summaries())
            except sqlite3.Error as error:
                raise storage_error(error) from error

    # --- looking -------------------------------------------------------------------------------

    def backups(self) -> list[Listed]:
        """All backups, newest first, unreadable ones at the end; needs no key."""
        self.folder.require()
        summaries = self._summaries()
        sizes = self.folder.object_sizes()
        users: dict[str, int] = {}
        for summary in summaries:
            for part in summary.parts:
                users[part] = users.get(part, 0) + 1
        return [
            Listed(
                summary,
                self.folder.manifest_size(summary.name)
                + sum(sizes.get(part, 0) for part in summary.parts if users[part] == 1),
            )
            for summary in [*newest(summaries), *(one for one in summaries if one.header is None)]
        ]

    def find(self, backup_id: str) -> str:
        """The name of the backup whose id begins so. Raises BackupNotFound."""
        self.folder.require()
        found = [name for name in self.folder.manifest_ids() if name.startswith(backup_id.lower()) and backup_id]
        if len(found) != 1:
            several = "Several backups begin" if found else "No backup begins"
            raise BackupNotFound(
                f"{several} with {backup_id} in {self.folder.path}.",
                hint="`btmctl backup list` shows them with their ids.",
            )
        return found[0]

    def show(self, name: str, ring: KeyRing) -> Manifest:
        """Raises PartMissing, Damaged, Tampered, WrongKey."""
        return read_manifest(self.folder, name, ring.opening_keys)

    def check_bytes(self, name: str) -> int:
        """Compare every part with its checksum, without a key; returns their size in bytes.

        Raises PartMissing, Damaged, Tampered.
        """
        size_bytes = 0
        for part in read_summary(self.folder, name).parts:
            with self.folder.open(part) as file:
                size_bytes += check_whole(file, part)
        return size_bytes

    def verify(self, name: str, ring: KeyRing) -> Verified:
        """Read all of a backup: checksums, seals, links, the hash chain, the state that a replay gives.

        Changes nothing. Raises PartMissing, Damaged, Tampered, WrongKey for the first thing that is wrong.
        """
        manifest = self.show(name, ring)
        state = self.verify_events(name, manifest, ring)
        erased = self.check_artefacts(manifest, ring)
        return Verified(
            name[:ID_DIGITS],
            manifest.events,
            len(manifest.artefacts) - erased,
            erased,
            sum(manifest.part_sizes),
            state,
        )

    def verify_events(self, name: str, manifest: Manifest, ring: KeyRing) -> str:
        """Read and replay all events of a backup; returns ``matches`` or ``other_code``, see Verified."""
        states = States(self._deciders)
        genesis = genesis_hash(manifest.store_id) if manifest.backup_kind == "full" else None
        events, head = 0, ""
        for rows in read_chain(
            self.folder, manifest.segments, ring.opening_keys, store_id=manifest.store_id, genesis=genesis
        ):
            states.apply(rows)
            events += len(rows)
            head = rows[-1].hash.hex()
        if events != manifest.events or (genesis is not None and manifest.head_seq and head != manifest.head_hash):
            raise _does_not_fit(name, "its events do not end where it says")
        if states.code_version != manifest.state_code:
            return "other_code"
        if f"{states.total():064x}" != manifest.state_hash:
            raise _does_not_fit(name, "a replay does not give the state that it tells of")
        return "matches"

    def check_artefacts(self, manifest: Manifest, ring: KeyRing) -> int:
        """Read every artefact through; returns how many were erased on purpose."""
        erased = 0
        for artefact in manifest.artefacts:
            if artefact.key_id in ring.erased:
                erased += 1
                continue
            for _ in read_artefact(self.folder, artefact, ring.opening_keys):
                pass
        return erased

    # --- taking away ---------------------------------------------------------------------------

    def delete(self, names: Sequence[str]) -> Deleted:
        """Delete these backups, and the parts that no other backup names. Raises BackupNotFound."""
        self.folder.require()
        with self.folder.changing():
            present = set(self.folder.manifest_ids())
            for name in names:
                if name not in present:
                    raise BackupNotFound(f"There is no backup {name[:ID_DIGITS]} in {self.folder.path}.")
            return self._delete(names)

    def prune(self, policy: Policy, ring: KeyRing) -> Pruned:
        """Keep what ``policy`` says of this store's backups, and bring the folder under the size cap.

        Above the cap the oldest go first. If the newest full backup alone is above it, it is first written anew in few
        long parts and checked, and only then the old one goes. The newest full backup is never deleted without that.
        """
        self.folder.require()
        with self.folder.changing():
            mine = self.summaries(ring.store_id)
            stay = kept([_dated(one) for one in mine], policy)
            deleted = self._delete([one.name for one in mine if one.backup_id not in stay])
            over_bytes, rewritten = self._over(policy, ring), None
            while over_bytes > 0 and (oldest := self._expendable(ring)) is not None:
                more = self._delete([oldest])
                deleted = Deleted(deleted.deleted + more.deleted, deleted.freed_bytes + more.freed_bytes, more.swept)
                stay.pop(oldest[:ID_DIGITS], None)
                over_bytes = self._over(policy, ring)
            if over_bytes > 0:
                rewritten = self._rewritten(ring)
                over_bytes = self._over(policy, ring)
            return Pruned(deleted, stay, rewritten, max(0, over_bytes))

    def preview_prune(self, policy: Policy, ring: KeyRing) -> tuple[tuple[str, ...], int, int]:
        """The names of those that ``prune`` would delete, what that would free, and what would be above the cap.

        Without what a newest full backup that is written anew would free.
        """
        self.folder.require()
        mine = self.summaries(ring.store_id)
        stay = kept([_dated(one) for one in mine], policy)
        left = [one for one in mine if one.backup_id in stay]
        before, size_bytes = self._size_bytes(mine), self._size_bytes(left)
        while policy.max_size_bytes is not None and size_bytes > policy.max_size_bytes:
            oldest = _oldest_expendable(left)
            if oldest is None:
                break
            left = [one for one in left if one.name != oldest]
            size_bytes = self._size_bytes(left)
        staying = {one.name for one in left}
        over_bytes = 0 if policy.max_size_bytes is None else max(0, size_bytes - policy.max_size_bytes)
        return tuple(one.name for one in mine if one.name not in staying), before - size_bytes, over_bytes

    def shrinkable(self, ring: KeyRing) -> str:
        """The name of the newest full backup, if it took less room in few long parts; else empty."""
        full = [one for one in self.summaries(ring.store_id) if one.header and one.header.backup_kind == "full"]
        return full[0].name if full and would_shrink(full[0]) else ""

    def _rewritten(self, ring: KeyRing) -> str | None:
        """The newest full backup in few long parts, if that helps; the old one goes once the new one is proved."""
        old = self.shrinkable(ring)
        if not old:
            return None
        name = write_anew(self.folder, old, ring)
        self.verify(name, ring)
        self._delete([old])
        return name[:ID_DIGITS]

    def _over(self, policy: Policy, ring: KeyRing) -> int:
        """By how many bytes this store's share of the folder is above the cap."""
        if policy.max_size_bytes is None:
            return 0
        return self._size_bytes(self.summaries(ring.store_id)) - policy.max_size_bytes

    def _size_bytes(self, summaries: Sequence[Summary]) -> int:
        """What these backups take together."""
        sizes = self.folder.object_sizes()
        parts = {part for summary in summaries for part in summary.parts}
        manifests = sum(self.folder.manifest_size(summary.name) for summary in summaries)
        return manifests + sum(sizes.get(part, 0) for part in parts)

    def _expendable(self, ring: KeyRing) -> str | None:
        return _oldest_expendable(self.summaries(ring.store_id))

    def _delete(self, names: Sequence[str]) -> Deleted:
        """The manifests first: from then on the backups are gone, whenever the rest happens."""
        freed_bytes = 0
        for name in names:
            freed_bytes += self.folder.manifest_size(name)
            self.folder.remove_manifest(name)
        swept_bytes = self._sweep()
        ids = tuple(name[:ID_DIGITS] for name in names)
        return Deleted(ids, freed_bytes + (swept_bytes or 0), swept_bytes is not None)

    def _sweep(self) -> int | None:
        """Remove what no backup names; None, and nothing removed, while a manifest cannot be read."""
        summaries = self._summaries()
        if any(summary.header is None for summary in summaries):
            return None
        named = {part for summary in summaries for part in summary.parts}
        freed_bytes = 0
        for part, size_bytes in self.folder.object_sizes().items():
            if part not in named:
                self.folder.remove_object(part)
                freed_bytes += size_bytes
        return freed_bytes

    def summaries(self, store_id: str) -> list[Summary]:
        """The backups of one store that can be read, newest first; needs no key."""
        return [one for one in newest(self._summaries()) if one.header is not None and one.header.store_id == store_id]

    def unreadable(self) -> list[Summary]:
        """The manifests that cannot be read; of what store, kind and time they are, nobody can tell."""
        return [one for one in self._summaries() if one.header is None]

    def _summaries(self) -> list[Summary]:
        found = []
        for name in self.folder.manifest_ids():
            try:
                found.append(read_summary(self.folder, name))
            except BtmdError as error:
                found.append(Summary(name, None, (), error.code))
        return found


def _oldest_expendable(newest_first: Sequence[Summary]) -> str | None:
    """The oldest backup that is not the newest of its kind."""
    newest_of: dict[str, str] = {}
    for summary in newest_first:
        assert summary.header is not None
        newest_of.setdefault(summary.header.backup_kind, summary.name)
    old = [summary.name for summary in newest_first if summary.name not in newest_of.values()]
    return old[-1] if old else None


def copy_backup(source: BackupFolder, target: BackupFolder, name: str) -> None:
    """Bring one backup with its key ring into another folder; parts that are there are not copied again.

    Everything is checked against its checksum on the way. Raises PartMissing, Damaged, Tampered.
    """
    summary = read_summary(source, name)
    assert summary.header is not None
    with target.changing():
        for _, data in source.rings(summary.header.store_id):
            target.place_ring(data)
        for part in summary.parts:
            target.copy_in(source, part)
        target.copy_in(source, name, is_manifest=True)


def _dated(summary: Summary) -> Dated:
    assert summary.header is not None
    return Dated(summary.backup_id, summary.header.backup_kind, summary.header.created_at_us)


def _does_not_fit(name: str, reason: str) -> Tampered:
    return Tampered(
        f"The backup {name[:ID_DIGITS]} was tampered with: {reason}.",
        hint="Use another copy of the backup folder. Nothing was changed.",
    )


__all__ = ["Deleted", "Listed", "Pruned", "Repository", "Verified", "copy_backup"]
