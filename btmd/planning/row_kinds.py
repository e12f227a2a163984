"""Which training type learns from which kind of rows, and what to say where the two do not fit."""

import math
from typing import Final

from msgspec.structs import replace

from btmd.domain.preset import Preset
from btmd.errors import DatasetRefused, PreferenceData
from btmd.planning.request import TokenFacts

PACKED_TYPE: Final = "continued_pretraining"
PAIR_TYPE: Final = "preference_tuning"
PRESET_FOR_KIND: Final = {"text": "handouts", "preference": "preference"}
"""The preset that is made for rows of this kind; for conversations it depends on model and machine."""


def refuse_unfit_rows(tokens: TokenFacts, training_type: str) -> None:
    """Raises DatasetRefused where the training type cannot learn from rows of this kind; names the one that can."""
    if tokens.kind == "preference" and training_type != PAIR_TYPE:
        raise PreferenceData(
            f"{training_type} learns from one answer to a question, and these rows have a chosen and a rejected one.",
            hint="Use --preset preference. To learn from the chosen answers alone, add the file anew with "
            "--map prompt=prompt --map completion=chosen.",
        )
    if training_type == PAIR_TYPE and tokens.kind != "preference":
        what = "plain text" if tokens.kind == "text" else "one answer to each question"
        instead = "--preset handouts" if tokens.kind == "text" else "--set training_type=lora_adaptation"
        raise DatasetRefused(
            f"preference_tuning compares a chosen answer with a rejected one; this dataset has {what}.",
            hint=f"Use {instead}, or give rows with the columns prompt, chosen and rejected.",
        )
    if training_type == PACKED_TYPE and tokens.kind != "text":
        raise DatasetRefused(
            "continued_pretraining learns every token of plain text; in this dataset there are questions with answers, "
            "of which only the answers are to be learned.",
            hint="Use --set training_type=lora_adaptation or --set training_type=fine_tuning.",
        )


def kind_note(tokens: TokenFacts, training_type: str) -> list[str]:
    """What a person should know who trains on text as if it were answers."""
    if tokens.kind != "text" or training_type == PACKED_TYPE:
        return []
    return [
        "The data is plain text: every token of it is learned, and texts longer than max_length are left out whole. "
        "--preset handouts (continued_pretraining) is made for it: it cuts long texts and leaves nothing out."
    ]


def packed_tokens(tokens: TokenFacts, preset: Preset) -> TokenFacts:
    """The same texts for choosing a length: each is cut to it, so none is too long and none leaves room empty."""
    return replace(tokens, longest_row=preset.max_length, over_long={0: 0})


def count_blocks(tokens: TokenFacts, rows: int, max_length: int) -> int:
    """Blocks that so many of the texts fill."""
    if rows <= 0 or tokens.rows <= 0:
        return 0
    return max(1, math.ceil(rows / tokens.rows * tokens.total_tokens / max_length))
