"""Measures normalised rows in a model's tokens: how long they are, what would be learned, what would be left out."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from btmd.data.encoding import Encoded, EncodedPair, Encoder
from btmd.data.row_chunks import RowsFile
from btmd.data.rows import Row, read_rows
from btmd.errors import NothingToLearn, TemplateMismatch
from btmd.inspection.facts import LengthCount, TokenFacts

_LISTED: Final = 100
_CANDIDATE_LENGTHS: Final = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
_BATCH_ROWS: Final = 1000
_BATCH_CHARS: Final = 1024 * 1024

Progress = Callable[[float, str], None]


@dataclass
class _Tally:
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

    def take(self, row: Row, encoded: Encoded | EncodedPair | TemplateMismatch) -> None:
        self.rows += 1
        if isinstance(encoded, TemplateMismatch):
            self.refused += 1
            self.refused_reason = self.refused_reason or encoded.detail
            if len(self.refused_lines) < _LISTED:
                self.refused_lines.append(row["line"])
            return
        sides = [encoded] if isinstance(encoded, Encoded) else [encoded.chosen, encoded.rejected]
        self.lengths[max(len(side.input_ids) for side in sides)] += 1
        self.tokens += sum(len(side.input_ids) for side in sides)
        learned = sum(sum(side.learned) for side in sides)
        self.learned += learned
        if learned == 0:
            self.nothing_learned += 1
            if len(self.nothing_lines) < _LISTED:
                self.nothing_lines.append(row["line"])


def measure(rows_path: Path, model_folder: Path, *, max_length: int | None, progress: Progress) -> TokenFacts:
    """Tokenise every row and count. ``max_length`` adds a length to those rows are compared with, in tokens.

    Raises NothingToLearn when no row has a token to learn, and what Encoder.load raises.
    """
    encoder = Encoder.load(model_folder)
    total = _Tally()
    expected = _estimate_rows(rows_path)
    for batch in _batches(rows_path):
        pairs = all("rejected" in row for row in batch)
        encoded = encoder.encode_pairs(batch) if pairs else encoder.encode_many(batch)
        for row, one in zip(batch, encoded, strict=True):
            total.take(row, one)
        progress(min(1.0, total.rows / expected), f"{total.rows:,} rows measured")
    if total.learned == 0:
        raise _nothing_to_learn(total)
    return _facts(total, encoder, max_length)


def _batches(rows_path: Path) -> Iterator[list[Row]]:
    """Rows in portions that are small in memory too: a token's place takes a hundred times its letters' room."""
    batch: list[Row] = []
    chars = 0
    for row in read_rows(rows_path):
        batch.append(row)
        turns = (*row.get("messages", ()), *row.get("rejected", ()))
        chars += len(row.get("text", "")) + sum(len(message["content"]) for message in turns)
        if len(batch) >= _BATCH_ROWS or chars >= _BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


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
