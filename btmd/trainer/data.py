"""The training data: rows as tokens, split in two, in an order that is a function of (seed, epoch, index).

No torch here, so that rows are tokenised while it is still being imported.
"""

import hashlib
import itertools
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from btmd.data.encoding import Encoded, Encoder
from btmd.data.rows import Row, Side, row_key, split_rows
from btmd.errors import TemplateMismatch
from btmd.trainer.failures import TrainingFailed

_ROWS_AT_A_TIME = 64
"""Enough for the tokenizer to use all cores, few enough to notice a stop request soon."""

_ROW = msgspec.json.Decoder(Row)

Sequences = list[Encoded] | TemplateMismatch
"""A row in tokens, or why it cannot be."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Tokenised sequences end to end: sequence ``i`` is ``tokens[offsets[i]:offsets[i + 1]]``, ``learned`` likewise.

    A row is one sequence, or several that are computed together, each seeing only itself: the chosen and the rejected
    side of a pair, or the texts of a packed block.
    """

    tokens: NDArray[np.int32]
    learned: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    firsts: NDArray[np.int64]
    """The first sequence of each row, and behind the last row the number of sequences."""
    learned_counts: NDArray[np.int64]
    """Learned tokens of each row."""
    places: NDArray[np.int64]
    """Byte in the rows file where each row's line begins; of a block, the line of its first text."""
    references: NDArray[np.float32] | None = None
    """Loss of each sequence under the model that it is compared with, where that was computed beforehand."""

    def __len__(self) -> int:
        return len(self.places)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, all its sequences together."""
        return np.diff(self.offsets[self.firsts])

    def row(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Tokens and marks of all sequences of a row, end to end."""
        start, end = self.offsets[self.firsts[index]], self.offsets[self.firsts[index + 1]]
        return self.tokens[start:end], self.learned[start:end]

    def sequences(self, index: int) -> range:
        """The numbers of the sequences of a row."""
        return range(int(self.firsts[index]), int(self.firsts[index + 1]))

    def sequence(self, number: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        start, end = self.offsets[number], self.offsets[number + 1]
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
    training_type: str = "lora_adaptation",
    packing: bool = False,
    max_length: int,
    held_out_fraction: float,
    held_out_limit: int,
    seed: int,
    between_rows: Callable[[], None],
) -> Dataset:
    """Read, check and tokenise a normalised rows file.

    Rows of more than ``max_length`` tokens are left out whole: a cut answer teaches to stop in the middle. Only texts
    of continued pre-training are cut, and with ``packing`` put together in blocks of at most that length.
    Raises TrainingFailed(data) when the file is not the one the job was submitted with or nothing remains.
    """
    read = _Reader()
    encode = _ENCODERS.get(training_type, _encode_answers)
    digest = hashlib.sha256()
    with rows_path.open("rb") as lines:
        while some := list(itertools.islice(lines, _ROWS_AT_A_TIME)):
            between_rows()
            rows = [_ROW.decode(line) for line in some]
            for line, row, sequences in zip(some, rows, encode(encoder, rows, max_length), strict=True):
                digest.update(line)
                read.take(row, sequences, len(line), max_length)
    if digest.hexdigest() != sha256:
        raise TrainingFailed("data", "The dataset's file is not the one this job was submitted with.")
    split = split_rows(read.keys, read.sides, fraction=held_out_fraction, seed=seed)
    dataset = read.arrange(np.array(split.held_out, bool), held_out_limit, seed)
    if training_type == "continued_pretraining":
        longest = max_length if packing else 0
        dataset = replace(dataset, train=packed(dataset.train, longest), held_out=packed(dataset.held_out, longest))
    if len(dataset.train) == 0:
        raise TrainingFailed(
            "data",
            f"No row is left to train on: {dataset.over_long_rows} are longer than {max_length} tokens, in "
            f"{dataset.unlearned_rows} nothing would be learned, and {dataset.untemplated_rows} do not fit the "
            "model's chat template.",
        )
    return dataset


def cut_text(text: Encoded, max_length: int) -> list[Encoded]:
    """A text in pieces of at most ``max_length`` tokens. Each begins with the last token of the one before it, so
    that every token but the very first is learned, once.
    """
    starts = range(0, max(1, len(text.input_ids) - 1), max_length - 1)
    return [
        Encoded(text.input_ids[start : start + max_length], text.learned[start : start + max_length])
        for start in starts
    ]


def _encode_answers(encoder: Encoder, rows: Sequence[Row], _max_length: int) -> list[Sequences]:
    encoded = encoder.encode_many(rows)
    return [one if isinstance(one, TemplateMismatch) else [one] for one in encoded]


def _encode_pairs(encoder: Encoder, rows: Sequence[Row], _max_length: int) -> list[Sequences]:
    if not all("rejected" in row for row in rows):
        raise TrainingFailed("data", "Preference tuning needs a chosen and a rejected answer in every row.")
    pairs = encoder.encode_pairs(rows)
    return [pair if isinstance(pair, TemplateMismatch) else [pair.chosen, pair.rejected] for pair in pairs]


