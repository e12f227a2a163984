"""Making a backup: only what is new since the newest one of its kind, and whole again where that one cannot be used."""

import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from operator import attrgetter
from pathlib import Path

import msgspec

from btmd import __version__
from btmd.backup.artefacts import Artefact, store_artefact
from btmd.backup.components import chosen, left_out, rows_of
from btmd.backup.folder import BackupFolder
from btmd.backup.key_ring import KeyRing, absorb, open_ring
from btmd.backup.key_ring import read_head as read_ring_head
from btmd.backup.keys import Keys
from btmd.backup.manifests import (
    BackupKind,
    Manifest,
    Omission,
    StoredArtefact,
    Summary,
    newest,
    read_manifest,
    write_manifest,
)
from btmd.backup.private_files import read_private
from btmd.backup.row_check import FROM_ROWS, RowCheck
from btmd.backup.sealed_file import Sealed, read_prologue
from btmd.backup.segments import MAX_ROWS, parts_of, write_segment
from btmd.backup.states import States, advanced
from btmd.domain.decider import Decider
from btmd.errors import BtmdError, WrongKey
from btmd.store.reader import read_head, read_log, read_stream
from btmd.store.recorded import Recorded
from btmd.store.row_columns import pack_rows

MAX_SEGMENTS = 64
"""A chain that is longer has its short segments written anew as long ones."""

BASE_CANDIDATES = 5
_SEQ = attrgetter("seq")


class BackupRequest(msgspec.Struct, frozen=True):
    """What to back up. ``cause``: manual, schedule, or before which operation; ``only`` names components.

    ``omissions``: contents that exist and are not in ``artefacts``. ``anew``: build on no earlier backup.
    """

    backup_kind: BackupKind = "full"
    description: str = ""
    cause: str = "manual"
    only: tuple[str, ...] = ()
    artefacts: tuple[Artefact, ...] = ()
    omissions: tuple[Omission, ...] = ()
    anew: bool = False


class Created(msgspec.Struct, frozen=True):
    """``written_bytes`` is what this backup added to the folder. ``rewritten_log`` names earlier backups of this epoch
    whose newest event the log does not hold: somebody put another log in its place."""

    name: str
    manifest: Manifest
    new_events: int
    written_bytes: int
    rewritten_log: tuple[str, ...] = ()


class _Base(msgspec.Struct, frozen=True):
    """What a new backup builds on."""

    segments: tuple[str, ...] = ()
    """Taken over as they are; rows after ``written_seq`` are written."""
    sizes: tuple[int, ...] = ()
    events: int = 0
    written_seq: int = 0
    head_seq: int = 0
    """Where the earlier backup ended, with the state's fingerprint there (None: made by other code)."""
    state: int | None = 0


