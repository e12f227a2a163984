"""How a training would arrange a version's rows: which are left out, which are held out, which are computed together.

Counts and line numbers only, so that it can be remembered.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from btmd.data.encoding import Encoder
from btmd.data.rows import read_rows
from btmd.data.sequences import (
    ROWS_AT_A_TIME,
    Collector,
    Rows,
    Use,
    count_steps,
    encode_rows,
    micro_batches,
    rows_of_step,
)
from btmd.data.split import SPLIT_RULE
from btmd.inspection.facts import ArrangementFacts, ComputedTogether, PlacedSequence
from btmd.inspection.requests import TrainingShape

_LISTED: Final = 100
_MOST_SEQUENCES: Final = 1000
"""Of the first step; a step of more is not listed whole."""
_PROGRESS_EVERY: Final = 1024

Progress = Callable[[float, str], None]


def arrange(
    rows_path: Path, model_folder: Path, shape: TrainingShape, *, rows_total: int, progress: Progress
) -> ArrangementFacts:
    """Tokenise every row and arrange all as the trainer does. Raises DatasetRefused and what Encoder.load raises."""
    encoder = Encoder.load(model_folder)
    collected = Collector(shape.max_length, keep_tokens=False, split_rule=SPLIT_RULE, folder=rows_path.parent)
    lines: list[int] = []
    left_out: dict[Use, list[int]] = {}
    rows = read_rows(rows_path)
    while some := list(itertools.islice(rows, ROWS_AT_A_TIME)):
        for row, sequences in zip(some, encode_rows(encoder, some, shape.training_type, shape.max_length), strict=True):
            use = collected.take(row, sequences, len(lines))
            lines.append(row["line"])
            if use != "used" and len(listed := left_out.setdefault(use, [])) < _LISTED:
                listed.append(row["line"])
        if len(lines) % _PROGRESS_EVERY == 0:
            progress(len(lines) / max(1, rows_total), f"{len(lines):,} rows arranged")
    dataset = collected.dataset(
        training_type=shape.training_type,
        packing=shape.packing,
        held_out_fraction=shape.held_out_fraction,
        held_out_limit=shape.held_out_limit,
        seed=shape.seed,
    )
    held_out = collected.held_out(shape.held_out_fraction, shape.seed)
    return ArrangementFacts(
        rows=len(lines),
        train_rows=len(np.unique(dataset.train.places_of_sequences)),
        held_out_rows=dataset.held_out_total,
        blocks=len(dataset.train),
        tokens_an_epoch=int(dataset.train.lengths.sum()),
        learned_tokens_an_epoch=int(dataset.train.learned_counts.sum()),
        steps_an_epoch=count_steps(len(dataset.train), shape.batch_size),
        left_out={use: count for use, count in collected.left_out.items() if count},
        left_out_lines={use: tuple(listed) for use, listed in left_out.items()},
        held_out=np.packbits(held_out).tobytes(),
        first_step=tuple(_first_step(dataset.train, shape, lines)),
    )


def _first_step(rows: Rows, shape: TrainingShape, lines: list[int]) -> Iterator[ComputedTogether]:
    if len(rows) == 0:
        return
    members = rows_of_step(rows, step=0, batch_size=shape.batch_size, seed=shape.seed)
    listed = 0
    for together in micro_batches(members, shape.micro_batch_size):
        placed = tuple(_placed(rows, together, lines))
        listed += len(placed)
        if listed > _MOST_SEQUENCES:
            return
        yield ComputedTogether(sequences=placed, tokens=sum(one.tokens for one in placed))


def _placed(rows: Rows, together: NDArray[np.int64], lines: list[int]) -> Iterator[PlacedSequence]:
    lengths = np.diff(rows.offsets)
    for block, index in enumerate(together.tolist(), 1):
        for number in rows.sequences(index):
            place = int(rows.places_of_sequences[number])
            learned = int(rows.learned_of_sequences[number])
            yield PlacedSequence(block, place + 1, lines[place], int(lengths[number]), learned)
