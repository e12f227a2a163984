"""Shows a few rows of a version as they were understood, and with a model token by token as it would learn them."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from btmd.data.encoding import Encoded, Encoder
from btmd.data.rows import Message, Row, read_rows
from btmd.data.sequences import encode_rows, use_of
from btmd.errors import InvalidValue, TemplateMismatch
from btmd.inspection.requests import RowChoice, TrainingShape
from btmd.inspection.shown import Preview, ShownRow, ShownSequence, ShownTurn

MOST_CHARS: Final = 20_000
"""Of one turn; the rest is counted."""
MOST_TOKENS: Final = 8192
"""Of one sequence."""
_MOST_TURNS: Final = 500
_MOST_SEQUENCES: Final = 4

NumberedRow = tuple[int, Row]


def preview(
    rows_path: Path, choice: RowChoice, *, rows_total: int, model_folder: Path | None, shape: TrainingShape | None
) -> Preview:
    """The rows that were chosen; with ``model_folder`` and ``shape`` their tokens too.

    Raises InvalidValue for a row or line that is not there, DatasetRefused, and what Encoder.load raises.
    """
    found = list(_chosen(rows_path, choice, rows_total))
    if model_folder is None or shape is None:
        return Preview(rows_total=rows_total, rows=tuple(_shown(number, row) for number, row in found))
    encoder = Encoder.load(model_folder)
    tokenised = tuple(_tokenised(found, encoder, shape))
    return Preview(rows_total=rows_total, rows=tokenised, template=encoder.template_kind)


def _chosen(rows_path: Path, choice: RowChoice, rows_total: int) -> Iterator[NumberedRow]:
    numbered = enumerate(read_rows(rows_path), 1)
    if choice.line is not None:
        return itertools.islice(_from_line(numbered, choice.line), choice.count)
    first = choice.row or 1
    if first > rows_total:
        raise InvalidValue(f"There is no row {first:,}: the dataset has {rows_total:,}.", hint="Rows count from 1.")
    return itertools.islice(numbered, first - 1, first - 1 + choice.count)


def _from_line(numbered: Iterable[NumberedRow], line: int) -> Iterator[NumberedRow]:
    before: int | None = None
    for number, row in numbered:
        if row["line"] == line:
            yield number, row
            yield from numbered
            return
        if row["line"] < line:
            before = row["line"] if before is None else max(before, row["line"])
    near = "" if before is None else f" The row before it begins at line {before:,}."
    raise InvalidValue(
        f"No row that is kept begins at line {line:,}.{near}",
        hint="`btmctl datasets check` names the lines of empty and broken rows.",
    )


def _shown(number: int, row: Row) -> ShownRow:
    return ShownRow(
        row=number,
        line=row["line"],
        split=row.get("split"),
        messages=_turns(row.get("messages", ())),
        rejected=_turns(row.get("rejected", ())),
        text=_turn("text", row["text"]) if "text" in row else None,
        more_turns=max(0, len(row.get("messages", ())) - _MOST_TURNS),
    )


def _turns(messages: Sequence[Message]) -> tuple[ShownTurn, ...]:
    return tuple(_turn(message["role"], message["content"]) for message in messages[:_MOST_TURNS])


def _turn(role: str, content: str) -> ShownTurn:
    return ShownTurn(role, content[:MOST_CHARS], max(0, len(content) - MOST_CHARS))


def _tokenised(found: Sequence[NumberedRow], encoder: Encoder, shape: TrainingShape) -> Iterator[ShownRow]:
    encoded = encode_rows(encoder, [row for _, row in found], shape.training_type, shape.max_length)
    for (number, row), sequences in zip(found, encoded, strict=True):
        use = use_of(sequences, shape.max_length)
        tokens: list[Encoded] = [] if isinstance(sequences, TemplateMismatch) else sequences
        named = list(zip(_names(row, len(tokens)), tokens, strict=True))[:_MOST_SEQUENCES]
        yield ShownRow(
            row=number,
            line=row["line"],
            split=row.get("split"),
            sequences=tuple(_sequence(name, one, encoder) for name, one in named),
            more_sequences=len(tokens) - len(named),
            use=use,
            refusal=sequences.detail if isinstance(sequences, TemplateMismatch) else "",
        )


def _names(row: Row, count: int) -> Sequence[str]:
    if "rejected" in row and count == 2:
        return ("chosen", "rejected")
    return ["text" if "text" in row else "conversation"] * count


def _sequence(name: str, one: Encoded, encoder: Encoder) -> ShownSequence:
    # As the trainer does: the first token of a sequence has nothing before it to be predicted from.
    learned = [False, *one.learned[1:]]
    ids = one.input_ids[:MOST_TOKENS]
    return ShownSequence(
        name=name,
        tokens=len(one.input_ids),
        learned_tokens=sum(learned),
        ids=tuple(ids),
        texts=tuple(encoder.token_texts(ids)),
        learned=tuple(learned[:MOST_TOKENS]),
        marks=tuple(encoder.are_marks(ids)),
    )
