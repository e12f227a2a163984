"""Held-out questions answered before and after training. Their text stays in one private file of the job folder."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from btmd.data.answers_file import open_sealed, seal
from btmd.data.encoding import Encoder
from btmd.data.rows import Message
from btmd.data.sequences import Rows
from btmd.errors import PartMissing
from btmd.files.durable import write_atomically
from btmd.trainer.data import read_row_at
from btmd.trainer.model import TrainableModel

SHORT_TOKENS = 40
"""Answers up to this length can be compared word by word; of longer ones many are right."""
FEWEST_SCORED = 5
MOST_TOGETHER = 16
_TEXT_PROMPT_TOKENS = 32


class Sample(msgspec.Struct):
    """One held-out row: what was asked, what the data says, what the model said before and after."""

    line: int
    """Of the source file."""
    prompt: list[Message]
    """Empty for raw text."""
    prompt_text: str
    """The last question, or the beginning of the text."""
    expected: str
    base: str | None = None
    tuned: str | None = None


class Answers(msgspec.Struct):
    samples: list[Sample]


@dataclass(frozen=True, slots=True)
class Question:
    """A sample with the tokens after which the model answers, in at most ``most_tokens``."""

    sample: Sample
    prompt_ids: list[int]
    most_tokens: int
    shown: bool
    """Whether a person sees its answers."""
    scored: bool
    """Whether they are compared with the data's."""


class Answered(msgspec.Struct, frozen=True):
    """What answering took: token for token of ``tokens`` in all batches together, of ``most`` that there could be."""

    seconds: float = 0.0
    tokens: int = 0
    most: int = 0

    @property
    def longest_s(self) -> float:
        """What it takes if every answer is as long as it may be."""
        return self.seconds * self.most / max(1, self.tokens)


def choose_questions(
    rows_path: Path, held_out: Rows, encoder: Encoder, *, shown: int, scored: int, sample_tokens: int
) -> list[Question]:
    """Held-out rows, evenly spread over the file: ``shown`` of any, and ``scored`` of those with short answers.

    What is shown is scored before anything else, since it is answered anyway. There are fewer where the data has no
    more, and none is scored where less than FEWEST_SCORED could be.
    """
    to_show = set(_spread(np.arange(len(held_out)), shown))
    is_short = held_out.learned_counts <= min(SHORT_TOKENS, sample_tokens)
    to_score: set[int] = set()
    if int(is_short.sum()) >= FEWEST_SCORED:
        is_shown = np.isin(np.arange(len(held_out)), sorted(to_show))
        to_score.update(_spread(np.flatnonzero(is_short & is_shown), scored))
        to_score.update(_spread(np.flatnonzero(is_short & ~is_shown), scored - len(to_score)))
    found: list[Question] = []
    for index in sorted(to_show | to_score):
        limit = sample_tokens
        if index not in to_show:
            limit = min(sample_tokens, SHORT_TOKENS)
        question = _question(rows_path, held_out, index, encoder, limit, index in to_show, index in to_score)
        found.append(question)
    return found


def _spread(places: NDArray[np.int64], count: int) -> list[int]:
    if len(places) == 0 or count <= 0:
        return []
    spread = np.linspace(0, len(places) - 1, min(count, len(places)))
    return [int(places[index]) for index in np.unique(spread.round().astype(int))]


def _question(
    rows_path: Path, held_out: Rows, index: int, encoder: Encoder, limit: int, shown: bool, scored: bool
) -> Question:
    row = read_row_at(rows_path, int(held_out.places[index]))
    messages = row.get("messages", [])
    last = next((at for at in reversed(range(len(messages))) if messages[at]["role"] == "assistant"), None)
    if last:
        prompt = messages[:last]
        sample = Sample(row["line"], prompt, prompt[-1]["content"], messages[last]["content"])
        return Question(sample, encoder.prompt_ids(prompt), limit, shown, scored)
    ids: list[int] = held_out.sequence(held_out.sequences(index)[0])[0].tolist()
    cut = min(_TEXT_PROMPT_TOKENS, max(1, len(ids) // 2))
    sample = Sample(row["line"], [], encoder.decode(ids[:cut]), encoder.decode(ids[cut:]))
    # How a text goes on is nobody's to say.
    return Question(sample, ids[:cut], limit, shown, scored=False)


def answer_all(
    model: TrainableModel,
    encoder: Encoder,
    questions: Sequence[Question],
    *,
    base: bool,
    most_tokens: int,
    between: Callable[[], None],
) -> tuple[list[str], Answered]:
    """The model's answers, the likeliest token each time; prompts of ``most_tokens`` in all are computed together."""
    answers = [""] * len(questions)
    began_s, tokens, most = time.monotonic(), 0, 0
    for places in _together(questions, most_tokens):
        limits = [questions[place].most_tokens for place in places]
        found = model.answer_all(
            [questions[place].prompt_ids for place in places],
            max_new_tokens=limits,
            eos_ids=set(encoder.eos_ids),
            base=base,
            between=between,
        )
        for place, ids in zip(places, found, strict=True):
            answers[place] = encoder.decode(ids).strip()
        tokens += max(len(ids) for ids in found) + 1
        most += max(limits) + 1
    return answers, Answered(time.monotonic() - began_s, tokens, most)


def _together(questions: Sequence[Question], most_tokens: int) -> Iterator[list[int]]:
    """Places of questions answered at once: of like length, in equal parts, so that few shapes occur."""
    by_length = sorted(range(len(questions)), key=lambda place: (len(questions[place].prompt_ids), place))
    longest = max((len(one.prompt_ids) + one.most_tokens for one in questions), default=1)
    size = max(1, min(MOST_TOGETHER, most_tokens // longest))
    parts = -(-len(by_length) // size)
    for part in np.array_split(np.array(by_length, np.int64), parts) if parts else ():
        yield [int(place) for place in part]


def read_answers(path: Path, keys: str) -> list[Sample]:
    """What an earlier attempt has written; nothing if it has not, or its key is gone."""
    try:
        data = path.read_bytes()
        return msgspec.json.decode(open_sealed(data, Path(keys)) if keys else data, type=Answers).samples
    except (FileNotFoundError, PartMissing):
        return []


def write_answers(path: Path, samples: list[Sample], keys: str) -> None:
    """Write the answers under a key of the folder ``keys``; in plain sight where that is empty."""
    data = msgspec.json.format(msgspec.json.encode(Answers(samples)), indent=1)
    write_atomically(path, seal(data, Path(keys)) if keys else data)
