"""Normalised rows: the one form in which every dataset is kept, whatever file it came from.

JSON, one object a row: ``{"line": 17, "messages": [{"role": "user", "content": "..."}, ...]}`` or
``{"line": 17, "text": "..."}``, with ``"split": "train" | "held_out"`` when the source names a side. A row with a
preferred and a rejected answer holds the conversation with the preferred one as ``messages`` and the one with the
other as ``rejected``; the two begin alike.

On the disk they are in chunks (`btmd.data.row_chunks`), which `RowsWriter` there writes.
"""

import hashlib
from collections.abc import Iterator, Sequence
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
