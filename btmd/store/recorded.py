"""A row of the log, its canonical form, and the hash chain over it.

The chain: ``hash = SHA-256(prev_hash || canonical)``, with the 32 raw bytes of ``prev_hash`` and, in UTF-8, the JSON
array of these 14 values in this order, without any white space::

    [seq, epoch, stream, version, event_id, type, schema_version, recorded_at, wall_at, boot_id,
     actor, correlation_id, causation_id, data]

Numbers are decimal integers, a missing value is ``null``, everything else is a JSON string. ``actor`` and ``data``
stand in it as strings that hold exactly the stored text, so nothing depends on the order of keys or the form of
numbers inside them. In strings only ``"``, ``\\`` and the characters below U+0020 are escaped, as ``\\"``, ``\\\\``,
``\\b \\f \\n \\r \\t`` and otherwise ``\\u00xx`` in lower case: what Python's ``json.dumps(row, ensure_ascii=False,
separators=(",", ":"))`` writes. The chain starts from ``genesis_hash(store_id)``.
"""

import hashlib
from functools import lru_cache
from typing import Any

import msgspec

from btmd.domain.event import EVENT_TYPES, Actor, Event
from btmd.store.codec import RawEvent, decode_event
from btmd.store.errors import EventUndecodable

COLUMNS = (
    "seq, epoch, stream, version, event_id, type, schema_version, recorded_at, wall_at, boot_id, actor, "
    "correlation_id, causation_id, data, prev_hash, hash"
)

_encoder = msgspec.json.Encoder()
_actor_decoder = msgspec.json.Decoder(Actor)


class Recorded(msgspec.Struct, gc=False):
    """One row of the log, as stored. Times are microseconds since the epoch, hashes 32 bytes.

    ``event``, ``data`` and ``actor`` are decoded when they are asked for.
    """

    seq: int
    epoch: int
    stream: str
    version: int
    event_id: str
    type: str
    schema_version: int
    recorded_at_us: int
    wall_at_us: int
    boot_id: str
    actor_json: str
    correlation_id: str | None
    causation_id: str | None
    data_json: str
    prev_hash: bytes
    hash: bytes
    decoded: Event | None = None

    @property
    def event(self) -> Event:
        """The domain's event; a RawEvent where this release does not know its type or cannot read it."""
        if self.decoded is None:
            try:
                self.decoded = decode_event(self.type, self.schema_version, self.data_json)
            except EventUndecodable:
                # It fits the chain, so it was meant by the release that wrote it. One event that this one cannot read
                # must not make all others unreadable; the daemon tells of it at its start.
                self.decoded = RawEvent(self.type, self.schema_version, self.data)
        return self.decoded

    @property
    def is_unreadable(self) -> bool:
        """Whether this release should know the event, by its type and version, and cannot read it."""
        known = EVENT_TYPES.get(self.type)
        return known is not None and self.schema_version <= known.SCHEMA_VERSION and isinstance(self.event, RawEvent)

    @property
    def data(self) -> dict[str, Any]:
        """The stored data, as it was written."""
        return msgspec.json.decode(self.data_json)  # type: ignore[no-any-return]

    @property
    def actor(self) -> Actor:
        return decode_actor(self.actor_json)

    def row(self) -> tuple[Any, ...]:
        """The values in the order of ``COLUMNS``."""
        return (
            self.seq,
            self.epoch,
            self.stream,
            self.version,
            self.event_id,
            self.type,
            self.schema_version,
            self.recorded_at_us,
            self.wall_at_us,
            self.boot_id,
            self.actor_json,
            self.correlation_id,
            self.causation_id,
            self.data_json,
            self.prev_hash,
            self.hash,
        )

    def computed_hash(self) -> bytes:
        """What ``hash`` must be."""
        return row_hash(self.prev_hash, self.row()[:14])


class Head(msgspec.Struct, frozen=True, gc=False):
    """The newest row of the log; ``seq`` 0 is the empty log."""

    seq: int
    hash: bytes
    epoch: int


def row_hash(prev_hash: bytes, values: tuple[Any, ...]) -> bytes:
    """The hash of the 14 values before the two hashes, after ``prev_hash``."""
    return hashlib.sha256(prev_hash + _encoder.encode(values)).digest()


def genesis_hash(store_id: str) -> bytes:
    """The hash before the first row; no log continues another store's."""
    return hashlib.sha256(b"btmd event log\n" + store_id.encode()).digest()


@lru_cache(maxsize=256)
def encode_actor(actor: Actor) -> str:
    return _encoder.encode(actor).decode()


@lru_cache(maxsize=256)
def decode_actor(text: str) -> Actor:
    return _actor_decoder.decode(text)
