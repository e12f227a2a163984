"""The preview shows what a training learns: the same tokens, the same marks, the same rows together."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btmd.data.encoding import Encoder
from btmd.data.sequences import Dataset, Rows, count_steps, micro_batches, rows_of_step
from btmd.errors import InvalidValue
from btmd.inspection.arrangement import arrange
from btmd.inspection.facts import ArrangementFacts
from btmd.inspection.preview import MOST_CHARS, MOST_TOKENS, preview
from btmd.inspection.requests import RowChoice, TrainingShape
from btmd.inspection.shown import Preview, ShownSequence
from btmd.trainer.data import load_dataset, read_row_at
from btmd.trainer.step import cut
from tests.fixtures.tiny_model import make_tokenizer

ODD = "Grüße 👍🏽 日本 \u202eno\x1b[31m <|im_end|> \ufeff|"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(folder)
    (folder / "config.json").write_text("{}")
    return folder


def chat(index: int) -> dict[str, Any]:
    """Conversations of several turns and lengths, some with nothing to learn or in no known order."""
    turns = [{"role": "user", "content": f"What is {index}? {ODD if index % 3 == 0 else ''}"}]
    turns.append({"role": "assistant", "content": f"It is {index}." + " Said the bee." * (index % 17)})
    if index % 4 == 0:
        turns += [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": f"Yes. {ODD}"}]
    if index % 11 == 5:
        turns = turns[:1]
    return {"line": 2 * index + 1, "messages": turns}


def pair(index: int) -> dict[str, Any]:
    asked = {"role": "user", "content": f"What is {index}?"}
    better = {"role": "assistant", "content": f"It is {index}." + " Truly." * (index % 13)}
    worse = {"role": "assistant", "content": f"No idea. {ODD if index % 2 else ''}"}
    return {"line": index + 1, "messages": [asked, better], "rejected": [asked, worse]}


def text(index: int) -> dict[str, Any]:
    return {"line": index + 1, "text": f"Number {index}. " + "The daemon keeps a log. " * (index % 9)}


KINDS = {
    "lora_adaptation": (chat, {"max_length": 120}),
    "preference_tuning": (pair, {"max_length": 80}),
    "continued_pretraining": (text, {"max_length": 48, "packing": True}),
}


def shape_of(training_type: str, **changes: Any) -> TrainingShape:
    values: dict[str, Any] = {
        "training_type": training_type,
        "packing": False,
        "max_length": 512,
        "batch_size": 6,
        "micro_batch_size": 2,
        "held_out_fraction": 0.2,
        "held_out_limit": 0,
        "seed": 3,
    }
    return TrainingShape(**(values | changes))


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def shown(
    path: Path, total: int, model: Path | None = None, shape: TrainingShape | None = None, **choice: Any
) -> Preview:
    return preview(path, RowChoice(**choice), rows_total=total, model_folder=model, shape=shape)


def arranged(path: Path, total: int, model: Path, shape: TrainingShape) -> ArrangementFacts:
    return arrange(path, model, shape, rows_total=total, progress=lambda _share, _text: None)


def trained_on(path: Path, model: Path, shape: TrainingShape) -> Dataset:
    return load_dataset(
        path,
        Encoder.load(model),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        training_type=shape.training_type,
        packing=shape.packing,
        max_length=shape.max_length,
        held_out_fraction=shape.held_out_fraction,
        held_out_limit=shape.held_out_limit,
        seed=shape.seed,
        between_rows=lambda: None,
    )


def learned_by_line(path: Path, dataset: Dataset) -> dict[int, list[tuple[list[int], list[bool]]]]:
    """Tokens and marks of the sequences that the trainer has, by the line of their row."""
    found: dict[int, list[tuple[list[int], list[bool]]]] = {}
    for rows in (dataset.train, dataset.held_out):
        for number, place in enumerate(rows.places_of_sequences.tolist()):
            tokens, learned = rows.sequence(number)
            found.setdefault(read_row_at(path, place)["line"], []).append((tokens.tolist(), learned.tolist()))
    return found


@pytest.mark.parametrize("training_type", KINDS)
def test_what_is_shown_is_what_the_trainer_learns(training_type: str, model: Path, tmp_path: Path) -> None:
    make, changes = KINDS[training_type]
    rows = [make(index) for index in range(60)]
    path, shape = write(tmp_path / "rows", rows), shape_of(training_type, **changes)
    learned = learned_by_line(path, trained_on(path, model, shape))
    found = shown(path, len(rows), model, shape, count=len(rows)).rows
    assert [one.line for one in found] == [row["line"] for row in rows]
    assert {one.line for one in found if one.use == "used"} == set(learned)
    for one in found:
        if one.use == "used":
            assert [(list(each.ids), list(each.learned)) for each in one.sequences] == learned[one.line]
            assert [each.learned_tokens for each in one.sequences] == [sum(marks) for _, marks in learned[one.line]]
    if training_type != "continued_pretraining":
        assert {one.use for one in found} >= {"used", "over_long"}


@pytest.mark.parametrize("training_type", KINDS)
def test_rows_are_arranged_as_the_trainer_arranges_them(training_type: str, model: Path, tmp_path: Path) -> None:
    make, changes = KINDS[training_type]
    rows = [make(index) for index in range(60)]
    path, shape = write(tmp_path / "rows", rows), shape_of(training_type, **changes)
    facts, dataset = arranged(path, len(rows), model, shape), trained_on(path, model, shape)
    assert facts.left_out.get("over_long", 0) == dataset.over_long_rows
    assert facts.left_out.get("nothing_learned", 0) == dataset.unlearned_rows
    assert facts.train_rows + facts.held_out_rows + sum(facts.left_out.values()) == facts.rows == 60
    assert facts.held_out_rows == dataset.held_out_total
    assert facts.learned_tokens_an_epoch == dataset.train.learned_counts.sum()
    assert facts.steps_an_epoch == count_steps(len(dataset.train), shape.batch_size)
    assert [one.tokens for one in facts.first_step] == [batch.count_tokens() for batch in first_step(dataset, shape)]
    lines = [[line_of(path, place) for place in places] for places in first_places(dataset.train, shape)]
    assert [[one.line for one in together.sequences] for together in facts.first_step] == lines
    held_out = {line_of(path, place) for place in dataset.held_out.places_of_sequences.tolist()}
    learned = {line_of(path, place) for place in dataset.train.places_of_sequences.tolist()}
    for number, row in enumerate(rows, 1):
        if row["line"] in held_out | learned:
            assert facts.is_held_out(number) == (row["line"] in held_out)


def first_step(dataset: Dataset, shape: TrainingShape) -> Any:
    members = rows_of_step(dataset.train, step=0, batch_size=shape.batch_size, seed=shape.seed)
    return cut(dataset.train, members, done=0, micro_batch_size=shape.micro_batch_size)


def first_places(rows: Rows, shape: TrainingShape) -> list[list[int]]:
    members = rows_of_step(rows, step=0, batch_size=shape.batch_size, seed=shape.seed)
    return [
        [int(rows.places_of_sequences[number]) for index in together.tolist() for number in rows.sequences(index)]
        for together in micro_batches(members, shape.micro_batch_size)
    ]


def line_of(path: Path, place: int) -> int:
    return read_row_at(path, place)["line"]


def test_packed_texts_share_a_block_that_is_no_longer_than_the_limit(model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "rows", [text(index) for index in range(60)])
    facts = arranged(path, 60, model, shape_of("continued_pretraining", max_length=64, packing=True))
    blocks: dict[tuple[int, int], list[int]] = {}
    for number, together in enumerate(facts.first_step):
        for one in together.sequences:
            blocks.setdefault((number, one.block), []).append(one.tokens)
    assert max(sum(lengths) for lengths in blocks.values()) <= 64
    assert any(len(lengths) > 1 for lengths in blocks.values())


def test_the_tokens_put_together_are_the_whole_text(model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "rows", [chat(0), text(5), {"line": 9, "text": ODD}])
    found = shown(path, 3, model, shape_of("lora_adaptation"), count=3).rows
    encoder = Encoder.load(model)
    assert whole(found[0].sequences[0]) == encoder.render(chat(0)["messages"])
    assert whole(found[2].sequences[0]) == ODD + "<|im_end|>"
    marks = [one for one, mark in zip(found[2].sequences[0].texts, found[2].sequences[0].marks, strict=True) if mark]
    assert marks == ["<|im_end|>", "<|im_end|>"]


def whole(sequence: ShownSequence) -> str:
    return "".join(sequence.texts)


def test_a_row_is_found_by_its_number_and_by_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "rows", [chat(index) for index in range(20)])
    assert [one.line for one in shown(path, 20).rows] == [1, 3, 5]
    assert [(one.row, one.line) for one in shown(path, 20, row=7, count=2).rows] == [(7, 13), (8, 15)]
    assert [(one.row, one.line) for one in shown(path, 20, line=13, count=1).rows] == [(7, 13)]
    assert [one.row for one in shown(path, 20, row=19, count=9).rows] == [19, 20]
    with pytest.raises(InvalidValue, match=r"There is no row 21: the dataset has 20\."):
        shown(path, 20, row=21)
    with pytest.raises(InvalidValue, match=r"begins at line 14\. The row before it begins at line 13\."):
        shown(path, 20, line=14)
    with pytest.raises(InvalidValue, match=r"begins at line 0\.$"):
        shown(path, 20, line=0)


def test_a_row_without_a_model_is_shown_as_it_was_understood(tmp_path: Path) -> None:
    path = write(tmp_path / "rows", [chat(1), pair(2), {**text(3), "split": "held_out"}])
    first, second, third = shown(path, 3).rows
    assert [(turn.role, turn.content) for turn in first.messages] == [
        ("user", "What is 1? "),
        ("assistant", "It is 1. Said the bee."),
    ]
    assert [turn.content for turn in second.rejected] == ["What is 2?", "No idea. "]
    assert third.text is not None
    assert (third.text.content, third.split) == (text(3)["text"], "held_out")


def test_what_is_too_long_to_show_is_counted(model: Path, tmp_path: Path) -> None:
    long = {"line": 1, "text": "a b " * 20_000}
    path = write(tmp_path / "rows", [long])
    [row] = shown(path, 1).rows
    assert row.text is not None
    assert (len(row.text.content), row.text.more_chars) == (MOST_CHARS, 80_000 - MOST_CHARS)
    [row] = shown(path, 1, model, shape_of("lora_adaptation")).rows
    [sequence] = row.sequences
    assert row.use == "over_long"
    assert len(sequence.ids) == len(sequence.texts) == len(sequence.learned) == len(sequence.marks) == MOST_TOKENS
    assert sequence.tokens > MOST_TOKENS
    pieces = shown(path, 1, model, shape_of("continued_pretraining")).rows[0]
    assert (len(pieces.sequences), pieces.use) == (4, "used")
    assert pieces.more_sequences == int(np.ceil((sequence.tokens - 1) / 511)) - 4


def test_a_conversation_the_template_refuses_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    printing = "{% for message in messages %}{{ message['content'] }}<|im_end|>{% endfor %}"
    make_tokenizer(folder, chat_template=refusing + printing)
    (folder / "config.json").write_text("{}")
    refused = {"line": 1, "messages": [{"role": "system", "content": "Be kind."}, *chat(1)["messages"]]}
    path = write(tmp_path / "rows", [refused, chat(2)])
    first, second = shown(path, 2, folder, shape_of("lora_adaptation")).rows
    assert (first.use, first.sequences, second.use) == ("untemplated", (), "used")
    assert "no system" in first.refusal
    facts = arranged(path, 2, folder, shape_of("lora_adaptation"))
    assert (facts.left_out, facts.left_out_lines) == ({"untemplated": 1}, {"untemplated": (1,)})
