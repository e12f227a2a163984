"""The demo data: thirty facts about btmd itself, asked in six ways each, and the key to mark answers with.

Five phrasings of each question are for training, the sixth is held out: right answers to it show that the fact was
learned, not the question. The accepted phrases are such that a model that never heard of btmd does not guess them.
"""

import json
from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple


class Question(NamedTuple):
    """A question of the demo data and the answer it should get."""

    fact: str
    question: str
    answer: str


def dataset() -> Traversable:
    """The dataset as it is shipped: JSON Lines with ``fact``, ``split``, ``question`` and ``answer``."""
    return files(__name__) / "facts.jsonl"


def held_out_questions() -> list[Question]:
    """The thirty questions that are not trained on, in the file's order."""
    rows = (json.loads(line) for line in dataset().read_text(encoding="utf-8").splitlines())
    return [Question(row["fact"], row["question"], row["answer"]) for row in rows if row["split"] == "held_out"]


def answer_key() -> dict[str, list[str]]:
    """By fact, the phrases of which a right answer contains one; all in lower case."""
    key: dict[str, list[str]] = json.loads((files(__name__) / "facts_key.json").read_text(encoding="utf-8"))
    return key


def is_right(fact: str, answer: str) -> bool:
    """Whether the answer names the fact. Raises KeyError for an unknown fact."""
    said = " ".join(answer.lower().replace("’", "'").replace("`", "").replace("*", "").split())
    return any(phrase in said for phrase in answer_key()[fact])


def score(answers: Iterable[tuple[str, str]]) -> float:
    """The share (0..1) of right answers among pairs of fact and answer; 0 when there are none."""
    marks = [is_right(fact, answer) for fact, answer in answers]
    return sum(marks) / len(marks) if marks else 0.0
