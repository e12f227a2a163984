"""Rows as the sequences that a training computes: tokenised, split in two, in an order fixed by (seed, epoch, index).

The trainer learns from what stands here, and the preview shows it. No torch here.
"""

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from btmd.data.encoding import Encoded, Encoder
from btmd.data.near_duplicates import SignatureFile, groups_of
from btmd.data.rows import Row, Side, row_key
from btmd.data.split import split_rows
from btmd.errors import DatasetRefused, TemplateMismatch

ROWS_AT_A_TIME: Final = 64
"""Enough for the tokenizer to use all cores, few enough to notice a stop request soon."""

TEXT_TRAINING: Final = "continued_pretraining"

Sequences = list[Encoded] | TemplateMismatch
"""A row in tokens, or why it cannot be."""

Use = Literal["used", "over_long", "nothing_learned", "untemplated"]
"""Whether a row takes part, or why it is left out whole."""


class Rows(Struct, frozen=True):
    """Tokenised sequences end to end: sequence ``i`` is ``tokens[offsets[i]:offsets[i + 1]]``, ``learned`` likewise.

    A row is one sequence, or several that are computed together, each seeing only itself: the chosen and the rejected
    side of a pair, or the texts of a packed block.
    """

    tokens: NDArray[np.int32]
    learned: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    firsts: NDArray[np.int64]
    """The first sequence of each row, and behind the last row the number of sequences."""
    learned_of_sequences: NDArray[np.int64]
    """Learned tokens of each sequence."""
    learned_counts: NDArray[np.int64]
    """Learned tokens of each row."""
    places_of_sequences: NDArray[np.int64]
    """Where the row of the file that each sequence comes from is found again."""
    lines_of_sequences: NDArray[np.int64]
    """The line of that row, as findings name it."""
    quarantined: NDArray[np.bool_] | None = None
    """Rows that take no part any more, though the order is made as if they did; None: there are none."""
    references: NDArray[np.float32] | None = None
    """Loss of each sequence under the model that it is compared with, where that was computed beforehand."""

    def __len__(self) -> int:
        return len(self.firsts) - 1

    @property
    def places(self) -> NDArray[np.int64]:
        """Where each row is found again; of a block, its first text."""
        return self.places_of_sequences[self.firsts[:-1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, all its sequences together."""
        return np.diff(self.offsets[self.firsts])

    def lines(self, indices: Iterable[int]) -> tuple[int, ...]:
        """The lines of the file that these rows come from, in order."""
        numbers = [number for index in indices for number in self.sequences(int(index))]
        return tuple(sorted({int(line) for line in self.lines_of_sequences[numbers]}))

    def without_lines(self, lines: Collection[int]) -> "Rows":
        """The same rows, those with anything from these lines in quarantine."""
        if not lines:
            return self
        out = np.isin(self.lines_of_sequences, np.array(sorted(lines), np.int64))
        return replace(self, quarantined=_sums(out.astype(np.int64), self.firsts) > 0)

    def taking_part(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the rows that are not in quarantine."""
        return indices if self.quarantined is None else indices[~self.quarantined[indices]]

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


class Dataset(Struct, frozen=True):
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


def encode_rows(encoder: Encoder, rows: Sequence[Row], training_type: str, max_length: int) -> list[Sequences]:
    """Each row's sequences as this type of training learns them. Raises DatasetRefused for rows of another kind."""
    return _ENCODERS.get(training_type, _encode_answers)(encoder, rows, max_length)


def use_of(sequences: Sequences, max_length: int) -> Use:
    """Whether a training takes the row; ``max_length`` in tokens. A row that is too long is never cut."""
    if isinstance(sequences, TemplateMismatch):
        return "untemplated"
    if max(len(one.input_ids) for one in sequences) > max_length:
        return "over_long"
    return "used" if all(any(one.learned[1:]) for one in sequences) else "nothing_learned"


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
        raise DatasetRefused("Preference tuning needs a chosen and a rejected answer in every row.")
    pairs = encoder.encode_pairs(rows)
    return [pair if isinstance(pair, TemplateMismatch) else [pair.chosen, pair.rejected] for pair in pairs]


def _encode_texts(encoder: Encoder, rows: Sequence[Row], max_length: int) -> list[Sequences]:
    if not all("text" in row for row in rows):
        raise DatasetRefused("Continued pre-training needs plain text in every row.")
    encoded = encoder.encode_many(rows)
    return [one if isinstance(one, TemplateMismatch) else cut_text(one, max_length) for one in encoded]


_ENCODERS: Final[dict[str, Callable[[Encoder, Sequence[Row], int], list[Sequences]]]] = {
    "preference_tuning": _encode_pairs,
    TEXT_TRAINING: _encode_texts,
}


class Collector:
    """Collects tokenised rows in flat arrays, 5 bytes a token; without ``keep_tokens`` only their lengths.

    ``split_rule`` is one of `btmd.data.split.SPLIT_RULE`; what it needs to know of the rows lies in a file without a
    name in ``folder``.
    """

    def __init__(
        self, max_length: int, *, keep_tokens: bool = True, split_rule: int = 0, folder: Path | None = None
    ) -> None:
        self._max_length = max_length
        self._folder = folder
        self._signed = SignatureFile(folder) if split_rule > 0 else None
        self._groups: list[int] | None = None
        self._keep_tokens = keep_tokens
        self.left_out: dict[Use, int] = {"over_long": 0, "nothing_learned": 0, "untemplated": 0}
        self._keys: list[bytes] = []
        self._sides: list[Side | None] = []
        self._tokens = array("i")
        self._learned = bytearray()
        self._lengths = array("q")
        self._learned_counts = array("q")
        self._counts = array("q")
        """Sequences of each row; 0 for one that is left out."""
        self._places = array("q")
        self._lines = array("q")

    def take(self, row: Row, sequences: Sequences, place: int) -> Use:
        """Enter the next row of the file; ``place`` is how the caller finds it again."""
        use = use_of(sequences, self._max_length)
        # A row left out still takes part in the split, so that the length limit does not move other rows across.
        if self._signed is not None:
            self._signed.take(len(self._keys), row)
        self._keys.append(row_key(row))
        self._sides.append(row.get("split"))
        self._places.append(place)
        self._lines.append(row["line"])
        if isinstance(sequences, TemplateMismatch) or use != "used":
            self.left_out[use] += 1
            self._counts.append(0)
            return use
        self._counts.append(len(sequences))
        for one in sequences:
            self._lengths.append(len(one.input_ids))
            # The first token of a sequence has nothing before it to be predicted from.
            self._learned_counts.append(sum(one.learned) - one.learned[0])
            if self._keep_tokens:
                self._tokens.extend(one.input_ids)
                self._learned.extend(one.learned)
        return use

    def dataset(
        self, *, training_type: str, packing: bool, held_out_fraction: float, held_out_limit: int, seed: int
    ) -> Dataset:
        """What was collected, split in two; texts of continued pre-training in blocks where ``packing`` says so."""
        found = self._arranged(self.held_out(held_out_fraction, seed), held_out_limit, seed)
        if training_type != TEXT_TRAINING:
            return found
        longest = self._max_length if packing else 0
        return replace(found, train=packed(found.train, longest), held_out=packed(found.held_out, longest))

    def held_out(self, fraction: float, seed: int) -> NDArray[np.bool_]:
        """Which rows of the file are held out, those included that are left out."""
        if self._signed is not None and self._groups is None:
            self._groups = groups_of([self._signed], self._folder).labels().tolist()
        split = split_rows(self._keys, self._sides, fraction=fraction, seed=seed, groups=self._groups)
        return np.array(split.held_out, bool)

    def _arranged(self, held_out: NDArray[np.bool_], limit: int, seed: int) -> Dataset:
        usable = np.array(self._counts, np.int64) > 0
        chosen = np.flatnonzero(usable & held_out)
        total = len(chosen)
        if 0 < limit < total:
            chosen = np.sort(chosen[order_of_epoch(total, seed, epoch=-1)[:limit]])
        return Dataset(
            train=self._part(np.flatnonzero(usable & ~held_out)),
            held_out=self._part(chosen),
            over_long_rows=self.left_out["over_long"],
            unlearned_rows=self.left_out["nothing_learned"],
            untemplated_rows=self.left_out["untemplated"],
            held_out_total=total,
        )

    def _part(self, rows: NDArray[np.int64]) -> Rows:
        lengths, counts = np.array(self._lengths, np.int64), np.array(self._counts, np.int64)
        chosen = np.zeros(len(counts), bool)
        chosen[rows] = True
        chosen_sequences = np.repeat(chosen, counts)
        offsets = _bounds(lengths[chosen_sequences])
        tokens, learned = np.zeros(0, np.int32), np.zeros(0, np.bool_)
        if self._tokens:
            taken = np.repeat(chosen_sequences, lengths)
            tokens = np.frombuffer(self._tokens, np.int32)[taken]
            learned = np.frombuffer(self._learned, np.bool_)[taken]
            learned[offsets[:-1]] = False
        firsts = _bounds(counts[rows])
        learned_counts = np.array(self._learned_counts, np.int64)[chosen_sequences]
        places = np.repeat(np.array(self._places, np.int64)[rows], counts[rows])
        lines = np.repeat(np.array(self._lines, np.int64)[rows], counts[rows])
        return Rows(tokens, learned, offsets, firsts, learned_counts, _sums(learned_counts, firsts), places, lines)


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
    blocks = np.array([*firsts, len(lengths)], np.int64)
    counts = _sums(texts.learned_of_sequences, blocks)
    return replace(texts, firsts=blocks, learned_counts=counts)


def _bounds(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each part begins, and the end of the last."""
    return np.concatenate(([0], np.cumsum(counts))).astype(np.int64)


def _sums(values: NDArray[np.int64], bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of each part."""
    return np.diff(_bounds(values)[bounds])


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
    share a micro-batch and the one that needs the most memory comes first. The last batch of an epoch may be smaller,
    and so is one with rows in quarantine: nothing moves up in their place.
    """
    steps = count_steps(len(rows), batch_size)
    epoch, within = divmod(step, steps)
    members = order_of_epoch(len(rows), seed, epoch)[within * batch_size : (within + 1) * batch_size]
    members = rows.taking_part(members)
    return members[np.lexsort((members, -rows.lengths[members]))]


def micro_batches(members: NDArray[np.int64], micro_batch_size: int, *, done: int = 0) -> Iterator[NDArray[np.int64]]:
    """The rows of a step that are computed together, behind the first ``done`` of them."""
    for start in range(done, len(members), micro_batch_size):
        yield members[start : start + micro_batch_size]


def count_steps(row_count: int, batch_size: int) -> int:
    """Optimizer steps of one epoch."""
    return -(-row_count // batch_size)
