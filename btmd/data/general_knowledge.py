"""Everyday questions with their answers, written for this project: whoever forgets them has forgotten too much.

Facts, sums and words that every chat model knows something of. They are in no dataset, so that their loss before and
after a training tells what it cost beside what it taught. Any first part of them is a fair part of all.
"""

import json
from importlib.resources import files

from btmd.data.encoding import Encoder
from btmd.data.rows import Row
from btmd.data.sequences import Collector, Rows, encode_rows

_LONGEST = 4096


def general_questions() -> list[Row]:
    """All of them, as conversations."""
    text = (files("btmd.data") / "general_knowledge.jsonl").read_text(encoding="utf-8")
    rows: list[Row] = [json.loads(line) for line in text.splitlines()]
    return rows


def general_rows(encoder: Encoder, count: int) -> Rows:
    """The first ``count`` as the model's tokens; where it has no chat template of its own, as plain texts."""
    rows = general_questions()[:count]
    if encoder.template_kind == "plain":
        rows = [Row(line=row["line"], text=" ".join(turn["content"] for turn in row["messages"])) for row in rows]
    collected = Collector(_LONGEST)
    for row, sequences in zip(rows, encode_rows(encoder, rows, "fine_tuning", _LONGEST), strict=True):
        collected.take(row, sequences, row["line"])
    found = collected.dataset(
        training_type="fine_tuning", packing=False, held_out_fraction=0.0, held_out_limit=0, seed=0
    )
    return found.train
