"""Heads of the log that were kept outside of it: in backups, in the journal, by a person; and what became of them."""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from btmd.backup.folder import BackupFolder
from btmd.backup.key_ring import KeyRing
from btmd.backup.manifests import Summary, read_manifest, read_summary
from btmd.errors import BtmdError
from btmd.store.reader import read_head, read_log

Fate = Literal["same", "missing", "differs", "not_comparable"]


class KnownHead(msgspec.Struct, frozen=True):
    """The log ended with event ``seq`` once. ``hash`` (hex) is empty and ``epoch`` 0 where they are not known."""

    source: str
    seq: int
    hash: str = ""
    epoch: int = 0
    store_id: str = ""


class ComparedHead(msgspec.Struct, frozen=True):
    """``missing``: the log ends before it; ``not_comparable``: the log was made anew from something older since."""

    source: str
    seq: int
    fate: Fate


def heads_in(folder: Path, store_id: str, ring: KeyRing | None) -> list[KnownHead]:
    """What the backups of the store tell; without a key only how far the log went. What cannot be read is left out."""
    found = []
    place = BackupFolder(folder)
    try:
        names = place.manifest_ids()
    except (BtmdError, OSError):
        # A stick that is not there tells nothing; `backup verify` says what is wrong with a folder that is.
        return []
    for name in names:
        try:
            summary = read_summary(place, name)
        except BtmdError:
            continue
        if summary.header is None or summary.header.store_id != store_id:
            continue
        source = f"backup {summary.backup_id} in {folder}"
        found.append(
            KnownHead(source, summary.header.head_seq, _hash_of(place, summary, ring), summary.header.epoch, store_id)
        )
    return found


def compare_heads(connection: sqlite3.Connection, store_id: str, known: Iterable[KnownHead]) -> list[ComparedHead]:
    """Look each head of this store up in the log; those of other stores are left out."""
    end = read_head(connection)
    return [
        ComparedHead(one.source, one.seq, _fate(connection, end.seq, end.epoch, one))
        for one in known
        if one.store_id in ("", store_id) and one.seq > 0
    ]


def first_fault(compared: Sequence[ComparedHead], head_seq: int) -> tuple[int | None, str] | None:
    """The first bad event, where it can be named, and what is wrong; None where every head is where it was."""
    differing = [one for one in compared if one.fate == "differs"]
    if differing:
        first = min(differing, key=lambda one: one.seq)
        return None, f"event {first.seq} is not the one that the {first.source} tells of: the log was rewritten"
    missing = [one for one in compared if one.fate == "missing"]
    if missing:
        last = max(missing, key=lambda one: one.seq)
        return head_seq + 1, f"the log ends with event {head_seq}, but the {last.source} tells of event {last.seq}"
    return None


def _hash_of(place: BackupFolder, summary: Summary, ring: KeyRing | None) -> str:
    if ring is None:
        return ""
    try:
        return read_manifest(place, summary.name, ring.opening_keys).head_hash
    except BtmdError:
        return ""


def _fate(connection: sqlite3.Connection, end_seq: int, end_epoch: int, known: KnownHead) -> Fate:
    if known.seq > end_seq:
        return "not_comparable" if known.epoch and known.epoch < end_epoch else "missing"
    rows = read_log(connection, known.seq - 1, limit=1, upto=known.seq)
    if rows and known.epoch and rows[0].epoch > known.epoch:
        return "not_comparable"
    if not rows or (known.hash and rows[0].hash.hex() != known.hash):
        return "differs"
    return "same"
