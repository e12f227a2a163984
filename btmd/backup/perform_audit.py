"""What a backup child does to audit the log: walk it read-only, and compare it with the heads that others keep."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from btmd.backup.key_ring import KeyRing, open_ring, public_key, sign
from btmd.backup.known_heads import KnownHead, compare_heads, first_fault, heads_in
from btmd.backup.perform import Progress, keys_of, perform
from btmd.backup.private_files import read_private
from btmd.backup.requests import AuditAnswer, AuditRequest, SealAnswer, SealRequest
from btmd.errors import BtmdError, Damaged, FileMissing, WrongKey
from btmd.store.audit import audit_log
from btmd.store.connection import connect_reader, storage_error, unreadable
from btmd.store.reader import read_head

EXPORT = "btmd audit export 1"


@perform.register
def _audit(request: AuditRequest, progress: Progress) -> AuditAnswer:
    database = Path(request.database)
    if not database.exists():
        raise FileMissing(f"There is no database at {database}.", hint="Name its folder with --state-dir.")
    progress(0.0, "Checking every event")
    try:
        with closing(connect_reader(database)) as connection:
            return _audited(connection, request)
    except sqlite3.Error as error:
        raise storage_error(error) from error
    except (TypeError, ValueError, OverflowError) as error:
        raise unreadable(error) from error


def _audited(connection: sqlite3.Connection, request: AuditRequest) -> AuditAnswer:
    meta = connection.execute("SELECT store_id FROM meta").fetchone()
    if meta is None:
        raise Damaged("The database has no head: it is not whole.", hint="Restore it from a backup.")
    store_id: str = meta[0]
    head = read_head(connection)
    found = audit_log(connection, head)
    ring = _ring(request)
    known = [KnownHead(*msgspec.structs.astuple(one)) for one in request.known]
    for folder in dict.fromkeys((request.folder, *request.folders)):
        known += heads_in(Path(folder), store_id, ring)
    compared = compare_heads(connection, store_id, known)
    verdict, first_bad, reason = found.verdict, found.first_bad, found.reason
    fault = first_fault(compared, head.seq)
    if verdict == "ok" and fault is not None:
        verdict, (first_bad, reason) = "tampered", fault
    return AuditAnswer(
        verdict=verdict,
        checked=found.checked,
        first_bad=first_bad,
        reason=reason,
        store_id=store_id,
        epoch=head.epoch,
        head_seq=found.head_seq,
        head_hash=found.head_hash,
        compared=tuple((one.source, one.seq, one.fate) for one in compared),
        public_key="" if ring is None or ring.store_id != store_id else public_key(ring).hex(),
    )


@perform.register
def _seal(request: SealRequest, progress: Progress) -> SealAnswer:
    keys = keys_of(request)
    ring = open_ring(read_private(keys.ring_path), keys.secret())
    if ring.store_id != request.store_id:
        raise WrongKey("The keys here belong to another store.", hint="`btmctl backup key list` says more.")
    return SealAnswer(public_key(ring).hex(), sign(ring, EXPORT, request.digest.encode()).hex())


def _ring(request: AuditRequest) -> KeyRing | None:
    """The keys, where they are there and fit: without them backups still tell how far the log went."""
    keys = keys_of(request)
    # Opened by the ring itself and not by the keys: an audit writes nothing, and finishes no rotation either.
    with suppress(BtmdError, OSError):
        return open_ring(read_private(keys.ring_path), keys.secret())
    return None
