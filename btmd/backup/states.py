"""A fingerprint of the state that a log leads to: proves that a replay of a backup gives what there was.

It is the sum, modulo 2^256, over all aggregates of SHA-256(stream, state as JSON). A sum, so that a backup of twenty
new events looks at the aggregates that they changed and at no others. It only says that two replays agree; that nobody
changed a row is proved by the hash chain and the seal.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from btmd.domain.decider import Decider
from btmd.store.codec import RawEvent
from btmd.store.recorded import Recorded
from btmd.store.state_version import state_version

_MODULUS = 1 << 256
_encoder = msgspec.json.Encoder(order="sorted")


class States:
    """Folds rows into the states of their aggregates. ``deciders`` by noun; other streams have no state."""

    def __init__(self, deciders: Iterable[Decider]) -> None:
        self._deciders = {decider.noun: decider for decider in deciders}
        self._states: dict[str, Any] = {}

    def apply(self, rows: Iterable[Recorded]) -> None:
        for row in rows:
            decider = self._deciders.get(row.stream.partition("-")[0])
            if decider is not None and not isinstance(row.event, RawEvent):
                self._states[row.stream] = decider.evolve(self._states.get(row.stream), row.event)

    def has_state(self, stream: str) -> bool:
        return stream.partition("-")[0] in self._deciders

    def total(self) -> int:
        return sum(_one(stream, state) for stream, state in self._states.items()) % _MODULUS

    @property
    def code_version(self) -> str:
        """Tells the code that made the states: only fingerprints of the same code can be compared."""
        digest = hashlib.sha256()
        for noun in sorted(self._deciders):
            digest.update(f"{noun}:{state_version(self._deciders[noun])}\n".encode())
        return digest.hexdigest()[:16]


def advanced(before: int, deciders: Iterable[Decider], streams: Mapping[str, list[Recorded]], *, after_seq: int) -> int:
    """The fingerprint after more rows, from the one at ``after_seq`` and all rows of the ``streams`` they are in."""
    known = list(deciders)
    old, new = States(known), States(known)
    for rows in streams.values():
        old.apply(row for row in rows if row.seq <= after_seq)
        new.apply(rows)
    return (before - old.total() + new.total()) % _MODULUS


def _one(stream: str, state: Any) -> int:
    return int.from_bytes(hashlib.sha256(stream.encode() + b"\0" + _encoder.encode(state)).digest(), "big")
