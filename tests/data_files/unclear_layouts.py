"""Datasets that cannot be told without asking: what the question is about, and what answers it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.data_files.layouts import Turns
from tests.data_files.programs import json_lines, json_list, libreoffice_csv


@dataclass(frozen=True)
class Unclear:
    """A file that must be asked about: what the question names, and a mapping that answers it."""

    title: str
    name: str
    content: bytes
    names: str
    """A word of the sentence, so that the person knows what about."""
    answer: Mapping[str, str] = field(default_factory=dict)
    """Empty where nothing but another file helps."""
    rows: Sequence[Turns | str] = ()
    is_suggested: bool = True
    """Whether the answer is among the suggestions."""


ASKED = ["Why does it rain here?", "Where is the lamp now?", "Who was it that came?"]
ANSWERED = ["It is the sea that brings it.", "It stands in the tower.", "It was the keeper of the lamp."]
SAID = [(("user", asked), ("assistant", answered)) for asked, answered in zip(ASKED, ANSWERED, strict=True)]


def rows_of(**columns: Sequence[Any]) -> bytes:
    return json_lines(dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))


DISCORD = json.dumps(
    {
        "guild": {"id": "1", "name": "Harbour"},
        "channel": {"id": "2", "name": "help"},
        "messages": [
            {
                "id": str(n),
                "timestamp": f"2026-03-01T10:0{n}:00+00:00",
                "content": said,
                "author": {"id": who, "name": who},
            }
            for n, (who, said) in enumerate(
                (("anna", ASKED[0]), ("ben", ANSWERED[0]), ("anna", ASKED[1]), ("ben", ANSWERED[1]))
            )
        ],
    },
    indent=2,
).encode()
SLACK = json_list(
    {"type": "message", "user": who, "text": said, "ts": f"17720{n}.000100", "thread_ts": thread}
    for n, (who, said, thread) in enumerate(
        (
            ("U01", ASKED[0], "177200.000100"),
            ("U02", ANSWERED[0], "177200.000100"),
            ("U03", ASKED[1], "177202.000100"),
            ("U02", ANSWERED[1], "177202.000100"),
        )
    )
)

UNCLEAR = (
    Unclear(
        "columns of names that say nothing",
        "a.jsonl",
        rows_of(col1=ASKED, col2=ANSWERED),
        "'col1'",
        {"prompt": "col1", "completion": "col2"},
        SAID,
    ),
    Unclear(
        "two columns that may be the answer",
        "a.jsonl",
        rows_of(question=ASKED, answer=ANSWERED, response=ANSWERED[::-1]),
        "'response'",
        {"prompt": "question", "completion": "answer"},
        SAID,
    ),
    Unclear(
        "a single column of questions", "a.jsonl", rows_of(question=ASKED), "single column", {"text": "question"}, ASKED
    ),
    Unclear(
        "a table without names of columns",
        "a.csv",
        libreoffice_csv([ASKED[0], ANSWERED[0]], list(zip(ASKED[1:], ANSWERED[1:], strict=True))),
        "columns",
        is_suggested=False,
    ),
    Unclear(
        "texts with a label",
        "a.jsonl",
        rows_of(text=ANSWERED, label=["weather", "place", "person"]),
        "'label'",
        {"prompt": "text", "completion": "label"},
        [(("user", ANSWERED[0]), ("assistant", "weather"))],
    ),
    Unclear(
        "messages without a number of their conversation",
        "a.jsonl",
        rows_of(role=["user", "assistant", "user"], content=[ASKED[0], ANSWERED[0], ASKED[1]]),
        "belong together",
        is_suggested=False,
    ),
    Unclear(
        "a choice by its letter",
        "a.jsonl",
        rows_of(question=ASKED, choices=[["sea", "sky"]] * 3, answer=["A", "B", "A"]),
        "choice",
        {"prompt": "question", "completion": "answer"},
        [(("user", ASKED[0]), ("assistant", "A"))],
    ),
    Unclear(
        "conversations of people with names",
        "a.jsonl",
        rows_of(
            messages=[
                [{"role": "Anna", "content": asked}, {"role": "Ben", "content": answered}]
                for asked, answered in zip(ASKED, ANSWERED, strict=True)
            ]
        ),
        "names that are not known",
        {"conversation": "messages", "role:@first": "user", "role:@others": "assistant"},
        SAID,
    ),
    Unclear(
        "a Slack export",
        "2026-03-01.json",
        SLACK,
        "",
        {
            "conversation": "thread_ts",
            "role": "user",
            "content": "text",
            "order": "ts",
            "role:@first": "user",
            "role:@others": "assistant",
        },
        SAID[:2],
    ),
    Unclear(
        "good and bad answers, each by itself",
        "a.jsonl",
        rows_of(prompt=ASKED, completion=ANSWERED, label=[True, False, True]),
        "'label'",
        is_suggested=False,
    ),
    Unclear("a Discord export", "help.json", DISCORD, "", is_suggested=False),
    Unclear(
        "segments that are learned or not",
        "a.jsonl",
        rows_of(
            segments=[
                [{"label": False, "text": asked}, {"label": True, "text": answered}]
                for asked, answered in zip(ASKED, ANSWERED, strict=True)
            ]
        ),
        "'segments'",
        is_suggested=False,
    ),
)
