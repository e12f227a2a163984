"""What a backup child does to rebuild a lost or damaged database, without any daemon."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from btmd.backup.artefact_places import bring_artefact_back
from btmd.backup.folder import BackupFolder
from btmd.backup.key_ring import Secret, credential_secret, passphrase_secret
from btmd.backup.keys import read_key_file, recovery_secret
from btmd.backup.perform import NOUNS, Progress, keys_of, perform
from btmd.backup.private_files import read_private
from btmd.backup.recover import Recovered, recover
from btmd.backup.requests import ArtefactProblem, RecoveredAnswer, RecoverRequest, ShownOmission
from btmd.errors import BtmdError, DatabaseWhole, NotPermitted
from btmd.state_folder import claim
from btmd.store.connection import connect_reader
from btmd.store.reader import read_head
from btmd.store.recorded import Head
from btmd.store.verification import verify_log, verify_tail

DATABASE, LOCK = "btmd.db", "btmd.lock"


@perform.register
def _recover(request: RecoverRequest, progress: Progress) -> RecoveredAnswer:
    state_dir = Path(request.state_dir)
    _require_owner(state_dir)
    secret = _secret(request)
    folder, backup_id = _place_of(Path(request.folder), request.backup_id)
    BackupFolder(folder).require()
    lock = claim(state_dir, state_dir / LOCK)
    try:
        database = state_dir / DATABASE
        head = _whole_head(database)
        if head is not None and not request.replace:
            raise DatabaseWhole(
                f"{database} holds {head.seq} events and is not damaged; what came after the backup would be gone.",
                hint="`btmctl restore` brings an earlier state back without that. --yes rebuilds it all the same.",
            )
        progress(0.1, "Reading the backup through and rebuilding the database")
        recovered = recover(
            database,
            folder,
            secret,
            keys_of(request),
            NOUNS,
            now_us=request.now_us,
            backup_id=backup_id,
            store_id=request.store_id or None,
        )
        brought, problems = _bring_artefacts_back(BackupFolder(folder), recovered, state_dir, progress)
    finally:
        os.close(lock)
    manifest = recovered.manifest
    return RecoveredAnswer(
        backup_id=recovered.backup_id,
        created_at_us=manifest.created_at_us,
        store_id=manifest.store_id,
        epoch=recovered.head.epoch,
        head_seq=recovered.head.seq,
        events=manifest.events,
        artefacts=brought,
        kept=None if recovered.kept is None else str(recovered.kept),
        problems=tuple(problems),
        omissions=tuple(ShownOmission(one.what, one.count, one.size_bytes, one.then) for one in manifest.omissions),
        unopened=recovered.unopened,
        unreadable=recovered.unreadable,
    )


def _require_owner(state_dir: Path) -> None:
    """Files that root makes in somebody's folder could not be opened by the daemon they are for."""
    owner = state_dir.stat().st_uid if state_dir.exists() else os.geteuid()
    if owner != os.geteuid():
        raise NotPermitted(
            f"{state_dir} belongs to the user {owner}.", hint=f"Run it as that user: sudo -u '#{owner}'."
        )


def _secret(request: RecoverRequest) -> Secret:
    match request.secret_kind:
        case "recovery_key":
            return recovery_secret(request.secret)
        case "passphrase":
            return passphrase_secret(request.secret)
        case "credential":
            return credential_secret(read_private(Path(request.secret)))
    return read_key_file(Path(request.secret))


def _place_of(given: Path, backup_id: str | None) -> tuple[Path, str | None]:
    """The backup folder, and the backup, that a path means."""
    if given.is_file() and given.parent.name == "manifests":
        return given.parent.parent, backup_id or given.name
    if not (given / "manifests").is_dir() and (given / "backups" / "manifests").is_dir():
        return given / "backups", backup_id
    return given, backup_id


def _whole_head(database: Path) -> Head | None:
    """The head of a database whose log is whole, of whatever version; None where there is none or it is damaged."""
    if not database.exists():
        return None
    try:
        with closing(connect_reader(database)) as reader:
            verify_tail(reader)
            return read_head(reader) if verify_log(reader).ok else None
    except (sqlite3.Error, OSError, BtmdError, TypeError, ValueError, OverflowError):
        # Whatever cannot be read is what a recovery is for; the file is kept beside the new one.
        return None


def _bring_artefacts_back(
    folder: BackupFolder, recovered: Recovered, state_dir: Path, progress: Progress
) -> tuple[int, list[ArtefactProblem]]:
    """Files of the backup into the state folder; those that cannot be read are named, and the others come back."""
    brought, problems, artefacts = 0, list[ArtefactProblem](), recovered.manifest.artefacts
    for number, stored in enumerate(artefacts):
        if stored.key_id in recovered.ring.erased:
            continue
        progress(0.5 + 0.5 * number / len(artefacts), f"Bringing back {stored.name} of {stored.owner}")
        try:
            bring_artefact_back(folder, stored, recovered.ring, state_dir)
            brought += 1
        except BtmdError as error:
            problems.append(ArtefactProblem(f"{stored.name} of {stored.owner}", error.code, error.detail))
    return brought, problems
