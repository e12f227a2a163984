"""Proving that a backup can be restored: by doing it, in a temporary place."""

import time
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from btmd.backup.key_ring import KeyRing
from btmd.backup.manifests import ID_DIGITS, newest, read_manifest
from btmd.backup.recover import rebuild_backup
from btmd.backup.repository import Repository
from btmd.backup.states import States
from btmd.domain.decider import Decider
from btmd.errors import BackupNotFound, BtmdError
from btmd.store.connection import connect_reader
from btmd.store.reader import pages


class DrillResult(msgspec.Struct, frozen=True):
    """How a drill went. ``code`` and ``detail`` are those of the error where it was not proved.

    ``state``: ``matches``, ``differs``, ``other_code`` (the log is whole, but another btmd made the fingerprint), or
    ``unknown`` where it did not come so far.
    """

    backup_id: str
    proved: bool
    started_at_us: int
    duration_us: int
    events: int
    head_seq: int
    head_hash: str
    state: str
    code: str = ""
    detail: str = ""


def drill(
    repository: Repository,
    ring: KeyRing,
    deciders: Iterable[Decider],
    tmp: Path,
    *,
    now_us: int,
    backup_id: str | None = None,
) -> DrillResult:
    """Rebuild the newest full backup (or the one named) under ``tmp``, replay it, compare the state's fingerprint.

    What is wrong with the backup is told in the result. Raises BackupNotFound where there is none.
    """
    if backup_id is None:
        found = newest(repository.summaries(ring.store_id), "full")
        if not found:
            raise BackupNotFound("There is no full backup to prove.", hint="`btmctl backup create` makes one.")
        name = found[0].name
    else:
        name = repository.find(backup_id)
    began_ns = time.monotonic_ns()
    outcome = DrillResult(name[:ID_DIGITS], False, now_us, 0, 0, 0, "", "unknown")
    try:
        with TemporaryDirectory(dir=tmp, prefix="drill-") as place:
            outcome = _rebuilt(repository, ring, tuple(deciders), Path(place), name, now_us)
    except BtmdError as error:
        outcome = msgspec.structs.replace(outcome, code=error.code, detail=error.detail)
    return msgspec.structs.replace(outcome, duration_us=(time.monotonic_ns() - began_ns) // 1000)


def _rebuilt(
    repository: Repository, ring: KeyRing, deciders: tuple[Decider, ...], place: Path, name: str, now_us: int
) -> DrillResult:
    manifest = read_manifest(repository.folder, name, ring.opening_keys)
    aside = place / "btmd.db"
    head = rebuild_backup(repository.folder, manifest, ring, aside, new_epoch=manifest.epoch + 1, now_us=now_us)
    states = States(deciders)
    events = 0
    connection = connect_reader(aside)
    try:
        for page in pages(connection):
            states.apply(page)
            events += len(page)
    finally:
        connection.close()
    repository.check_artefacts(manifest, ring)
    if states.code_version != manifest.state_code:
        state = "other_code"
    else:
        state = "matches" if f"{states.total():064x}" == manifest.state_hash else "differs"
    differs = state == "differs"
    return DrillResult(
        backup_id=name[:ID_DIGITS],
        proved=not differs,
        started_at_us=now_us,
        duration_us=0,
        events=events,
        head_seq=head.seq,
        head_hash=head.hash.hex(),
        state=state,
        code="state_differs" if differs else "",
        detail="A replay of the backup does not give the state that was backed up." if differs else "",
    )
