"""What a row's words look like, in few bytes: signatures by which rows that say the same are found.

The words are those between white space and punctuation, in lower case; each with the one behind it in the same turn
makes a shingle. Of the shingles of the prompt and of those of the answer 64 least values each are kept (MinHash): the
share in which those of two rows agree estimates the Jaccard index of their shingles, with a deviation of 0.06.

Everything here is a function of the row alone, the same on every machine and in every release: the held-out split
stands on it. A change has to be a new rule of splitting, or a training that is resumed would see other rows.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from btmd.data.rows import Row, shared_turns

SLOTS: Final = 64
"""Least values of each of the two parts."""
_PIECE_CHARS: Final = 1 << 18
"""A longer text is looked at in pieces; at most one word is cut in two at each seam."""
_BLOCK_BYTES: Final = 1 << 19
_BLOCK_WORDS: Final = 1 << 12

SIGNATURE: Final = np.dtype([("fixed", "<u8"), ("words", "<u2", (2,)), ("slots", "<u2", (2 * SLOTS,))])
"""``fixed``: a digest of the numbers and of the system message; 0: the row has no word at all. ``words``: of the prompt
and of the answer; 65,535 for all that have more."""

_PROMPT, _ANSWER, _TEXT, _SYSTEM = range(4)
_PARTS: Final = {"system": _SYSTEM, "assistant": _ANSWER}
# Punctuation beyond ASCII; words of scripts without spaces are single characters.
_MARKS: Final = re.compile(r"[\u00a0-\u00bf\u2000-\u206f\u3000-\u303f\uff00-\uff0f\uff1a-\uff20\uff3b-\uff40]+")
_UNSPACED: Final = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0002ffff]"
)

_KIND: Final = np.array(
    [2 if 48 <= byte <= 57 else 1 if byte >= 128 or chr(byte).isalpha() else 0 for byte in range(256)], np.uint8
)
_BASE: Final = 0x9E37_79B9_7F4A_7C15
_MASK: Final = 2**64 - 1


def _odd_numbers(count: int, seed: int) -> NDArray[np.uint32]:
    return (np.random.Philox(key=seed).random_raw(count) >> np.uint64(32)).astype(np.uint32) | np.uint32(1)


_FACTORS: Final = (_odd_numbers(SLOTS, 1), _odd_numbers(SLOTS, 2))


class _Piece(NamedTuple):
    row: int
    part: int
    text: bytes


class _Powers:
    """Powers of the base and of its inverse modulo 2^64, as many as were needed so far."""

    def __init__(self) -> None:
        self._up = self._down = np.ones(1, np.uint64)

    def get(self, count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        if len(self._up) < count:
            self._up, self._down = (_powers(base, count) for base in (_BASE, pow(_BASE, -1, 2**64)))
        return self._up[:count], self._down[:count]


def _powers(base: int, count: int) -> NDArray[np.uint64]:
    factors = np.full(count, base, np.uint64)
    factors[0] = 1
    return np.multiply.accumulate(factors)


_POWERS: Final = _Powers()


def signatures(rows: Sequence[Row]) -> NDArray[np.void]:
    """A record of `SIGNATURE` for each row."""
    found = np.zeros(len(rows), SIGNATURE)
    least = np.full((len(rows), 2 * SLOTS), np.iinfo(np.uint32).max, np.uint32)
    words = np.zeros((len(rows), 2), np.int64)
    fixed = np.zeros(len(rows), np.uint64)
    for block in _blocks(rows):
        _take(block, least, words, fixed)
    found["slots"] = least >> np.uint32(16)
    # Rows without words are like none, not like each other.
    found["words"] = np.minimum(words, np.iinfo(np.uint16).max)
    found["fixed"] = np.where(words.any(axis=1), np.maximum(fixed, np.uint64(1)), np.uint64(0))
    return found


def _blocks(rows: Sequence[Row]) -> Iterator[list[_Piece]]:
    block: list[_Piece] = []
    size = 0
    for number, row in enumerate(rows):
        for part, text in parts_of(row):
            for start in range(0, len(text), _PIECE_CHARS):
                piece = _plain(text[start : start + _PIECE_CHARS])
                block.append(_Piece(number, part, piece))
                size += len(piece)
                if size >= _BLOCK_BYTES:
                    yield block
                    block, size = [], 0
    if block:
        yield block


def parts_of(row: Row) -> Iterator[tuple[int, str]]:
    """Every text of a row, with a number for its part: prompt, answer, plain text or system message."""
    if "text" in row:
        yield _TEXT, row["text"]
    messages, rejected = row.get("messages", ()), row.get("rejected", ())
    for message in messages:
        yield _PARTS.get(message["role"], _PROMPT), message["content"]
    for message in rejected[shared_turns(messages, rejected) :]:
        yield _PARTS.get(message["role"], _PROMPT), message["content"]


def _plain(text: str) -> bytes:
    text = text.lower()
    if not text.isascii():
        text = _UNSPACED.sub(r" \g<0> ", _MARKS.sub(" ", text))
    return text.encode("utf-8", "surrogatepass")


def _take(block: list[_Piece], least: NDArray[np.uint32], words: NDArray[np.int64], fixed: NDArray[np.uint64]) -> None:
    """Enter the block's shingles into the least values and digests of their rows."""
    joined = b"\n".join(piece.text for piece in block) + b"\n"
    hashes, starts, numeric = _words(np.frombuffer(joined, np.uint8))
    if not len(hashes):
        return
    ends = np.cumsum(np.fromiter((len(piece.text) + 1 for piece in block), np.int64, len(block)))
    pieces = np.searchsorted(ends, starts, side="right")
    rows = np.fromiter((piece.row for piece in block), np.int64, len(block))[pieces]
    parts = np.fromiter((piece.part for piece in block), np.int8, len(block))[pieces]
    following = np.append(hashes[1:], np.uint64(0))
    following[np.append(pieces[1:] != pieces[:-1], True)] = 0
    shingles = _mixed(hashes * np.uint64(3) + following)
    # Sums, so that sentences in another order are the same.
    np.add.at(fixed, rows[numeric], _mixed(hashes[numeric] ^ np.uint64(_BASE)))
    system = parts == _SYSTEM
    np.add.at(fixed, rows[system], shingles[system])
    for half, part in enumerate((_PROMPT, _ANSWER)):
        of_part = (parts == part) | (parts == _TEXT)
        words[:, half] += np.bincount(rows[of_part], minlength=len(words))
        slots = slice(half * SLOTS, (half + 1) * SLOTS)
        _lower(least[:, slots], rows[of_part], shingles[of_part], _FACTORS[half])


