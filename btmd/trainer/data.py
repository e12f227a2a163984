"""The training data: rows as tokens, split in two, in an order that is a function of (seed, epoch, index).

No torch here, so that rows are tokenised while it is still being imported.
"""

import hashlib
import itertools
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from btmd.encoding import Encoded, Encoder
from btmd.errors import TemplateMismatch
from btmd.rows import Row, Side, row_key, split_rows
from btmd.trainer.failures import TrainingFailed

_ROWS_AT_A_TIME = 64
"""Enough for the tokenizer to use all cores, few enough to notice a stop request soon."""

_ROW = msgspec.json.Decoder(Row)


@dataclass(frozen=True, slots=True)
class Rows:
    """Tokenised rows end to end: row ``i`` is ``tokens[offsets[i]:offsets[i + 1]]``, ``learned`` likewise."""

    tokens: NDArray[np.int32]
    learned: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    learned_counts: NDArray[np.int64]
    """Learned tokens of each row."""
    places: NDArray[np.int64]
    """Byte in the rows file where each row's line begins."""

    def __len__(self) -> int:
        return len(self.places)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    def row(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        start, end = self.offsets[index], self.offsets[index + 1]
        return self.tokens[start:end], self.learned[start:end]


@dataclass(frozen=True, slots=True)
class Dataset:
    """What is trained on, what is held out, and how many rows were left out of both."""

    train: Rows
    held_out: Rows
    over_long_rows: int
    unlearned_rows: int
    """Rows in which no token would be learned."""
    untemplated_rows: int
    """Conversations that the model's chat template cannot render turn by turn."""
    held_out_total: int
    """Held-out rows before ``held_out_limit`` was applied."""


def load_dataset(
    rows_path: Path,
    encoder: Encoder,
    *,
    sha256: str,
    max_length: int,
    held_out_fraction: float,
    held_out_limit: int,
    seed: int,
    between_rows: Callable[[], None],
) -> Dataset:
    """Read, check and tokenise a normalised rows file.

    Rows of more than ``max_length`` tokens are left out whole: a cut answer teaches to stop in the middle.
    Raises TrainingFailed(data) when the file is not the one the job was submitted with or nothing remains.
    """
    read = _Reader()
    digest = hashlib.sha256()
    with rows_path.open("rb") as lines:
        while some := list(itertools.islice(lines, _ROWS_AT_A_TIME)):
            between_rows()
            rows = [_ROW.decode(line) for line in some]
            for line, row, encoded in zip(some, rows, encoder.encode_many(rows), strict=True):
                digest.update(line)
                read.take(row, encoded, len(line), max_length)
    if digest.hexdigest() != sha256:
        raise TrainingFailed("data", "The dataset's file is not the one this job was submitted with.")
    split = split_rows(read.keys, read.sides, fraction=held_out_fraction, seed=seed)
    dataset = read.arrange(np.array(split.held_out, bool), held_out_limit, seed)
    if len(dataset.train) == 0:
        raise TrainingFailed(
            "data",
            f"No row is left to train on: {dataset.over_long_rows} are longer than {max_length} tokens, in "
            f"{dataset.unlearned_rows} nothing would be learned, and {dataset.untemplated_rows} do not fit the "
            "model's chat template.",
        )
    return dataset


class _Reader:
    """Collects tokenised rows in flat arrays, 5 bytes a token."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.sides: list[Side | None] = []
        self._tokens = array("i")
        self._learned = bytearray()
        self._lengths = array("q")
        self._places = array("q")
        self._end = 0
        self._over_long = 0
        self._unlearned = 0
        self._untemplated = 0

    def take(self, row: Row, encoded: Encoded | TemplateMismatch, size_bytes: int, max_length: int) -> None:
        """Enter the next row of the file, whose line has ``size_bytes``."""
        if isinstance(encoded, TemplateMismatch):
            encoded = Encoded([], [])
            self._untemplated += 1
        usable = len(encoded.input_ids) <= max_length and any(encoded.learned[1:])
        if len(encoded.input_ids) > max_length:
            self._over_long += 1
        elif encoded.input_ids and not usable:
            self._unlearned += 1
        # A row left out still takes part in the split, so that the length limit does not move other rows across.
        self.keys.append(row_key(row))
        self.sides.append(row.get("split"))
        self._places.append(self._end)
        self._end += size_bytes
        self._lengths.append(len(encoded.input_ids) if usable else 0)
        if usable:
            self._tokens.extend(encoded.input_ids)
            self._learned.extend(encoded.learned)

    def arrange(self, held_out: NDArray[np.bool_], limit: int, seed: int) -> Dataset:
        lengths = np.array(self._lengths, np.int64)
        usable = lengths > 0
        chosen = np.flatnonzero(usable & held_out)
        total = len(chosen)
        if 0 < limit < total:
            chosen = np.sort(chosen[order_of_epoch(total, seed, epoch=-1)[:limit]])
        return Dataset(
            train=self._part(np.flatnonzero(usable & ~held_out), lengths),
            held_out=self._part(chosen, lengths),
            over_long_rows=self._over_long,
            unlearned_rows=self._unlearned,
            untemplated_rows=self._untemplated,
            held_out_total=total,
        )

    def _part(self, rows: NDArray[np.int64], lengths: NDArray[np.int64]) -> Rows:
        tokens = np.frombuffer(self._tokens, np.int32) if self._tokens else np.zeros(0, np.int32)
        learned = np.frombuffer(self._learned, np.bool_) if self._learned else np.zeros(0, np.bool_)
        starts = np.concatenate(([0], np.cumsum(lengths)))
        taken = np.zeros(len(tokens), bool)
        for row in rows:
            taken[starts[row] : starts[row + 1]] = True
        offsets = np.concatenate(([0], np.cumsum(lengths[rows]))).astype(np.int64)
        part_learned = learned[taken]
        # The first token of a row has nothing before it to be predicted from.
        part_learned[offsets[:-1]] = False
        counts = np.add.reduceat(part_learned, offsets[:-1], dtype=np.int64) if len(rows) else np.zeros(0, np.int64)
        return Rows(tokens[taken], part_learned, offsets, counts, np.array(self._places, np.int64)[rows])


@lru_cache(maxsize=2)
def order_of_epoch(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of ``count`` rows that depends on seed and epoch only.

    Sorts by the raw Philox stream keyed with (seed, epoch): numpy keeps raw streams unchanged between versions, which
    it does not promise of its own shuffles.
    """
    mask = 2**64 - 1
    draws = np.random.Philox(key=(seed & mask) | ((epoch & mask) << 64)).random_raw(count)
    order = np.argsort(draws, kind="stable")
    order.setflags(write=False)
    return order


def rows_of_step(rows: Rows, *, step: int, batch_size: int, seed: int) -> NDArray[np.int64]:
    """Indices of the rows of optimizer step ``step`` (counted from 0 over all epochs), the longest first.

    The set is given by (seed, step, batch_size); only the order inside it goes by length, so that rows of like length
    share a micro-batch and the one that needs the most memory comes first. The last batch of an epoch may be smaller.
    """
    steps = count_steps(len(rows), batch_size)
    epoch, within = divmod(step, steps)
    members = order_of_epoch(len(rows), seed, epoch)[within * batch_size : (within + 1) * batch_size]
    return members[np.lexsort((members, -rows.lengths[members]))]


def count_steps(row_count: int, batch_size: int) -> int:
    """Optimizer steps of one epoch."""
    return -(-row_count // batch_size)


def prompt_date(submitted_us: int) -> datetime:
    """The moment that chat templates are told; the same in every attempt of a job."""
    return datetime.fromtimestamp(submitted_us / 1e6, UTC)


def read_row_at(rows_path: Path, place: int) -> Row:
    """The row whose line begins at byte ``place`` of a rows file."""
    with rows_path.open("rb") as lines:
        lines.seek(place)
        return _ROW.decode(lines.readline())
