"""A segment: a range of the log's rows in one sealed file.

The header says, readable without a key and bound to the content: which store and epoch, which range, how many rows, the
hash before the first row and the hash of the last one, the segment before it, the database's version, and whether every
row of the range is in it.
"""

import base64
import os
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec
import zstandard

from btmd.backup.folder import BackupFolder
from btmd.backup.sealed_file import Sealed, open_sealed
from btmd.errors import Damaged, Tampered
from btmd.store.recorded import Recorded
from btmd.store.row_columns import unpack_rows

FORMAT = 1
MAX_ROWS = 25_000
MAX_DATA_BYTES = 16 << 20
SMALL_BYTES = 256 << 10

# Rows are mostly random digits with the same few words between them: above the small size the lowest level is
# smaller *and* three times faster than those up to 12 (100,000 events: 7.7 MB against 8.4 to 9.1).
_SMALL = zstandard.ZstdCompressor(level=19, write_checksum=True)
_LARGE_LEVEL = 1

_DATA = attrgetter("data_json")


class SegmentHeader(msgspec.Struct, frozen=True):
    """See the module. ``previous`` is empty for a chain's first segment; hashes are base64."""

    kind: str
    format: int
    key_id: str
    store_id: str
    epoch: int
    first_seq: int
    last_seq: int
    count: int
    prev_hash: str
    last_hash: str
    previous: str
    schema: int
    whole: bool


def write_segment(
    folder: BackupFolder,
    rows: Sequence[Recorded],
    packed: bytes,
    *,
    store_id: str,
    key_id: str,
    key: bytes,
    previous: str,
    schema: int,
    whole: bool,
) -> Sealed:
    """Put ``rows`` (in order, at least one), ``packed`` by `pack_rows`, into a segment file that follows ``previous``.

    Nearly all of it is done without Python's lock: another thread can pack meanwhile.
    """
    header = SegmentHeader(
        kind="segment",
        format=FORMAT,
        key_id=key_id,
        store_id=store_id,
        epoch=rows[-1].epoch,
        first_seq=rows[0].seq,
        last_seq=rows[-1].seq,
        count=len(rows),
        prev_hash=_short(rows[0].prev_hash),
        last_hash=_short(rows[-1].hash),
        previous=_short(bytes.fromhex(previous)),
        schema=schema,
        whole=whole,
    )
    if len(packed) <= SMALL_BYTES:
        body = _SMALL.compress(packed)
    else:
        threads = min(4, os.cpu_count() or 1)
        body = zstandard.ZstdCompressor(level=_LARGE_LEVEL, write_checksum=True, threads=threads).compress(packed)
    return folder.put_object(msgspec.to_builtins(header), key, [body])


def read_segment(folder: BackupFolder, name: str, keys: Mapping[str, bytes]) -> tuple[SegmentHeader, list[Recorded]]:
    """The rows, bit for bit as they were recorded. Raises PartMissing, Damaged, Tampered, WrongKey."""
    with folder.open(name) as file:
        prologue, blocks = open_sealed(file, name, keys)
        body = b"".join(blocks)
    header = _header(prologue.header, name)
    try:
        packed = zstandard.ZstdDecompressor().decompress(body)
    except zstandard.ZstdError as error:
        raise Damaged(f"The backup's part {name[:12]} cannot be unpacked.", hint="Use another backup.") from error
    rows = unpack_rows(packed)
    found = (len(rows), rows[0].seq, rows[-1].seq, _short(rows[0].prev_hash), _short(rows[-1].hash)) if rows else ()
    if found != (header.count, header.first_seq, header.last_seq, header.prev_hash, header.last_hash):
        raise _does_not_fit(name, "its rows are not those that its header tells of")
    if header.whole and header.count != header.last_seq - header.first_seq + 1:
        raise _does_not_fit(name, "rows of its range are missing")
    return header, rows


def read_chain(
    folder: BackupFolder, names: Sequence[str], keys: Mapping[str, bytes], *, store_id: str, genesis: bytes | None
) -> Iterator[list[Recorded]]:
    """The rows of all segments, one segment at a time, each link checked before its rows are given out.

    ``genesis`` is the hash before the store's first row, where every row must be there (None: selected streams).
    """
    previous, seq, digest = "", 0, genesis
    for name in names:
        header, rows = read_segment(folder, name, keys)
        if header.store_id != store_id:
            raise _does_not_fit(name, "it belongs to another store")
        if header.previous != _short(bytes.fromhex(previous)) or header.first_seq <= seq:
            raise _does_not_fit(name, "it does not follow the part before it")
        if genesis is not None and (not header.whole or rows[0].prev_hash != digest or rows[0].seq != seq + 1):
            raise _does_not_fit(name, "its rows do not follow those of the part before it")
        yield rows
        previous, seq, digest = name, rows[-1].seq, rows[-1].hash


def parts_of(pages: Iterator[list[Recorded]]) -> Iterator[list[Recorded]]:
    """Rows as they are read, in portions for one segment each."""
    held: list[Recorded] = []
    size_bytes = 0
    for page in pages:
        held += page
        size_bytes += sum(map(len, map(_DATA, page)))
        while len(held) >= MAX_ROWS:
            yield held[:MAX_ROWS]
            held, size_bytes = held[MAX_ROWS:], 0
        if size_bytes >= MAX_DATA_BYTES:
            yield held
            held, size_bytes = [], 0
    if held:
        yield held


def _header(found: dict[str, Any], name: str) -> SegmentHeader:
    try:
        header = msgspec.convert(found, SegmentHeader)
    except msgspec.ValidationError as error:
        raise _does_not_fit(name, "it is no segment") from error
    if header.kind != "segment" or header.format != FORMAT:
        raise _does_not_fit(name, "it is no segment that this btmd knows")
    return header


def _short(digest: bytes) -> str:
    return base64.b64encode(digest).decode().rstrip("=")


def _does_not_fit(name: str, reason: str) -> Tampered:
    return Tampered(
        f"The backup's part {name[:12]} was tampered with: {reason}.",
        hint="Do not trust this folder; use another copy of the backup. Nothing was changed.",
    )
