"""Condensed ticks: many rows as one compressed block, lossless and hash-linked.

The body of encoding ``columns-zstd-1`` is a zstd frame with checksum over the columns that
``btmd/store/row_columns.py`` describes. A segment's hash is SHA-256 over the 32 bytes of the segment before it (zeros
for the first), the JSON array ``[first_seq, last_seq, row_count, encoding]`` without white space, and the body.

Most processes read logs without a segment in them, so that zstandard is imported with the first one.
"""

import hashlib
from collections.abc import Sequence

import msgspec

from btmd.errors import Damaged
from btmd.store.errors import SegmentDamaged, SegmentTampered
from btmd.store.recorded import Recorded

ENCODING = "columns-zstd-1"
FIRST_PREV_HASH = bytes(32)
LEVEL = 12


class Segment(msgspec.Struct, frozen=True):
    """One row of the table ``segments``, but for the event that announces it."""

    first_seq: int
    last_seq: int
    row_count: int
    encoding: str
    body: bytes
    prev_hash: bytes
    hash: bytes


def pack(rows: Sequence[Recorded], prev_hash: bytes = FIRST_PREV_HASH) -> Segment:
    """Condense ``rows``, all the ticks from the first to the last of them in the order of ``seq``.

    Raises Damaged for a row that its hash does not fit.
    """
    import zstandard

    from btmd.store.row_columns import pack_rows

    body = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(pack_rows(rows))
    first_seq, last_seq = rows[0].seq, rows[-1].seq
    linked = _segment_hash(prev_hash, first_seq, last_seq, len(rows), ENCODING, body)
    return Segment(first_seq, last_seq, len(rows), ENCODING, body, prev_hash, linked)


def unpack(segment: Segment) -> list[Recorded]:
    """The rows again, exactly. Raises SegmentDamaged; SegmentTampered for a sound body that does not fit its hash."""
    import zstandard

    from btmd.store.row_columns import unpack_rows

    where = f"The condensed ticks {segment.first_seq} to {segment.last_seq}"
    if segment.encoding != ENCODING:
        raise SegmentDamaged(
            segment.first_seq, f"{where} have the unknown encoding {segment.encoding}.", hint="Use the newest btmd."
        )
    try:
        rows = unpack_rows(zstandard.ZstdDecompressor().decompress(segment.body))
    except (zstandard.ZstdError, Damaged) as error:
        raise SegmentDamaged(segment.first_seq, f"{where} cannot be unpacked.") from error
    found = (rows[0].seq, rows[-1].seq, len(rows)) if rows else ()
    computed = _segment_hash(
        segment.prev_hash, segment.first_seq, segment.last_seq, segment.row_count, segment.encoding, segment.body
    )
    if computed != segment.hash or found != (segment.first_seq, segment.last_seq, segment.row_count):
        # The frame's own checksum fits, so no bit of it rotted.
        raise SegmentTampered(segment.first_seq, f"{where} are not those that were condensed.")
    return rows


def _segment_hash(prev_hash: bytes, first_seq: int, last_seq: int, row_count: int, encoding: str, body: bytes) -> bytes:
    described = msgspec.json.encode([first_seq, last_seq, row_count, encoding])
    return hashlib.sha256(prev_hash + described + body).digest()
