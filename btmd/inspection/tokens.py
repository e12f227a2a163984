"""Measures normalised rows in a model's tokens: how long they are, what would be learned, what would be left out."""

import gc
import heapq
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from btmd.data.encoding import Counted, Encoder
from btmd.data.row_chunks import RowsFile
from btmd.data.rows import Row
from btmd.errors import NothingToLearn, TemplateMismatch
from btmd.inspection.facts import LengthCount, TokenFacts
from btmd.inspection.workers import Done, in_workers, portions, workers_for

_LISTED: Final = 100
_CANDIDATE_LENGTHS: Final = (64, 128, 256, 512, 1024, 2048, 4096, 8192)

Progress = Callable[[float, str], None]


class _Tally(Struct):
    """What is counted while the rows go by."""

    rows: int = 0
    tokens: int = 0
    learned: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    nothing_learned: int = 0
    nothing_lines: list[int] = field(default_factory=list)
    refused: int = 0
    refused_lines: list[int] = field(default_factory=list)
    refused_reason: str | None = None

    longest: list[tuple[int, int]] = field(default_factory=list)
    """Tokens and minus the line of the longest rows: a heap."""

    def take(self, row: Row, counted: Counted | tuple[Counted, Counted] | TemplateMismatch) -> None:
        self.rows += 1
        if isinstance(counted, TemplateMismatch):
            self.refused += 1
            self.refused_reason = self.refused_reason or counted.detail
            if len(self.refused_lines) < _LISTED:
                self.refused_lines.append(row["line"])
            return
        sides = (counted,) if isinstance(counted, Counted) else counted
        length = max(side.tokens for side in sides)
        self.lengths[length] += 1
        push = heapq.heappush if len(self.longest) < _LISTED else heapq.heappushpop
        push(self.longest, (length, -row["line"]))
        self.tokens += sum(side.tokens for side in sides)
        learned = sum(side.learned for side in sides)
        self.learned += learned
        if learned == 0:
            self.nothing_learned += 1
            if len(self.nothing_lines) < _LISTED:
                self.nothing_lines.append(row["line"])

    def merge(self, other: "_Tally") -> None:
        """Put what another worker counted in."""
        self.rows += other.rows
        self.tokens += other.tokens
        self.learned += other.learned
        self.lengths += other.lengths
        self.nothing_learned += other.nothing_learned
        self.nothing_lines = sorted(self.nothing_lines + other.nothing_lines)[:_LISTED]
        self.refused += other.refused
        self.refused_lines = sorted(self.refused_lines + other.refused_lines)[:_LISTED]
        self.refused_reason = self.refused_reason or other.refused_reason
        self.longest = heapq.nlargest(_LISTED, self.longest + other.longest)


def measure(rows_path: Path, model_folder: Path, *, max_length: int | None, progress: Progress) -> TokenFacts:
    """Tokenise every row and count. ``max_length`` adds a length to those rows are compared with, in tokens.

    Raises NothingToLearn when no row has a token to learn, and what Encoder.load raises.
    """
    # Each worker tokenises by itself: the library's own threads would only be in each other's way.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    encoder = Encoder.load(model_folder)
    workers = workers_for(rows_path)
    expected = _estimate_rows(rows_path)
    done = 0

    def on_done(rows: int) -> None:
        nonlocal done
        done += rows
        progress(min(1.0, done / expected), f"{done:,} rows measured")

    def count(worker: int, on_rows: Done) -> _Tally:
        found = _Tally()
        # A tuple for each token comes and goes, none in a circle: looking for circles would take a tenth of the time.
        gc.disable()
        for _, batch in portions(rows_path, worker, workers):
            pairs = all("rejected" in row for row in batch)
            counted = encoder.count_pairs(batch) if pairs else encoder.count_many(batch)
            for row, one in zip(batch, counted, strict=True):
                found.take(row, one)
            on_rows(len(batch))
        gc.enable()
        return found

    total, *others = in_workers(count, workers, on_done)
    for other in others:
        total.merge(other)
    if total.learned == 0:
        raise _nothing_to_learn(total)
    return _facts(total, encoder, max_length)


def _estimate_rows(rows_path: Path) -> float:
    """As told by the list of chunks; of plain rows, from the length of the first: good enough for a bar."""
    rows = RowsFile(rows_path)
    if rows.rows is not None:
        return max(1, rows.rows)
    with rows_path.open("rb") as file:
        sample = file.read(1 << 16)
    return max(1.0, rows.size_bytes * sample.count(b"\n") / max(1, len(sample)))


def _nothing_to_learn(total: _Tally) -> NothingToLearn:
    if total.refused == total.rows and total.refused_reason is not None:
        return NothingToLearn(
            f"None of the {total.rows:,} rows fits the model's chat template. The first says: {total.refused_reason}",
            hint="Use a model with another template, or bring the rows into question and answer.",
        )
    return NothingToLearn(
        f"In none of the {total.rows:,} rows is there a token to learn: the model learns the assistant's words only, "
        "and its chat template shows none.",
        hint="Check that the rows have answers and that this model's chat template prints the assistant's turns.",
    )


def _facts(total: _Tally, encoder: Encoder, max_length: int | None) -> TokenFacts:
    lengths = sorted(total.lengths.items())
    measured = sum(count for _, count in lengths)
    candidates = sorted({*_CANDIDATE_LENGTHS, *([max_length] if max_length is not None else [])})
    histogram: Counter[int] = Counter()
    for length, count in lengths:
        step = 64 if length <= 8192 else 1024
        histogram[-(-length // step) * step] += count
    return TokenFacts(
        rows=total.rows,
        tokens_total=total.tokens,
        learned_tokens=total.learned,
        rows_nothing_learned=total.nothing_learned,
        nothing_learned_lines=tuple(total.nothing_lines),
        rows_refused=total.refused,
        refused_lines=tuple(total.refused_lines),
        refused_reason=total.refused_reason,
        shortest=lengths[0][0],
        mean=round(sum(length * count for length, count in lengths) / measured, 1),
        p50=_percentile(lengths, measured, 50),
        p90=_percentile(lengths, measured, 90),
        p95=_percentile(lengths, measured, 95),
        p99=_percentile(lengths, measured, 99),
        longest=lengths[-1][0],
        histogram=dict(sorted(histogram.items())),
        over=tuple(
            LengthCount(candidate, sum(count for length, count in lengths if length > candidate))
            for candidate in candidates
        ),
        longest_rows=tuple((length, -line) for length, line in sorted(total.longest, reverse=True)),
        template=encoder.template_kind,
        warnings=_warnings(total, encoder, max_length),
    )


def _percentile(lengths: list[tuple[int, int]], measured: int, percent: int) -> int:
    """The least length that this share of the rows does not exceed."""
    needed = -(-measured * percent // 100)
    seen = 0
    for length, count in lengths:
        seen += count
        if seen >= needed:
            return length
    return lengths[-1][0]


def _warnings(total: _Tally, encoder: Encoder, max_length: int | None) -> tuple[str, ...]:
    found: list[str] = []
    if encoder.template_kind == "plain":
        found.append("The model has no chat template; questions and answers are set under plain headings.")
    if total.nothing_learned:
        found.append(f"{total.nothing_learned:,} rows have no token to learn.")
    if total.refused:
        found.append(f"{total.refused:,} rows do not fit the model's chat template and are left out.")
    over = sum(count for length, count in total.lengths.items() if max_length is not None and length > max_length)
    if over:
        found.append(f"{over:,} rows are longer than {max_length:,} tokens and are left out whole, never cut.")
    return tuple(found)
