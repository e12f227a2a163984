"""Normalised rows: the one form in which every dataset is kept, whatever file it came from.

JSON, one object a row: ``{"line": 17, "messages": [{"role": "user", "content": "..."}, ...]}`` or
``{"line": 17, "text": "..."}``, with ``"split": "train" | "held_out"`` when the source names a side. A row with a
preferred and a rejected answer holds the conversation with the preferred one as ``messages`` and the one with the
other as ``rejected``; the two begin alike.

On the disk they are in chunks (`btmd.data.row_chunks`), which `RowsWriter` there writes.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

import msgspec

from btmd.data.row_chunks import RowsFile

Side = Literal["train", "held_out"]


class Message(TypedDict):
    """One turn; ``role`` is ``system``, ``user``, ``assistant`` or ``tool``."""

    role: str
    content: str


class Row(TypedDict):
    """One row; either ``messages`` or ``text`` is there. ``line`` is counted from 1 in the source file."""

    line: int
    messages: NotRequired[list[Message]]
    rejected: NotRequired[list[Message]]
    text: NotRequired[str]
    split: NotRequired[Side]


_DECODER = msgspec.json.Decoder(Row)


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a dataset's version, in order; no more than a chunk is in memory at a time.

    Raises msgspec.ValidationError for what is not such a row, FileMissing, Damaged, OSError.
    """
    for line, base in RowsFile(path).lines():
        yield decode_row(line, base)


def decode_row(stored: bytes, base: int) -> Row:
    """A row as `RowsFile` gives it. Raises msgspec.ValidationError."""
    row = _DECODER.decode(stored)
    row["line"] += base
    return row


def row_key(row: Row) -> bytes:
    """The row's prompt side as a 16-byte digest: everything before the first answer, or the whole of a text.

    Two pairs with one prompt have one key, as two answers to one question have.

    White space does not count, so that the same question typed twice has one key.
    """
    digest = hashlib.blake2b(digest_size=16)
    for message in row.get("messages", ()):
        if message["role"] == "assistant":
            break
        digest.update(message["role"].encode() + b"\0" + _squeezed(message["content"]) + b"\0")
    if "text" in row:
        digest.update(_squeezed(row["text"]))
    return digest.digest()


def content_key(row: Row) -> bytes:
    """The whole row as a 16-byte digest; equal for exact duplicates."""
    digest = hashlib.blake2b(digest_size=16)
    for message in row.get("messages", ()):
        digest.update(message["role"].encode() + b"\0" + _bytes(message["content"]) + b"\0")
    digest.update(_bytes(row.get("text", "")))
    for message in row.get("rejected", ()):
        digest.update(b"\0" + message["role"].encode() + b"\0" + _bytes(message["content"]) + b"\0")
    return digest.digest()


def shared_turns(first: Sequence[Message], second: Sequence[Message]) -> int:
    """How many turns two conversations have in common before they part."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


def _squeezed(text: str) -> bytes:
    return _bytes(" ".join(text.split()))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def held_out(key: bytes, fraction: float, seed: int) -> bool:
    """Whether the prompt with this key belongs to the held-out part: a function of key and seed alone."""
    return _place(key, seed) < fraction


def _place(key: bytes, seed: int) -> float:
    digest = hashlib.blake2b(key, digest_size=8, key=seed.to_bytes(16, "little", signed=True)).digest()
    return int.from_bytes(digest, "little") / 2**64


@dataclass(frozen=True, slots=True)
class Split:
    """Which rows are held out. ``leaked`` counts held-out rows whose prompt is also trained on."""

    held_out: list[bool]
    leaked: int
    explicit: bool
    """The source said it itself."""


_FEWEST_PROMPTS_TO_SPLIT = 4


def split_rows(keys: Sequence[bytes], sides: Sequence[Side | None], *, fraction: float, seed: int) -> Split:
    """Decide for every row, by its key from `row_key`, whether it is held out.

    A source that names held-out rows is obeyed (its unnamed rows are trained on). Otherwise the same prompt is
    always on one side only, and from four different prompts on there is at least one held out and one to train on.
    A ``fraction`` of 0 holds nothing out.
    """
    if "held_out" in sides:
        chosen = [side == "held_out" for side in sides]
        trained = {key for key, out in zip(keys, chosen, strict=True) if not out}
        leaked = sum(1 for key, out in zip(keys, chosen, strict=True) if out and key in trained)
        return Split(chosen, leaked, explicit=True)
    if fraction <= 0:
        return Split([False] * len(keys), 0, explicit=False)
    places = {key: _place(key, seed) for key in keys}
    out = {key for key, place in places.items() if place < fraction}
    if len(places) < _FEWEST_PROMPTS_TO_SPLIT:
        out = set()
    elif not out:
        out = {min(places, key=lambda key: (places[key], key))}
    elif len(out) == len(places):
        out.discard(max(places, key=lambda key: (places[key], key)))
    return Split([key in out for key in keys], 0, explicit=False)


def sides_and_keys(rows: Iterable[Row]) -> tuple[list[bytes], list[Side | None]]:
    """What `split_rows` needs, from rows read once."""
    keys: list[bytes] = []
    sides: list[Side | None] = []
    for row in rows:
        keys.append(row_key(row))
        sides.append(row.get("split"))
    return keys, sides
