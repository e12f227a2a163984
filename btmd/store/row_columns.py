"""Rows of the log as columns, so that they pack small: what can be computed is left out, like stands beside like.

Left out: both hashes (SHA-256 over the row before and the row; whoever keeps the columns checks them on reading) and
the sequence numbers (they follow one another). Times and versions are kept as differences from what was to be expected,
mostly 0; texts that repeat as a list and positions in it; random ids as bytes; the data of all events of one type in a
row. A part of the log (selected streams) has gaps: at each, the number and the hash before it are kept.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, pairwise
from operator import attrgetter
from typing import Any

import msgspec

from btmd.errors import Damaged
from btmd.store.recorded import Recorded, row_hash


class Ids(msgspec.Struct, frozen=True, array_like=True):
    """Lower-case hex of one length as bytes; anything else as it is."""

    width: int
    packed: bytes
    texts: list[str | None]

    @classmethod
    def pack(cls, ids: Sequence[str | None]) -> "Ids":
        """``ids`` in the smallest exact form."""
        texts = [one for one in ids if one is not None]
        width = len(texts[0]) if texts else 0
        if len(texts) == len(ids) and width and width % 2 == 0 and set(map(len, texts)) == {width}:
            joined = "".join(texts)
            try:
                packed = bytes.fromhex(joined)
            except ValueError:
                packed = b""
            if packed.hex() == joined:
                return cls(width, packed, [])
        return cls(0, b"", list(ids))

    def unpack(self) -> list[str | None]:
        if self.width:
            digits = self.packed.hex()
            return [digits[at : at + self.width] for at in range(0, len(digits), self.width)]
        return self.texts


class Repeated(msgspec.Struct, frozen=True, array_like=True):
    """Values that come again: each once, in the order of their first use, and for every row its position.

    A column of one value has no positions but only a number of rows.
    """

    values: Ids
    positions: list[int]
    count: int

    @classmethod
    def pack(cls, column: Sequence[str | None]) -> "Repeated":
        values = list(dict.fromkeys(column))
        position_of = {value: at for at, value in enumerate(values)}
        positions = list(map(position_of.__getitem__, column)) if len(values) > 1 else []
        return cls(Ids.pack(values), positions, len(column))

    def unpack(self) -> list[str | None]:
        values = self.values.unpack()
        return list(map(values.__getitem__, self.positions)) if self.positions else values * self.count


class Columns(msgspec.Struct, frozen=True, array_like=True):
    """All rows of a segment; every list has one value a row, but for those named otherwise."""

    gaps: list[tuple[int, int, bytes]]
    """Where rows do not follow the row before: position, seq, hash of the row before. The first row is always one."""
    epochs: list[tuple[int, int]]
    """Where a new epoch begins: position, epoch."""
    streams: Repeated
    version_steps: list[int]
    event_ids: Ids
    kinds: list[tuple[str, int]]
    """The pairs of type and schema version; ``kind_of`` holds positions in it."""
    kind_of: list[int]
    recorded_steps: list[int]
    wall_lags: list[int]
    boots: Repeated
    actors: Repeated
    correlations: Repeated
    causations: Repeated
    data: list[list[str]]
    """The events' JSON texts, one list for each of ``kinds``, in the order of the rows."""


# The values of a row in the order of its canonical form.
_ATTRIBUTES = tuple(map(attrgetter, Recorded.__struct_fields__[:14]))
_PREV_HASH, _HASH = attrgetter("prev_hash"), attrgetter("hash")

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Columns)


def pack_rows(rows: Sequence[Recorded], *, checked: bool = False) -> bytes:
    """The rows, in order of ``seq``, as columns; :func:`unpack_rows` gives back exactly these.

    Raises Damaged for a row that its hash does not fit: damage must neither push good backups out nor be sealed in.
    ``checked`` rows are looked at by somebody else.
    """
    columns = [list(map(attribute, rows)) for attribute in _ATTRIBUTES]
    before, hashes = list(map(_PREV_HASH, rows)), list(map(_HASH, rows))
    if not checked:
        _require_hashes(columns, before, hashes)
    seqs, epochs, streams, versions, event_ids, types, schemas, recorded, wall = columns[:9]
    boots, actors, correlations, causations, data = columns[9:]
    kinds = list(zip(types, schemas, strict=True))
    numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
    kind_of = list(map(numbers.__getitem__, kinds))
    texts: list[list[str]] = [[] for _ in numbers]
    for kind, text in zip(kind_of, data, strict=True):
        texts[kind].append(text)
    return _encoder.encode(
        Columns(
            gaps=_gaps(seqs, before, hashes),
            epochs=[(at, epoch) for at, epoch in enumerate(epochs) if at == 0 or epochs[at - 1] != epoch],
            streams=Repeated.pack(streams),
            version_steps=_version_steps(streams, versions),
            event_ids=Ids.pack(event_ids),
            kinds=list(numbers),
            kind_of=kind_of,
            recorded_steps=_differences(recorded),
            wall_lags=[late - read for late, read in zip(recorded, wall, strict=True)],
            boots=Repeated.pack(boots),
            actors=Repeated.pack(actors),
            correlations=Repeated.pack(correlations),
            causations=Repeated.pack(causations),
            data=texts,
        )
    )