def _words(text: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.bool_]]:
    """Of each word a hash, where it begins, and whether a digit is in it. The text ends with no word."""
    kinds = _KIND[text]
    edges = np.diff((kinds > 0).view(np.int8), prepend=np.int8(0))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    up, down = _POWERS.get(len(text))
    sums = np.zeros(len(text) + 1, np.uint64)
    # Wraps around at 2^64, as the powers do.
    np.cumsum(up * text, out=sums[1:])
    hashes = _mixed((sums[ends] - sums[starts]) * down[starts])
    digits = np.zeros(len(text) + 1, np.int32)
    np.cumsum(kinds == 2, out=digits[1:])
    return hashes, starts, digits[ends] > digits[starts]


def _lower(
    least: NDArray[np.uint32], rows: NDArray[np.int64], shingles: NDArray[np.uint64], factors: NDArray[np.uint32]
) -> None:
    """Lower the least values of the rows, which ascend, to those of their shingles."""
    short = (shingles >> np.uint64(32)).astype(np.uint32)
    for start in range(0, len(short), _BLOCK_WORDS):
        some = rows[start : start + _BLOCK_WORDS]
        firsts = np.flatnonzero(np.diff(some, prepend=-1))
        values = np.multiply(short[start : start + _BLOCK_WORDS, None], factors)
        members = some[firsts]
        least[members] = np.minimum(least[members], np.minimum.reduceat(values, firsts, axis=0))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Every bit of a value spread over all bits of the result (the last steps of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    mixed: NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed
