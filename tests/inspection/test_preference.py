"""Pairs of a better and a worse answer are read in all their spellings; pairs that teach nothing are named."""

from pathlib import Path
from typing import Any

import pytest

from tests.inspection.test_dataset import inspected, lines, said

USER = {"role": "user", "content": "Why?"}
GOOD = {"role": "assistant", "content": "Because."}
BAD = {"role": "assistant", "content": "No idea."}
BETTER = [("user", "Why?"), ("assistant", "Because.")]
WORSE = [("user", "Why?"), ("assistant", "No idea.")]


def sides(row: Any) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    return said(row), [(turn["role"], turn["content"]) for turn in row["rejected"]]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "chosen": "Because.", "rejected": "No idea."},
        {"question": "Why?", "chosen": " Because.", "rejected": "No idea.\n"},
        {"prompt": "Why?", "chosen": GOOD, "rejected": BAD},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": "Why?", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"chosen": "\n\nHuman: Why?\n\nAssistant: Because.", "rejected": "\n\nHuman: Why?\n\nAssistant: No idea."},
        {"prompt": "\n\nHuman: Why?\n\nAssistant:", "chosen": " Because.", "rejected": " No idea."},
    ],
)
def test_every_spelling_of_a_pair_becomes_two_conversations(row: dict[str, Any], tmp_path: Path) -> None:
    facts, [kept] = inspected(tmp_path, lines(row))
    assert (facts.layout, facts.row_kind) == ("preference", "preference")
    assert sides(kept) == (BETTER, WORSE)


def test_a_system_column_and_earlier_turns_stand_before_both(tmp_path: Path) -> None:
    before = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi."}, USER]
    row = {"system": "Be short.", "chosen": [*before, GOOD], "rejected": [*before, BAD]}
    _, [kept] = inspected(tmp_path, lines(row))
    common = [("system", "Be short."), ("user", "Hello."), ("assistant", "Hi."), ("user", "Why?")]
    assert sides(kept) == ([*common, BETTER[-1]], [*common, WORSE[-1]])


def test_an_answer_that_looks_like_a_heading_is_no_transcript(tmp_path: Path) -> None:
    row = {"prompt": "User: who?", "chosen": "System: a whole.", "rejected": "b"}
    _, [kept] = inspected(tmp_path, lines(row))
    assert said(kept)[-1] == ("assistant", "System: a whole.")


def test_pairs_that_teach_nothing_are_counted_with_their_lines(tmp_path: Path) -> None:
    good = {"prompt": "Why?", "chosen": "Because.", "rejected": "No idea."}
    facts, rows = inspected(
        tmp_path,
        lines(
            good,
            {**good, "rejected": " Because. "},
            {**good, "rejected": ""},
            {**good, "chosen": None},
            {**good, "prompt": ""},
            {**good, "chosen": 7},
            {**good, "chosen": [USER, GOOD], "rejected": [{"role": "user", "content": "What?"}, BAD]},
            {"chosen": "Because.", "rejected": "No idea."},
        ),
    )
    assert [row["line"] for row in rows] == [1, 6]
    assert facts.empty_lines == (3, 4, 5)
    assert [(row.line, row.reason) for row in facts.broken] == [
        (2, "the chosen and the rejected answer are the same"),
        (7, "the two answers do not belong to one prompt"),
        (8, "there is no prompt: neither a column for it nor a user's turn before the answers"),
    ]


def test_a_mapping_names_both_sides_or_only_the_better_one(tmp_path: Path) -> None:
    row = lines({"ask": "Why?", "yes": "Because.", "no": "No idea."})
    facts, [kept] = inspected(tmp_path, row, mapping={"prompt": "ask", "chosen": "yes", "rejected": "no"})
    assert facts.row_kind == "preference"
    assert sides(kept) == (BETTER, WORSE)
    facts, [kept] = inspected(tmp_path, row, mapping={"prompt": "ask", "completion": "yes"})
    assert facts.row_kind == "conversation"
    assert "rejected" not in kept


def test_repeated_pairs_are_duplicates_and_another_rejected_answer_is_not(tmp_path: Path) -> None:
    pair = {"prompt": "Why?", "chosen": "Because.", "rejected": "No idea."}
    facts, _ = inspected(tmp_path, lines(pair, pair, {**pair, "rejected": "Never."}))
    assert facts.duplicates == 1


def test_headings_begin_rows_and_stay_with_what_follows(tmp_path: Path) -> None:
    text = "Before.\n\n# One\n\n## Under one\n\nText.\n\n```\n# no heading\n```\n# Two\nMore.\n#tag is text\n"
    facts, rows = inspected(tmp_path, text, "handout.md")
    assert facts.row_kind == "text"
    assert [(row["line"], row["text"]) for row in rows] == [
        (1, "Before."),
        (3, "# One\n\n## Under one\n\nText.\n\n```\n# no heading\n```"),
        (12, "# Two\nMore.\n#tag is text"),
    ]
    assert len(inspected(tmp_path, text, "handout.txt")[1]) == 1