def unpack_rows(packed: bytes) -> list[Recorded]:
    """The rows again, hashes computed. Raises Damaged."""
    try:
        columns = _decoder.decode(packed)
        return _rows(columns)
    except (msgspec.MsgspecError, ValueError, IndexError, StopIteration) as error:
        raise Damaged(
            f"Packed rows of the event log cannot be unpacked: {error}.", hint="Use another backup; report this."
        ) from error


def require_hashes(rows: Sequence[Recorded]) -> None:
    """Raises Damaged for the first row that its hash does not fit."""
    columns = [list(map(attribute, rows)) for attribute in _ATTRIBUTES]
    _require_hashes(columns, list(map(_PREV_HASH, rows)), list(map(_HASH, rows)))


def _require_hashes(columns: Sequence[Sequence[Any]], before: Sequence[bytes], hashes: Sequence[bytes]) -> None:
    computed = list(map(row_hash, before, zip(*columns, strict=True)))
    if computed != hashes:
        at = next(at for at, digest in enumerate(computed) if digest != hashes[at])
        raise Damaged(
            f"The event log is damaged at event {columns[0][at]}: its content does not fit its hash.",
            hint="Restore the database from a backup; nothing was changed.",
        )


def _gaps(seqs: Sequence[int], before: Sequence[bytes], hashes: Sequence[bytes]) -> list[tuple[int, int, bytes]]:
    found = [(0, seqs[0], before[0])]
    if before[1:] != hashes[:-1] or seqs[-1] - seqs[0] != len(seqs) - 1:
        found += [
            (at, seqs[at], before[at])
            for at in range(1, len(seqs))
            if seqs[at] != seqs[at - 1] + 1 or before[at] != hashes[at - 1]
        ]
    return found


def _differences(values: Sequence[int]) -> list[int]:
    return [values[0], *(after - before for before, after in pairwise(values))]


def _version_steps(streams: Sequence[str], versions: Sequence[int]) -> list[int]:
    """How far each version is from the one after its stream's row before."""
    last: dict[str, int] = {}
    steps = []
    for stream, version in zip(streams, versions, strict=True):
        steps.append(version - last.get(stream, 0) - 1)
        last[stream] = version
    return steps


def _versions(streams: Iterable[str | None], steps: Iterable[int]) -> list[int]:
    last: dict[str | None, int] = {}
    versions = []
    for stream, step in zip(streams, steps, strict=True):
        version = last[stream] = last.get(stream, 0) + 1 + step
        versions.append(version)
    return versions


def _filled(starts: Sequence[tuple[int, int]], count: int) -> list[int]:
    """One value a row from the positions where it changes."""
    ends = [at for at, _ in starts[1:]] + [count]
    return list(chain.from_iterable([value] * (end - at) for (at, value), end in zip(starts, ends, strict=True)))


def _rows(columns: Columns) -> list[Recorded]:
    count = len(columns.kind_of)
    streams = columns.streams.unpack()
    recorded = list(accumulate(columns.recorded_steps))
    texts = [iter(texts) for texts in columns.data]
    gap_at = {at: (seq, prev_hash) for at, seq, prev_hash in columns.gaps}
    seqs: list[int] = []
    for at in range(count):
        seqs.append(gap_at[at][0] if at in gap_at else seqs[-1] + 1)
    values: Iterable[tuple[Any, ...]] = zip(
        seqs,
        _filled(columns.epochs, count),
        streams,
        _versions(streams, columns.version_steps),
        columns.event_ids.unpack(),
        *zip(*map(columns.kinds.__getitem__, columns.kind_of), strict=True),
        recorded,
        [late - lag for late, lag in zip(recorded, columns.wall_lags, strict=True)],
        columns.boots.unpack(),
        columns.actors.unpack(),
        columns.correlations.unpack(),
        columns.causations.unpack(),
        [next(texts[kind]) for kind in columns.kind_of],
        strict=True,
    )
    rows = []
    digest = b""
    for at, row in enumerate(values):
        before = gap_at[at][1] if at in gap_at else digest
        digest = row_hash(before, row)
        rows.append(Recorded(*(*row, before, digest)))
    return rows
