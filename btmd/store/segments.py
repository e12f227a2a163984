"""Condensed ticks: many rows as one compressed block, lossless and hash-linked.

The body of encoding ``json-zstd-1`` is a zstd frame with checksum over a JSON array of rows, each an array of the
values of ``COLUMNS`` in order with both hashes as lower-case hex. A segment's hash is SHA-256 over the 32 bytes of the
segment before it (zeros for the first), the JSON array ``[first_seq, last_seq, row_count, encoding]`` without white
space, and the body.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import zstandard

from btmd.errors import Damaged
from btmd.store.recorded import Recorded

ENCODING = "json-zstd-1"
FIRST_PREV_HASH = bytes(32)


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
    """Condense ``rows``, all the ticks from the first to the last of them in the order of ``seq``."""
    plain = msgspec.json.encode([(*row.row()[:14], row.prev_hash.hex(), row.hash.hex()) for row in rows])
    body = zstandard.ZstdCompressor(level=12, write_checksum=True).compress(plain)
    first_seq, last_seq = rows[0].seq, rows[-1].seq
    linked = _segment_hash(prev_hash, first_seq, last_seq, len(rows), ENCODING, body)
    return Segment(first_seq, last_seq, len(rows), ENCODING, body, prev_hash, linked)


def unpack(segment: Segment) -> list[Recorded]:
    """The rows again, exactly. Raises Damaged, also for a body that its hash does not fit."""
    where = f"The condensed ticks {segment.first_seq} to {segment.last_seq}"
    if segment.encoding != ENCODING:
        raise Damaged(f"{where} have the unknown encoding {segment.encoding}.", hint="Use the newest btmd.")
    computed = _segment_hash(
        segment.prev_hash, segment.first_seq, segment.last_seq, segment.row_count, segment.encoding, segment.body
    )
    if computed != segment.hash:
        raise Damaged(f"{where} are damaged: their hash does not fit.", hint="Restore the database from a backup.")
    try:
        values: list[list[Any]] = msgspec.json.decode(zstandard.ZstdDecompressor().decompress(segment.body))
    except (zstandard.ZstdError, msgspec.DecodeError) as error:
        raise Damaged(f"{where} cannot be unpacked.", hint="Restore the database from a backup.") from error
    return [Recorded(*(*row[:14], bytes.fromhex(row[14]), bytes.fromhex(row[15]))) for row in values]


def _segment_hash(prev_hash: bytes, first_seq: int, last_seq: int, row_count: int, encoding: str, body: bytes) -> bytes:
    described = msgspec.json.encode([first_seq, last_seq, row_count, encoding])
    return hashlib.sha256(prev_hash + described + body).digest()