class Creation:
    """One backup being made; :meth:`run` in the folder's lock."""

    def __init__(
        self,
        folder: BackupFolder,
        keys: Keys,
        ring: KeyRing,
        deciders: Sequence[Decider],
        database: Path,
        connection: sqlite3.Connection,
        request: BackupRequest,
        now_us: int,
    ) -> None:
        self._folder = folder
        self._keys = keys
        self._ring = ring
        self._database = database
        self._connection = connection
        self._request = request
        self._now_us = now_us
        self._components = chosen(request.backup_kind, request.only)
        self._deciders = deciders
        self._schema = connection.execute("PRAGMA user_version").fetchone()[0]
        self._store_created_at_us = connection.execute("SELECT created_at FROM meta").fetchone()[0]
        self._head = read_head(connection)
        self._sizes: dict[str, int] = {}
        self._events = 0
        self._new_events = 0
        self._code_version = States(deciders).code_version
        self._rewritten: list[str] = []

    def run(self, summaries: Sequence[Summary]) -> Created:
        """Segments, artefacts, then the manifest: killed before that, there is no new backup and the old ones stand."""
        self._place_ring()
        base = self._base(summaries)
        known_artefacts = self._known_artefacts(summaries)
        segments, state = self._write_checked_rows(base)
        artefacts = self._write_artefacts(known_artefacts)
        parts = tuple(dict.fromkeys((*segments, *(artefact.object_id for artefact in artefacts))))
        sizes = dict(zip(base.segments, base.sizes, strict=False)) | self._sizes
        written_bytes = sum(self._sizes.values())
        object_sizes = self._folder.object_sizes() if any(part not in sizes for part in parts) else {}
        manifest = Manifest(
            backup_kind=self._request.backup_kind,
            created_at_us=self._now_us,
            description=self._request.description,
            cause=self._request.cause,
            store_id=self._ring.store_id,
            store_created_at_us=self._store_created_at_us,
            epoch=self._head.epoch,
            head_seq=self._head.seq,
            head_hash=self._head.hash.hex(),
            events=base.events + self._events,
            segments=tuple(segments),
            part_sizes=tuple(sizes[part] if part in sizes else object_sizes[part] for part in parts),
            state_hash=f"{state:064x}",
            state_code=self._code_version,
            components=self._components,
            artefacts=tuple(artefacts),
            omissions=(*self._request.omissions, *left_out(self._components)),
            btmd_version=__version__,
            schema=self._schema,
        )
        name = write_manifest(self._folder, manifest, key_id=self._ring.current, key=self._ring.current_key)
        written_bytes += self._folder.manifest_size(name)
        return Created(name, manifest, self._new_events, written_bytes, tuple(self._rewritten))

    def _place_ring(self) -> None:
        """With every key that this backup will use, and before it: no backup without its keys."""
        for artefact in self._request.artefacts:
            if artefact.dataset_id is not None:
                self._keys.dataset_key(self._ring, artefact.dataset_id, self._now_us)
        known = str(self._folder.path.absolute())
        changed = self._absorb_rings()
        if known not in self._ring.folders:
            self._ring.folders.append(known)
            changed = True
        if changed:
            self._keys.save(self._ring)
        self._folder.place_ring(read_private(self._keys.ring_path))

    def _absorb_rings(self) -> bool:
        """Take over keys from rings in the folder that are not older copies of ours. Raises WrongKey."""
        mine = read_ring_head(read_private(self._keys.ring_path))
        changed = False
        for head, data in self._folder.readable_rings(self._ring.store_id)[0]:
            same = head.signer == mine.signer
            if head == mine or (same and head.generation < mine.generation):
                continue
            try:
                changed = absorb(self._ring, open_ring(data, self._keys.secret())) or changed
            except WrongKey:
                # Rings of a time before a lost key stay as they are; a newer copy of ours must not be written over.
                if same:
                    raise
        return changed

    # --- what to build on ----------------------------------------------------------------------

    def _base(self, summaries: Sequence[Summary]) -> _Base:
        mine = [one for one in newest(summaries, self._request.backup_kind) if self._is_mine(one)]
        sizes: dict[str, int] | None = None
        for summary in mine[:BASE_CANDIDATES]:
            try:
                manifest = read_manifest(self._folder, summary.name, self._ring.opening_keys)
            except BtmdError:
                # Named by `verify`; a new backup must not depend on it.
                continue
            if manifest.components != self._components:
                continue
            if not self._holds(manifest):
                if manifest.epoch == self._head.epoch:
                    self._rewritten.append(summary.backup_id)
                continue
            sizes = self._folder.object_sizes() if sizes is None else sizes
            if self._request.anew or not _is_whole(manifest, sizes):
                continue
            return self._shortened(manifest)
        return _Base()

    def _is_mine(self, summary: Summary) -> bool:
        return summary.header is not None and summary.header.store_id == self._ring.store_id

    def _holds(self, manifest: Manifest) -> bool:
        """Whether the log goes on from where the backup ended."""
        if manifest.head_seq == 0:
            return True
        row = read_log(self._connection, manifest.head_seq - 1, limit=1, upto=manifest.head_seq)
        return bool(row) and row[0].hash.hex() == manifest.head_hash

    def _shortened(self, manifest: Manifest) -> _Base:
        """The backup's segments, without the short ones at the end where there are too many."""
        state = int(manifest.state_hash, 16) if manifest.state_code == self._code_version else None
        keep, events, written_seq = len(manifest.segments), manifest.events, manifest.head_seq
        if keep >= MAX_SEGMENTS:
            keep = events = written_seq = 0
            for name in manifest.segments:
                with self._folder.open(name) as file:
                    header = read_prologue(file, name).header
                if header["count"] < MAX_ROWS // 2:
                    break
                keep, events, written_seq = keep + 1, events + header["count"], header["last_seq"]
        return _Base(
            segments=manifest.segments[:keep],
            sizes=manifest.part_sizes[:keep],
            events=events,
            written_seq=written_seq,
            head_seq=manifest.head_seq,
            state=state,
        )

    # --- rows ----------------------------------------------------------------------------------

    def _write_checked_rows(self, base: _Base) -> tuple[list[str], int]:
        """As ``_write_rows``; many rows are checked in another process meanwhile. Raises Damaged."""
        if self._request.backup_kind != "full" or self._head.seq - base.written_seq < FROM_ROWS:
            return self._write_rows(base)
        with RowCheck(self._database, base.written_seq, self._head.seq) as check:
            written = self._write_rows(base, checked=True)
            check.require_sound()
        return written

    def _write_rows(self, base: _Base, *, checked: bool = False) -> tuple[list[str], int]:
        """Write what is new; returns all segments and the state's fingerprint."""
        segments = list(base.segments)
        from_nothing = base.written_seq == 0 and base.state in (None, 0)
        states = States(self._deciders) if from_nothing else None
        touched: set[str] = set()
        # One segment is compressed, sealed and written while the next one is read and packed.
        with ThreadPoolExecutor(1) as beside:
            writing: list[Future[Sealed]] = []
            for rows in parts_of(self._rows(base.written_seq)):
                packed = pack_rows(rows, checked=checked)
                self._take_written(writing, segments)
                previous = segments[-1] if segments else ""
                writing.append(beside.submit(self._write_segment, rows, packed, previous))
                self._events += len(rows)
                self._new_events += len(rows) - bisect_right(rows, base.head_seq, key=_SEQ)
                if states is not None:
                    states.apply(rows)
                else:
                    touched.update(row.stream for row in rows if row.seq > base.head_seq)
            self._take_written(writing, segments)
        if states is not None:
            return segments, states.total()
        if base.state is None:
            return segments, self._state_anew()
        return segments, self._state_advanced(base.state, base.head_seq, touched)

    def _take_written(self, writing: list[Future[Sealed]], segments: list[str]) -> None:
        """Wait for the segment that is being written, if one is; its name goes to the end of ``segments``."""
        while writing:
            sealed = writing.pop().result()
            segments.append(sealed.id)
            self._sizes[sealed.id] = sealed.size_bytes

    def _write_segment(self, rows: list[Recorded], packed: bytes, previous: str) -> Sealed:
        return write_segment(
            self._folder,
            rows,
            packed,
            store_id=self._ring.store_id,
            key_id=self._ring.current,
            key=self._ring.current_key,
            previous=previous,
            schema=self._schema,
            whole=self._request.backup_kind == "full",
        )

    def _rows(self, after: int) -> Iterator[list[Recorded]]:
        kind = self._request.backup_kind
        return rows_of(self._connection, kind, self._components, after=after, upto=self._head.seq)

    def _state_anew(self) -> int:
        states = States(self._deciders)
        for page in self._rows(0):
            states.apply(page)
        return states.total()

    def _state_advanced(self, before: int, after_seq: int, touched: Iterable[str]) -> int:
        known = States(self._deciders)
        streams = {
            stream: [row for row in read_stream(self._connection, stream) if row.seq <= self._head.seq]
            for stream in touched
            if known.has_state(stream)
        }
        return advanced(before, self._deciders, streams, after_seq=after_seq)

    # --- artefacts -----------------------------------------------------------------------------

    def _known_artefacts(self, summaries: Sequence[Summary]) -> dict[tuple[str, str | None], str]:
        """By content and dataset, the objects of earlier backups that hold it: nothing is kept twice."""
        known: dict[tuple[str, str | None], str] = {}
        if not self._request.artefacts or self._request.anew:
            return known
        sizes = self._folder.object_sizes()
        for summary in summaries:
            if not self._is_mine(summary):
                continue
            try:
                manifest = read_manifest(self._folder, summary.name, self._ring.opening_keys)
            except BtmdError:
                continue
            for artefact, size_bytes in zip(manifest.artefacts, manifest.artefact_sizes, strict=True):
                held = self._ring.keys.get(artefact.key_id)
                if held is not None and sizes.get(artefact.object_id) == size_bytes:
                    known[artefact.content_sha256, held.dataset_id] = artefact.object_id
        return known

    def _write_artefacts(self, known: dict[tuple[str, str | None], str]) -> list[StoredArtefact]:
        stored = []
        for artefact in self._request.artefacts:
            there = known.get((artefact.content_sha256, artefact.dataset_id))
            key_id = self._key_for(artefact)
            if there is None:
                key = self._ring.keys[key_id].key
                sealed = store_artefact(self._folder, artefact, key_id=key_id, key=key)
                there = known[artefact.content_sha256, artefact.dataset_id] = sealed.id
                self._sizes[there] = sealed.size_bytes
            elif artefact.dataset_id is None:
                with self._folder.open(there) as file:
                    key_id = read_prologue(file, there).header["key_id"]
            stored.append(
                StoredArtefact(
                    artefact.kind,
                    artefact.owner,
                    artefact.name,
                    artefact.content_sha256,
                    artefact.size_bytes,
                    there,
                    key_id,
                )
            )
        return stored

    def _key_for(self, artefact: Artefact) -> str:
        if artefact.dataset_id is None:
            return self._ring.current
        key_id = self._ring.dataset_key_id(artefact.dataset_id)
        assert key_id is not None, "made before the ring was placed in the folder"
        return key_id


def _is_whole(manifest: Manifest, sizes: dict[str, int]) -> bool:
    """Whether every part is there in its full size; what is inside is for `verify`."""
    parts = zip(manifest.parts, manifest.part_sizes, strict=True)
    return all(sizes.get(part) == size_bytes for part, size_bytes in parts if part in manifest.segments)
