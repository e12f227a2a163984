"""Held-out questions answered before and after training. Their text stays in one private file of the job folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from btmd.data.answers_file import open_sealed, seal
from btmd.data.encoding import Encoder
from btmd.data.rows import Message
from btmd.data.sequences import Rows
from btmd.errors import PartMissing
from btmd.files.durable import write_atomically
from btmd.trainer.data import read_row_at
from btmd.trainer.model import TrainableModel

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
    """A sample with the tokens after which the model answers."""

    sample: Sample
    prompt_ids: list[int]


def choose_questions(rows_path: Path, held_out: Rows, count: int, encoder: Encoder) -> list[Question]:
    """``count`` held-out rows, evenly spread over the file; all of them if there are fewer."""
    if len(held_out) == 0 or count <= 0:
        return []
    spread = np.linspace(0, len(held_out) - 1, min(count, len(held_out)))
    return [_question(rows_path, held_out, int(index), encoder) for index in np.unique(spread.round().astype(int))]


def _question(rows_path: Path, held_out: Rows, index: int, encoder: Encoder) -> Question:
    row = read_row_at(rows_path, int(held_out.places[index]))
    messages = row.get("messages", [])
    last = next((at for at in reversed(range(len(messages))) if messages[at]["role"] == "assistant"), None)
    if last:
        prompt = messages[:last]
        sample = Sample(row["line"], prompt, prompt[-1]["content"], messages[last]["content"])
        return Question(sample, encoder.prompt_ids(prompt))
    ids: list[int] = held_out.sequence(held_out.sequences(index)[0])[0].tolist()
    cut = min(_TEXT_PROMPT_TOKENS, max(1, len(ids) // 2))
    return Question(Sample(row["line"], [], encoder.decode(ids[:cut]), encoder.decode(ids[cut:])), ids[:cut])


def answer(
    model: TrainableModel,
    encoder: Encoder,
    question: Question,
    *,
    max_new_tokens: int,
    base: bool,
    between_tokens: Callable[[], None],
) -> str:
    """The model's answer, the likeliest token each time."""
    ids: list[int] = []
    eos_ids = set(encoder.eos_ids)
    for token in model.generate(question.prompt_ids, max_new_tokens=max_new_tokens, eos_ids=eos_ids, base=base):
        between_tokens()
        ids.append(token)
    return encoder.decode(ids).strip()


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