def _encode_texts(encoder: Encoder, rows: Sequence[Row], max_length: int) -> list[Sequences]:
    if not all("text" in row for row in rows):
        raise TrainingFailed("data", "Continued pre-training needs plain text in every row.")
    encoded = encoder.encode_many(rows)
    return [one if isinstance(one, TemplateMismatch) else cut_text(one, max_length) for one in encoded]


_ENCODERS: Final[dict[str, Callable[[Encoder, Sequence[Row], int], list[Sequences]]]] = {
    "preference_tuning": _encode_pairs,
    "continued_pretraining": _encode_texts,
}


class _Reader:
    """Collects tokenised rows in flat arrays, 5 bytes a token."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.sides: list[Side | None] = []
        self._tokens = array("i")
        self._learned = bytearray()
        self._lengths = array("q")
        self._counts = array("q")
        """Sequences of each row; 0 for one that is left out."""
        self._places = array("q")
        self._end = 0
        self._over_long = 0
        self._unlearned = 0
        self._untemplated = 0

    def take(self, row: Row, sequences: Sequences, size_bytes: int, max_length: int) -> None:
        """Enter the next row of the file, whose line has ``size_bytes``."""
        usable = False
        if isinstance(sequences, TemplateMismatch):
            sequences = []
            self._untemplated += 1
        elif max(len(one.input_ids) for one in sequences) > max_length:
            self._over_long += 1
        elif not all(any(one.learned[1:]) for one in sequences):
            self._unlearned += 1
        else:
            usable = True
        # A row left out still takes part in the split, so that the length limit does not move other rows across.
        self.keys.append(row_key(row))
        self.sides.append(row.get("split"))
        self._places.append(self._end)
        self._end += size_bytes
        self._counts.append(len(sequences) if usable else 0)
        for one in sequences if usable else ():
            self._lengths.append(len(one.input_ids))
            self._tokens.extend(one.input_ids)
            self._learned.extend(one.learned)

    def arrange(self, held_out: NDArray[np.bool_], limit: int, seed: int) -> Dataset:
        usable = np.array(self._counts, np.int64) > 0
        chosen = np.flatnonzero(usable & held_out)
        total = len(chosen)
        if 0 < limit < total:
            chosen = np.sort(chosen[order_of_epoch(total, seed, epoch=-1)[:limit]])
        return Dataset(
            train=self._part(np.flatnonzero(usable & ~held_out)),
            held_out=self._part(chosen),
            over_long_rows=self._over_long,
            unlearned_rows=self._unlearned,
            untemplated_rows=self._untemplated,
            held_out_total=total,
        )

    def _part(self, rows: NDArray[np.int64]) -> Rows:
        tokens = np.frombuffer(self._tokens, np.int32) if self._tokens else np.zeros(0, np.int32)
        learned = np.frombuffer(self._learned, np.bool_) if self._learned else np.zeros(0, np.bool_)
        lengths, counts = np.array(self._lengths, np.int64), np.array(self._counts, np.int64)
        chosen = np.zeros(len(counts), bool)
        chosen[rows] = True
        chosen_sequences = np.repeat(chosen, counts)
        taken = np.repeat(chosen_sequences, lengths)
        part_learned = learned[taken]
        offsets = _bounds(lengths[chosen_sequences])
        # The first token of a sequence has nothing before it to be predicted from.
        part_learned[offsets[:-1]] = False
        places = np.array(self._places, np.int64)[rows]
        return _counted(Rows(tokens[taken], part_learned, offsets, _bounds(counts[rows]), counts[rows], places))


def packed(texts: Rows, longest: int) -> Rows:
    """Pieces of text in blocks of at most ``longest`` tokens, in the order of the file; 0: each piece by itself."""
    lengths = np.diff(texts.offsets)
    firsts = [0] if len(lengths) else []
    room = longest
    for number, length in enumerate(lengths.tolist()):
        if length > room and number > 0:
            firsts.append(number)
            room = longest
        room -= length
    places = np.repeat(texts.places, np.diff(texts.firsts))
    blocks = np.array([*firsts, len(lengths)], np.int64)
    return _counted(replace(texts, firsts=blocks, places=places[blocks[:-1]]))


def _bounds(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each part begins, and the end of the last."""
    return np.concatenate(([0], np.cumsum(counts))).astype(np.int64)


def _counted(rows: Rows) -> Rows:
    """The same with the learned tokens of each row."""
    if len(rows) == 0:
        return replace(rows, learned_counts=np.zeros(0, np.int64))
    return replace(rows, learned_counts=np.add.reduceat(rows.learned, rows.offsets[rows.firsts[:-1]], dtype=np.int64))


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
