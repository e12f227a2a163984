"""How many rows are trained, held out and left out."""

from msgspec import Struct

from btmd.domain.units import format_count
from btmd.errors import DatasetRefused, NothingToLearn
from btmd.planning.choices import Choices
from btmd.planning.row_kinds import count_blocks

ROWS_FOR_HELD_OUT = 10
"""From so many rows on at least one is held out."""


class DataShare(Struct, frozen=True):
    """Rows by what happens to them; ``measured_rows`` of the held-out ones are measured each time."""

    train_rows: int
    held_out_rows: int
    measured_rows: int
    left_out_rows: int
    rows_without_learned: int


def share_data(choices: Choices, max_length: int, *, packed: bool = False) -> DataShare:
    """Choose the held-out values and count; where texts are ``packed``, blocks are counted.

    Raises NothingToLearn, DatasetRefused.
    """
    tokens = choices.request.tokens
    if tokens.rows == 0:
        raise DatasetRefused("The dataset has no rows.", hint="`btmctl datasets check` says what was left out and why.")
    if tokens.learned_tokens == 0:
        raise NothingToLearn(
            "No token of this dataset would be learned: no row has an answer for the model to learn.",
            hint="Every row needs an assistant's answer (or a text). `btmctl datasets check` shows what was found.",
        )
    left_out = 0 if packed else tokens.left_out_rows(max_length)
    kept = tokens.rows - left_out - tokens.rows_without_learned
    if kept <= 0:
        raise NothingToLearn(
            f"Every row that could be learned from is longer than {format_count(max_length, 'token')}; "
            "nothing would be left to train.",
            hint=f"The longest row has {tokens.longest_row} tokens: raise max_length, or split the rows.",
        )
    text = "Rows kept back to measure honestly whether it got better."
    choices.choose_setting("held_out_fraction", "training.held_out_fraction", 0.1, text)
    fraction = choices.number("held_out_fraction")
    if tokens.held_out_rows is not None:
        held_out = min(tokens.held_out_rows, kept - 1)
        choices.choose("held_out_fraction", fraction, "data", "The file says itself which rows are held out.")
    else:
        held_out = min(round(kept * fraction), kept - 1)
        if fraction > 0 and kept >= ROWS_FOR_HELD_OUT:
            held_out = max(1, held_out)
    choices.choose_setting(
        "held_out_limit", "training.held_out_limit", 200, "Enough to tell, few enough to be measured quickly."
    )
    limit = choices.integer("held_out_limit")
    if packed:
        measured = min(held_out, limit) if limit else held_out
        train, out, measured = (
            count_blocks(tokens, rows, max_length) for rows in (kept - held_out, held_out, measured)
        )
        return DataShare(train, out, measured, left_out, tokens.rows_without_learned)
    return DataShare(
        kept - held_out, held_out, min(held_out, limit) if limit else held_out, left_out, tokens.rows_without_learned
    )
