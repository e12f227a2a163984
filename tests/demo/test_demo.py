"""The demo data is complete, its key marks its own answers right, and it is read like any other dataset."""

import json
from collections import Counter
from importlib.resources import as_file
from pathlib import Path
from typing import Any

from btmd import demo
from btmd.data.rows import read_rows
from btmd.inspection.dataset import inspect_dataset


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in demo.dataset().read_text(encoding="utf-8").splitlines()]


def test_every_fact_has_five_phrasings_to_train_and_one_held_out() -> None:
    counts = Counter((row["fact"], row["split"]) for row in rows())
    facts = {fact for fact, _ in counts}
    assert len(facts) == 30
    assert facts == set(demo.answer_key())
    assert all(counts[fact, "train"] == 5 and counts[fact, "held_out"] == 1 for fact in facts)
    questions = [row["question"].lower() for row in rows()]
    assert len(set(questions)) == 180


def test_each_fact_has_one_short_answer_that_only_its_own_key_accepts() -> None:
    answers = {row["fact"]: row["answer"] for row in rows()}
    assert len({(row["fact"], row["answer"]) for row in rows()}) == 30
    for fact, answer in answers.items():
        assert len(answer) < 80
        assert [other for other in answers if demo.is_right(other, answer)] in ([fact], ["command_line", fact])


def test_no_question_gives_its_answer_away() -> None:
    for row in rows():
        assert not demo.is_right(row["fact"], row["question"]), row


def test_the_score_is_the_share_of_right_answers() -> None:
    asked = demo.held_out_questions()
    assert demo.score((one.fact, one.answer) for one in asked) == 1.0
    assert demo.score((one.fact, one.question) for one in asked) == 0.0
    half = [(one.fact, one.answer if number % 2 else "I do not know.") for number, one in enumerate(asked)]
    assert demo.score(half) == 0.5
    assert demo.score([]) == 0.0
    assert demo.is_right("socket_file", "It is `BTMD.sock`!")


def test_it_is_read_as_question_and_answer_with_its_own_split(tmp_path: Path) -> None:
    with as_file(demo.dataset()) as path:
        facts = inspect_dataset(path, "facts.jsonl", tmp_path / "rows", progress=lambda _share, _text: None)
    assert (facts.layout, facts.rows_kept, facts.rows_held_out) == ("question_answer", 180, 30)
    assert (facts.rows_broken, facts.rows_empty, facts.duplicates) == (0, 0, 0)
    assert {row.get("split") for row in read_rows(tmp_path / "rows")} == {"train", "held_out"}
